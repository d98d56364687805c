// SPDX-License-Identifier: Apache-2.0

package import VPCModel

extension IMDSClient {
  /// Region, zone, id and type, from `dynamic/instance-identity/document`.
  ///
  /// - Throws: `.malformed` naming the member that is absent or not of its shape, and what `read` throws.
  package func instanceIdentity() async throws(IMDSError) -> InstanceIdentity {
    let path = "dynamic/instance-identity/document"
    guard let body = try await read(path) else { throw IMDSClient.absent(path) }
    let document: JSONValue
    do {
      document = try JSONParser.parse(body, limits: JSONParser.Limits(size: 64 << 10, depth: 8))
    } catch {
      throw IMDSError(.malformed, path: path, status: 200, detail: "the document cannot be read", cause: error)
    }
    func member(_ name: String, _ isValid: (String) -> Bool) throws(IMDSError) -> String {
      guard let text = document[name]?.string, isValid(text) else {
        let value = document[name]?.string.map { "\"\($0.prefix(64))\"" } ?? "absent"
        throw IMDSError(.malformed, path: path, status: 200, detail: "\(name) is \(value)")
      }
      return text
    }
    return InstanceIdentity(
      region: try member("region", AWSPartition.isRegion),
      availabilityZone: try member("availabilityZone") { CloudText.isName($0) },
      instanceID: try member("instanceId") { CloudText.isID($0, "i-") },
      instanceType: try member("instanceType") { CloudText.isName($0) })
  }

  /// The MAC address of the primary interface.
  package func mac() async throws(IMDSError) -> MACAddress {
    guard let mac = try await values("meta-data/mac", { MACAddress($0) }).first else {
      throw IMDSClient.absent("meta-data/mac")
    }
    return mac
  }

  /// The primary IPv4 address; nil on an instance without IPv4.
  package func localIPv4() async throws(IMDSError) -> IPAddress? {
    try await values("meta-data/local-ipv4", CloudText.ipv4).first
  }

  /// The MAC addresses of all attached interfaces, in the service's order.
  package func interfaceMACs() async throws(IMDSError) -> [MACAddress] {
    try await values("meta-data/network/interfaces/macs/") { line in
      MACAddress(line.hasSuffix("/") ? String(line.dropLast()) : line)
    }
  }

  /// The VPC's CIDRs of a family, as the interface knows them; empty if it is gone.
  package func vpcCIDRs(_ family: AddressFamily, of mac: MACAddress) async throws(IMDSError) -> [IPPrefix] {
    switch family {
    case .ipv4: try await values(IMDSClient.path(mac, "vpc-ipv4-cidr-blocks"), CloudText.ipv4Prefix)
    case .ipv6: try await values(IMDSClient.path(mac, "vpc-ipv6-cidr-blocks"), CloudText.ipv6Prefix)
    }
  }

  /// The security groups of an interface; empty if it is gone.
  package func securityGroupIDs(of mac: MACAddress) async throws(IMDSError) -> [String] {
    try await values(IMDSClient.path(mac, "security-group-ids")) { CloudText.isID($0, "sg-") ? $0 : nil }
  }

  /// An interface's own address and what pods may use on it, by two requests; nil if it is gone or has no address of the
  /// family.
  package func addresses(
    _ family: AddressFamily, of mac: MACAddress
  ) async throws(IMDSError) -> (own: IPAddress, pods: [IPPrefix])? {
    let names = family == .ipv4 ? ["local-ipv4s", "ipv4-prefix"] : ["ipv6s", "ipv6-prefix"]
    let paths = names.map { IMDSClient.path(mac, $0) }
    let found = try await readAll(paths)
    let singles = try IMDSClient.parse(found[paths[0]], path: paths[0], CloudText.address(family))
    let prefixes = try IMDSClient.parse(found[paths[1]], path: paths[1], CloudText.prefix(family))
    guard let own = singles.first else { return nil }
    return (own, IMDSNetworkInterface.podCIDRs(family, singles, prefixes))
  }

