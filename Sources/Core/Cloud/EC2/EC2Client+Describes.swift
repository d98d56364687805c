// SPDX-License-Identifier: Apache-2.0

extension EC2Client {
  /// DescribeInstances for one instance; nil if EC2 does not know it (yet).
  package func describeInstance(_ id: String) async throws(EC2Error) -> EC2Instance? {
    let action = "DescribeInstances"
    var parameters = EC2Parameters(action: action)
    parameters.list("InstanceId", [id])
    let answer: EC2Answer
    do {
      answer = try await call(action, parameters, .describe)
    } catch {
      if error.code.text == "InvalidInstanceID.NotFound" { return nil }
      throw error
    }
    for reservation in answer.items("reservationSet") {
      for item in reservation.items("instancesSet") where item.text("instanceId") == id {
        return try EC2Instance(item)
      }
    }
    return nil
  }

  /// DescribeInstanceTypes for one type; nil if EC2 does not know it in this region.
  package func describeInstanceType(_ name: String) async throws(EC2Error) -> EC2InstanceType? {
    let action = "DescribeInstanceTypes"
    var parameters = EC2Parameters(action: action)
    parameters.list("InstanceType", [name])
    let answer: EC2Answer
    do {
      answer = try await call(action, parameters, .describe)
    } catch {
      if error.code.text == "InvalidInstanceType" { return nil }
      throw error
    }
    for item in answer.items("instanceTypeSet") where item.text("instanceType") == name {
      return try EC2InstanceType(item)
    }
    return nil
  }

  /// DescribeSubnets by filters such as `vpc-id` and `availability-zone`, page by page.
  package func describeSubnets(filters: [EC2Filter]) async throws(EC2Error) -> [EC2Subnet] {
    try await pages("DescribeSubnets", filters: filters) { (answer) throws(EC2Error) in
      var found: [EC2Subnet] = []
      for item in answer.items("subnetSet") { found.append(try EC2Subnet(item)) }
      return found
    }
  }

  /// DescribeSubnets for one subnet; nil if it does not exist.
  package func describeSubnet(_ id: String) async throws(EC2Error) -> EC2Subnet? {
    try await describeSubnets(filters: [EC2Filter("subnet-id", [id])]).first
  }

  /// DescribeSecurityGroups by filters, page by page.
  package func describeSecurityGroups(filters: [EC2Filter]) async throws(EC2Error) -> [EC2SecurityGroup] {
    try await pages("DescribeSecurityGroups", filters: filters) { (answer) throws(EC2Error) in
      var found: [EC2SecurityGroup] = []
      for item in answer.items("securityGroupInfo") { found.append(try EC2SecurityGroup(item)) }
      return found
    }
  }

  /// Asks until EC2 gives no further token, at most 100 pages of 1000.
  func pages<Value>(
    _ action: String, filters: [EC2Filter], _ read: (EC2Answer) throws(EC2Error) -> [Value]
  ) async throws(EC2Error) -> [Value] {
    var found: [Value] = []
    var token: String?
    for _ in 0..<100 {
      var parameters = EC2Parameters(action: action)
      parameters.filters(filters)
      // EC2 throttles paginated calls less than unpaginated ones.
      parameters.set("MaxResults", 1000)
      parameters.set("NextToken", token)
      let answer = try await call(action, parameters, .describe)
      found += try read(answer)
      token = answer.text("nextToken")
      if token == nil { return found }
    }
    throw EC2Error(action: action, code: .malformedAnswer, message: "more than 100 pages", status: 200)
  }
}

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
