// SPDX-License-Identifier: Apache-2.0

extension EC2Client {
  /// DescribeTags: some tags of one instance, by key.
  ///
  /// - Parameter keys: the requested tags.
  package func instanceTags(_ id: String, keys: [String]) async throws(EC2Error) -> [String: String] {
    let filters = [
      EC2Filter("resource-type", ["instance"]), EC2Filter("resource-id", [id]), EC2Filter("key", keys),
    ]
    let found = try await pages("DescribeTags", filters: filters) { (answer) throws(EC2Error) in
      var found: [(key: String, value: String)] = []
      for item in answer.items("tagSet") {
        // Tags that were not requested are ignored.
        guard item.text("resourceId") == id, let key = item.text("key"), keys.contains(key) else { continue }
        found.append((key: key, value: item.text("value") ?? ""))
      }
      return found
    }
    return Dictionary(found.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
  }
}
