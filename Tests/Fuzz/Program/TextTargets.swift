// SPDX-License-Identifier: Apache-2.0

import VPCLinux
import VPCModel
import VPCTransport

@testable import MetricsHelperMode
@testable import VPCCloud
@testable import VPCObserve

/// XML, metric texts, and texts in lines.
enum TextTargets {
  /// An EC2 answer, parsed as the answer of every action.
  @Sendable static func xml(_ bytes: [UInt8]) {
    let limits = XMLParser.Limits(size: 1 << 16, depth: 16, elements: 1000)
    guard let root = try? XMLParser.parse(bytes, limits: limits) else { return }
    _ = EC2Client.read(HTTPResponse(status: 400, body: bytes), action: "A")
    let answer = EC2Answer(root, action: "A")
    for item in answer.items("networkInterfaceSet") {
      guard let interface = try? EC2NetworkInterface(item) else { continue }
      require(interface.ipv4Prefixes.allSatisfy { $0.address.family == .ipv4 })
      require(interface.ipv6Addresses.allSatisfy { $0.family == .ipv6 })
    }
    for item in answer.items("reservationSet") + answer.items("instancesSet") {
      _ = try? EC2Instance(item)
      for instance in item.items("instancesSet") { _ = try? EC2Instance(instance) }
    }
    for item in answer.items("instanceTypeSet") {
      if let type = try? EC2InstanceType(item) { require(type.maximumInterfaces > 0 && !type.cards.isEmpty) }
    }
    for item in answer.items("subnetSet") { _ = try? EC2Subnet(item) }
    for item in answer.items("securityGroupInfo") { _ = try? EC2SecurityGroup(item) }
  }

  @Sendable static func metrics(_ bytes: [UInt8]) {
    let whole = samples(of: bytes, size: max(bytes.count, 1))
    let parts = samples(of: bytes, size: 1 + (bytes.count & 15))
    require(whole == parts, "parts of a text make no difference")
    var reader = AgentTextReader(limits: MetricTextReader.Limits(size: 1 << 16, line: 1 << 12))
    guard (try? reader.read(bytes)) != nil, let reading = try? reader.finish() else { return }
    require(reading.values.allSatisfy { $0?.isFinite ?? true }, "a sum is finite")
  }

  /// Samples as texts, so that NaN equals NaN; nil if the parser refuses the whole text.
  private static func samples(of bytes: [UInt8], size: Int) -> [String]? {
    var reader = MetricTextReader(
      names: ["a", "b_total", "c:d"], limits: MetricTextReader.Limits(size: 1 << 16, line: 1 << 12))
    var found: [String] = []
    var rest = bytes[...]
    do throws(MetricTextReader.Problem) {
      while !rest.isEmpty {
        let part = Array(rest.prefix(size))
        try reader.read(part.span) { found.append("\($0)") }
        rest = rest.dropFirst(part.count)
      }
      try reader.finish()
    } catch {
      return nil
    }
    return found + ["\(reader.skippedCount)", "\(reader.sampleCount)"]
  }

  @Sendable static func iptables(_ bytes: [UInt8]) {
    let found = IptablesSave(String(decoding: bytes, as: UTF8.self))
    for table in ["nat", "mangle", "filter", "raw"] { _ = found.table(table) }
  }

  @Sendable static func redaction(_ bytes: [UInt8]) {
    let whole = redacted(bytes, size: max(bytes.count, 1))
    require(whole == redacted(bytes, size: 1 + (bytes.count & 15)), "parts of a text make no difference")
  }

  private static func redacted(_ bytes: [UInt8], size: Int) -> [UInt8] {
    var redactor = Redactor()
    var output: [UInt8] = []
    var rest = bytes[...]
    while !rest.isEmpty {
      redactor.take(rest.prefix(size), into: &output)
      rest = rest.dropFirst(size)
    }
    redactor.finish(into: &output)
    return output
  }

  /// Single values: addresses, dates, URLs, settings, credentials files, HTTP answers of the agent.
  @Sendable static func values(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    if let address = IPAddress(text) { require(IPAddress(address.description) == address) }
    if let prefix = IPPrefix(text) { require(IPPrefix(prefix.description) == prefix) }
    if let mac = MACAddress(text) { require(MACAddress(mac.description) == mac) }
    _ = ENIID(text)
    _ = SubnetID(text)
    _ = InterfaceName(text)
    _ = InstanceLimits(instanceType: text)
    _ = UTCTime(iso8601: text)
    _ = UTCTime(httpDate: text)
    _ = EndpointURL(text)
    _ = ProfileFile(bytes, kind: .config)
    _ = ProfileFile(bytes, kind: .credentials)
    if let address = ListenAddress("127.0.0.1:1") { _ = try? HTTPFetch.body(of: bytes, address) }
    for name in [
      "AWS_VPC_K8S_CNI_CONNMARK", "ADDITIONAL_ENI_TAGS", "MAX_ENI", "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
      "AWS_VPC_K8S_CNI_VETHPREFIX", "INTROSPECTION_BIND_ADDRESS",
    ] {
      _ = try? Settings(environment: [name: text])
    }
  }
}
