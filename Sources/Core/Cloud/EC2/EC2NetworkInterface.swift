// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A network interface as EC2 describes it.
package struct EC2NetworkInterface: Sendable, Hashable {
  /// Where an interface is plugged in.
  package struct Attachment: Sendable, Hashable {
    /// `eni-attach-…`
    package var id: String
    /// Nil where AWS attached it to something else than an instance of the account.
    package var instanceID: String?
    package var deviceIndex: Int
    package var networkCard: Int
    /// `attaching`, `attached`, `detaching`, `detached`
    package var status: String
    package var deleteOnTermination: Bool
  }

  package var id: ENIID
  package var subnetID: String
  package var vpcID: String
  package var availabilityZone: String?
  package var description: String
  package var mac: MACAddress
  /// `available`, `attaching`, `in-use`, `detaching`
  package var status: String
  /// `interface`, `efa`, `trunk`, `branch`…
  package var interfaceType: String
  package var securityGroupIDs: [String]
  package var tags: [String: String]
  /// Nil on an interface without IPv4.
  package var primaryIPv4: IPAddress?
  /// Without the primary one, in EC2's order.
  package var secondaryIPv4: [IPAddress]
  package var ipv4Prefixes: [IPPrefix]
  package var ipv6Addresses: [IPAddress]
  package var ipv6Prefixes: [IPPrefix]
  package var attachment: Attachment?
  package var connectionTracking: EC2ConnectionTracking?
}

extension EC2NetworkInterface {
  /// The interface's own address; nil without this family.
  package func ownAddress(_ family: AddressFamily) -> IPAddress? {
    switch family {
    case .ipv4: primaryIPv4
    case .ipv6: ipv6Addresses.first
    }
  }

  /// What pods may use: prefixes, and with IPv4 the secondary addresses. Single IPv6 addresses belong to the node.
  package func podCIDRs(_ family: AddressFamily) -> [IPPrefix] {
    switch family {
    case .ipv4: secondaryIPv4.map { IPPrefix(single: $0) } + ipv4Prefixes
    case .ipv6: ipv6Prefixes
    }
  }
}

/// Idle timeouts of tracked connections, in seconds; nil is EC2's default.
package struct EC2ConnectionTracking: Sendable, Hashable {
  package var tcpEstablishedSeconds: Int?
  package var udpStreamSeconds: Int?
  package var udpSeconds: Int?

  package init(tcpEstablishedSeconds: Int? = nil, udpStreamSeconds: Int? = nil, udpSeconds: Int? = nil) {
    self.tcpEstablishedSeconds = tcpEstablishedSeconds
    self.udpStreamSeconds = udpStreamSeconds
    self.udpSeconds = udpSeconds
  }
}

extension EC2NetworkInterface {
  init(_ answer: EC2Answer) throws(EC2Error) {
    id = try answer.value("networkInterfaceId") { ENIID($0) }
    subnetID = try answer.value("subnetId") { CloudText.isID($0, "subnet-") ? $0 : nil }
    vpcID = try answer.value("vpcId") { CloudText.isID($0, "vpc-") ? $0 : nil }
    availabilityZone = answer.text("availabilityZone")
    description = answer.text("description") ?? ""
    mac = try answer.value("macAddress") { MACAddress($0) }
    status = try answer.required("status")
    interfaceType = answer.text("interfaceType") ?? "interface"
    securityGroupIDs = try answer.values("groupSet", "groupId") { CloudText.isID($0, "sg-") ? $0 : nil }
    tags = answer.tags()
    var primary = try answer.optional("privateIpAddress", CloudText.ipv4)
    var secondary: [IPAddress] = []
    for item in answer.items("privateIpAddressesSet") {
      let address = try item.value("privateIpAddress", CloudText.ipv4)
      if item.flag("primary") { primary = address } else { secondary.append(address) }
    }
    // An unmarked primary address is still not a secondary one.
    secondaryIPv4 = secondary.filter { $0 != primary }
    primaryIPv4 = primary
    ipv4Prefixes = try answer.values("ipv4PrefixSet", "ipv4Prefix", CloudText.ipv4Prefix)
    ipv6Addresses = try answer.values("ipv6AddressesSet", "ipv6Address", CloudText.ipv6)
    ipv6Prefixes = try answer.values("ipv6PrefixSet", "ipv6Prefix", CloudText.ipv6Prefix)
    attachment = try answer.child("attachment").flatMap { (child) throws(EC2Error) -> Attachment? in
      child.text("attachmentId") == nil ? nil : try Attachment(child)
    }
    connectionTracking = try answer.child("connectionTrackingConfiguration").map { (child) throws(EC2Error) in
      EC2ConnectionTracking(
        tcpEstablishedSeconds: try child.optional("tcpEstablishedTimeout") { Int($0) },
        udpStreamSeconds: try child.optional("udpStreamTimeout") { Int($0) },
        udpSeconds: try child.optional("udpTimeout") { Int($0) })
    }
  }
}

extension EC2NetworkInterface.Attachment {
  fileprivate init(_ answer: EC2Answer) throws(EC2Error) {
    id = try answer.required("attachmentId")
    instanceID = answer.text("instanceId")
    deviceIndex = try answer.value("deviceIndex", CloudText.small)
    networkCard = try answer.optional("networkCardIndex", CloudText.small) ?? 0
    status = answer.text("status") ?? "attached"
    deleteOnTermination = answer.flag("deleteOnTermination")
  }
}
