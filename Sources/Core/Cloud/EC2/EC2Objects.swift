// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// What the agent needs to know of an instance.
package struct EC2Instance: Sendable, Hashable {
  package var id: String
  package var type: String
  /// `pending`, `running`, `stopped`…
  package var state: String
  package var vpcID: String?
  package var subnetID: String?
  package var tags: [String: String]
  /// Every interface attached, by card and device index.
  package var attachments: [Attachment]

  /// One interface of the instance.
  package struct Attachment: Sendable, Hashable {
    package var interfaceID: ENIID
    package var attachmentID: String
    package var deviceIndex: Int
    package var networkCard: Int
  }

  init(_ answer: EC2Answer) throws(EC2Error) {
    id = try answer.value("instanceId") { CloudText.isID($0, "i-") ? $0 : nil }
    type = try answer.required("instanceType")
    state = answer.child("instanceState")?.text("name") ?? "unknown"
    vpcID = answer.text("vpcId")
    subnetID = answer.text("subnetId")
    tags = answer.tags()
    var found: [Attachment] = []
    for item in answer.items("networkInterfaceSet") {
      guard let attachment = item.child("attachment") else { continue }
      found.append(
        Attachment(
          interfaceID: try item.value("networkInterfaceId") { ENIID($0) },
          attachmentID: try attachment.required("attachmentId"),
          deviceIndex: try attachment.value("deviceIndex", CloudText.small),
          networkCard: try attachment.optional("networkCardIndex", CloudText.small) ?? 0))
    }
    attachments = found.sorted { ($0.networkCard, $0.deviceIndex) < ($1.networkCard, $1.deviceIndex) }
  }
}

/// The network limits of an instance type.
package struct EC2InstanceType: Sendable, Hashable {
  /// One network card.
  package struct Card: Sendable, Hashable {
    package var index: Int
    package var maximumInterfaces: Int
  }

  package var name: String
  /// Interfaces of the default card, or of the type if EC2 lists no cards.
  package var maximumInterfaces: Int
  package var ipv4PerInterface: Int
  package var ipv6PerInterface: Int
  /// By index; one card if EC2 lists none.
  package var cards: [Card]
  package var defaultCard: Int
  /// `nitro`, `xen`; nil on bare metal.
  package var hypervisor: String?
  package var isBareMetal: Bool

  init(_ answer: EC2Answer) throws(EC2Error) {
    name = try answer.required("instanceType")
    hypervisor = answer.text("hypervisor")
    isBareMetal = answer.flag("bareMetal")
    guard let network = answer.child("networkInfo") else { throw answer.failure("\(name) is without networkInfo") }
    // An instance without an interface, or an interface without an address, is an invalid response.
    let atLeastOne = { (text: String) in CloudText.small(text).flatMap { $0 > 0 ? $0 : nil } }
    ipv4PerInterface = try network.value("ipv4AddressesPerInterface", atLeastOne)
    ipv6PerInterface = try network.optional("ipv6AddressesPerInterface", CloudText.small) ?? 0
    defaultCard = try network.optional("defaultNetworkCardIndex", CloudText.small) ?? 0
    var found: [Card] = []
    for item in network.items("networkCards") {
      found.append(
        Card(
          index: try item.value("networkCardIndex", CloudText.small),
          maximumInterfaces: try item.value("maximumNetworkInterfaces", atLeastOne)))
    }
    let total = try network.value("maximumNetworkInterfaces", atLeastOne)
    if found.isEmpty { found = [Card(index: 0, maximumInterfaces: total)] }
    cards = found.sorted { $0.index < $1.index }
    let card = defaultCard
    maximumInterfaces = found.first { $0.index == card }?.maximumInterfaces ?? total
  }
}

/// A subnet.
package struct EC2Subnet: Sendable, Hashable {
  package var id: String
  package var vpcID: String
  package var availabilityZone: String
  package var ipv4CIDR: IPPrefix?
  package var ipv6CIDRs: [IPPrefix]
  /// Free IPv4 addresses; says nothing about whole prefixes.
  package var availableAddresses: Int
  package var tags: [String: String]

  init(_ answer: EC2Answer) throws(EC2Error) {
    id = try answer.value("subnetId") { CloudText.isID($0, "subnet-") ? $0 : nil }
    vpcID = try answer.value("vpcId") { CloudText.isID($0, "vpc-") ? $0 : nil }
    availabilityZone = try answer.required("availabilityZone")
    ipv4CIDR = try answer.optional("cidrBlock", CloudText.ipv4Prefix)
    ipv6CIDRs = try answer.values("ipv6CidrBlockAssociationSet", "ipv6CidrBlock", CloudText.ipv6Prefix)
    availableAddresses = try answer.optional("availableIpAddressCount") { Int($0) } ?? 0
    tags = answer.tags()
  }

  /// Nil without this family.
  package func cidr(_ family: AddressFamily) -> IPPrefix? {
    switch family {
    case .ipv4: ipv4CIDR
    case .ipv6: ipv6CIDRs.first
    }
  }
}

/// A security group.
package struct EC2SecurityGroup: Sendable, Hashable {
  package var id: String
  package var name: String
  package var vpcID: String?
  package var tags: [String: String]

  init(_ answer: EC2Answer) throws(EC2Error) {
    id = try answer.value("groupId") { CloudText.isID($0, "sg-") ? $0 : nil }
    name = answer.text("groupName") ?? ""
    vpcID = answer.text("vpcId")
    tags = answer.tags()
  }
}