  /// One interface; nil if it is gone (detached, or not yet known to IMDS).
  package func interface(_ mac: MACAddress) async throws(IMDSError) -> IMDSNetworkInterface? {
    let names = [
      "interface-id", "device-number", "network-card", "subnet-id", "vpc-id", "security-group-ids", "local-ipv4s",
      "ipv4-prefix", "ipv6s", "ipv6-prefix", "subnet-ipv4-cidr-block", "subnet-ipv6-cidr-blocks",
      "vpc-ipv4-cidr-blocks",
      "vpc-ipv6-cidr-blocks",
    ]
    let found = try await readAll(names.map { IMDSClient.path(mac, $0) })
    func list<Value>(_ name: String, _ parse: (String) -> Value?) throws(IMDSError) -> [Value] {
      let path = IMDSClient.path(mac, name)
      return try IMDSClient.parse(found[path], path: path, parse)
    }
    func identifier(_ name: String, _ prefix: String) throws(IMDSError) -> String? {
      try list(name) { CloudText.isID($0, prefix) ? $0 : nil }.first
    }
    // An interface that appears or disappears between two reads is incomplete: treated as absent.
    guard let id = try list("interface-id", { ENIID($0) }).first,
      let device = try list("device-number", { CloudText.small($0) }).first,
      let subnet = try identifier("subnet-id", "subnet-"), let vpc = try identifier("vpc-id", "vpc-")
    else { return nil }
    return IMDSNetworkInterface(
      mac: mac, id: id, deviceNumber: device, networkCard: try list("network-card", CloudText.small).first ?? 0,
      subnetID: subnet, vpcID: vpc,
      securityGroupIDs: try list("security-group-ids") { CloudText.isID($0, "sg-") ? $0 : nil },
      ipv4Addresses: try list("local-ipv4s", CloudText.ipv4),
      ipv4Prefixes: try list("ipv4-prefix", CloudText.ipv4Prefix),
      ipv6Addresses: try list("ipv6s", CloudText.ipv6), ipv6Prefixes: try list("ipv6-prefix", CloudText.ipv6Prefix),
      subnetIPv4CIDR: try list("subnet-ipv4-cidr-block", CloudText.ipv4Prefix).first,
      subnetIPv6CIDRs: try list("subnet-ipv6-cidr-blocks", CloudText.ipv6Prefix),
      vpcIPv4CIDRs: try list("vpc-ipv4-cidr-blocks", CloudText.ipv4Prefix),
      vpcIPv6CIDRs: try list("vpc-ipv6-cidr-blocks", CloudText.ipv6Prefix))
  }

  /// All attached interfaces, read concurrently, in the order of the listing, without those that disappear meanwhile.
  package func interfaces() async throws(IMDSError) -> [IMDSNetworkInterface] {
    var found: [IMDSNetworkInterface] = []
    for mac in try await interfaceMACs() {
      if let interface = try await interface(mac) { found.append(interface) }
    }
    return found
  }

  // MARK: a service that does not answer yet

  /// Repeats reads until one succeeds, with waits of 250 ms to 5 s.
  ///
  /// - Parameters:
  ///   - limit: no wait ends later.
  ///   - retrying: gets each error that is followed by another try, and the wait before it.
  /// - Throws: the last error; also if the task was cancelled while waiting.
  package func untilAnswered<Value>(
    within limit: Duration, retrying: (IMDSError, Duration) -> Void = { _, _ in },
    _ read: (IMDSClient) async throws(IMDSError) -> Value
  ) async throws(IMDSError) -> Value {
    let deadline = ContinuousClock.now.advanced(by: limit)
    var wait = Duration.milliseconds(250)
    while true {
      let failure: IMDSError
      do throws(IMDSError) {
        return try await read(self)
      } catch {
        failure = error
      }
      guard ContinuousClock.now.advanced(by: wait) < deadline else { throw failure }
      retrying(failure, wait)
      guard (try? await Task.sleep(for: wait)) != nil else { throw failure }
      wait = min(wait * 2, .seconds(5))
    }
  }

  // MARK: reading and checking

  /// A method of its own and not the child task's closure: with the typed `do` inside the closure, Swift 6.3.1's optimiser
  /// destroys the task group while children are still to report ("pure virtual method called").
  private func outcome(of path: String) async -> (String, Result<[UInt8]?, IMDSError>) {
    do throws(IMDSError) {
      return (path, .success(try await read(path)))
    } catch {
      return (path, .failure(error))
    }
  }

  /// Reads the paths concurrently; those with 404 are left out of the result.
  private func readAll(_ paths: [String]) async throws(IMDSError) -> [String: [UInt8]] {
    let results = await withTaskGroup(of: (String, Result<[UInt8]?, IMDSError>).self) { group in
      for path in paths { group.addTask { await self.outcome(of: path) } }
      var results: [(String, Result<[UInt8]?, IMDSError>)] = []
      for await result in group { results.append(result) }
      return results
    }
    var found: [String: [UInt8]] = [:]
    for (path, result) in results { found[path] = try result.get() }
    return found
  }

  private func values<Value>(_ path: String, _ parse: (String) -> Value?) async throws(IMDSError) -> [Value] {
    try IMDSClient.parse(try await read(path), path: path, parse)
  }

  /// One value a line; absent is empty.
  private static func parse<Value>(
    _ body: [UInt8]?, path: String, _ parse: (String) -> Value?
  ) throws(IMDSError) -> [Value] {
    var values: [Value] = []
    for line in (body ?? []).split(whereSeparator: { $0 == 0x0a || $0 == 0x0d }) {
      let text = String(decoding: line, as: UTF8.self)
      guard let value = parse(text), values.count < 4096 else {
        throw IMDSError(.malformed, path: path, status: 200, detail: "unexpected value \"\(text.prefix(64))\"")
      }
      values.append(value)
    }
    return values
  }

  private static func path(_ mac: MACAddress, _ name: String) -> String {
    "meta-data/network/interfaces/macs/\(mac)/\(name)"
  }

  private static func absent(_ path: String) -> IMDSError {
    IMDSError(.malformed, path: path, status: 404, detail: "absent")
  }
}
