// SPDX-License-Identifier: Apache-2.0

extension AgentStatus {
  /// The agent's state from the API server, and current failures.
  package struct Cluster: Sendable, Hashable {
    /// Empty if none is configured.
    package var server = ""
    /// MY_NODE_NAME.
    package var node = ""
    /// The node's object was read at least once.
    package var isNodeKnown = false
    /// `status.capacity.pods` of the node; nil if unknown.
    package var podCapacity: Int?
    package var isCordoned = false
    /// The ENIConfig that the node names; nil if unknown.
    package var eniConfig: String?
    /// The essential ones first.
    package var faults: [Fault] = []

    package init() {}

    /// A request to the API server that currently fails.
    package struct Fault: Sendable, Hashable {
      /// What it is about: `node ip-10-0-1-7`, `events`…
      package var subject = ""
      package var error = ""
      /// The permission that RBAC denies, `list and watch nodes`; empty for other causes.
      package var permission = ""
      /// Whether pods' addresses depend on it.
      package var isEssential = false
      package var seconds = 0

      package init() {}

      /// One line of text.
      package var text: String {
        "\(subject): \(error)" + (permission.isEmpty ? "" : "; missing permission: \(permission)")
      }
    }
  }
}

extension AgentStatus.Cluster {
  var json: JSONValue {
    [
      "server": .string(server), "node": .string(node), "isNodeKnown": .bool(isNodeKnown),
      "podCapacity": podCapacity.map { .integer($0) } ?? .null, "isCordoned": .bool(isCordoned),
      "eniConfig": eniConfig.map { .string($0) } ?? .null,
      "faults": .array(
        faults.map {
          [
            "subject": .string($0.subject), "error": .string($0.error), "permission": .string($0.permission),
            "isEssential": .bool($0.isEssential), "seconds": .integer($0.seconds),
          ]
        }),
    ]
  }

  /// Nil if the document has none: an agent of an earlier release.
  init?(json: JSONValue?) {
    guard let json, json.object != nil else { return nil }
    self.init()
    server = json["server"]?.string ?? ""
    node = json["node"]?.string ?? ""
    isNodeKnown = json["isNodeKnown"]?.bool ?? false
    podCapacity = json["podCapacity"]?.int
    isCordoned = json["isCordoned"]?.bool ?? false
    eniConfig = json["eniConfig"]?.string
    faults = (json["faults"]?.array ?? []).map { json in
      var fault = Fault()
      fault.subject = json["subject"]?.string ?? ""
      fault.error = json["error"]?.string ?? ""
      fault.permission = json["permission"]?.string ?? ""
      fault.isEssential = json["isEssential"]?.bool ?? false
      fault.seconds = json["seconds"]?.int ?? 0
      return fault
    }
  }
}
