// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// Which instance this is, from its identity document.
package struct InstanceIdentity: Sendable, Hashable {
  /// `us-east-1`
  package let region: String
  /// `us-east-1a`
  package let availabilityZone: String
  /// `i-0123456789abcdef0`
  package let instanceID: String
  /// `m5.large`
  package let instanceType: String

  package init(region: String, availabilityZone: String, instanceID: String, instanceType: String) {
    self.region = region
    self.availabilityZone = availabilityZone
    self.instanceID = instanceID
    self.instanceType = instanceType
  }
}

/// One network interface as the instance metadata service describes it.
package struct IMDSNetworkInterface: Sendable, Hashable {
  package var mac: MACAddress
  package var id: ENIID
  /// 0 is the primary interface of its card.
  package var deviceNumber: Int
  /// 0 also if the service does not say, as on instances with one card.
  package var networkCard: Int
  package var subnetID: String
  package var vpcID: String
  package var securityGroupIDs: [String]
  /// In the service's order; the first is the primary address.
  package var ipv4Addresses: [IPAddress]
  package var ipv4Prefixes: [IPPrefix]
  package var ipv6Addresses: [IPAddress]
  package var ipv6Prefixes: [IPPrefix]
  /// Nil on an interface without IPv4.
  package var subnetIPv4CIDR: IPPrefix?
  package var subnetIPv6CIDRs: [IPPrefix]
  package var vpcIPv4CIDRs: [IPPrefix]
  package var vpcIPv6CIDRs: [IPPrefix]
}

extension IMDSNetworkInterface {
  /// In the service's order; the first is the interface's own.
  package func addresses(_ family: AddressFamily) -> [IPAddress] {
    switch family {
    case .ipv4: ipv4Addresses
    case .ipv6: ipv6Addresses
    }
  }

  /// The CIDR of its subnet; nil without this family.
  package func subnetCIDR(_ family: AddressFamily) -> IPPrefix? {
    switch family {
    case .ipv4: subnetIPv4CIDR
    case .ipv6: subnetIPv6CIDRs.first
    }
  }

  package func vpcCIDRs(_ family: AddressFamily) -> [IPPrefix] {
    switch family {
    case .ipv4: vpcIPv4CIDRs
    case .ipv6: vpcIPv6CIDRs
    }
  }

  /// What pods may use.
  package func podCIDRs(_ family: AddressFamily) -> [IPPrefix] {
    Self.podCIDRs(family, addresses(family), family == .ipv4 ? ipv4Prefixes : ipv6Prefixes)
  }

  /// Prefixes, and with IPv4 the secondary addresses. Single IPv6 addresses belong to the node.
  ///
  /// - Parameter addresses: the interface's own first.
  static func podCIDRs(_ family: AddressFamily, _ addresses: [IPAddress], _ prefixes: [IPPrefix]) -> [IPPrefix] {
    switch family {
    case .ipv4: addresses.dropFirst().map { IPPrefix(single: $0) } + prefixes
    case .ipv6: prefixes
    }
  }
}
