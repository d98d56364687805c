// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel

/// The node's identity from IMDS at startup, which does not change while the agent runs.
struct NodeIdentity: Sendable {
  let instance: InstanceIdentity
  /// The primary ENI as IMDS shows it.
  let primary: IMDSNetworkInterface
  /// The family of pods' addresses, which the addresses below are of too.
  let family: AddressFamily
  /// The primary ENI's own address; with IPv4 the SNAT source address.
  let primaryAddress: IPAddress
  let primarySubnet: SubnetID
  let primarySubnetCIDR: IPPrefix

  /// Reads the identity document and the primary ENI.
  ///
  /// - Parameter family: of pods' addresses; the node needs an address of it too.
  /// - Throws: `IMDSError`; `NodeIdentityError` if the primary ENI has no address of the family.
  static func read(from imds: IMDSClient, _ family: AddressFamily) async throws -> NodeIdentity {
    async let identity = imds.instanceIdentity()
    let mac = try await imds.mac()
    guard let primary = try await imds.interface(mac) else { throw NodeIdentityError.noPrimary(mac) }
    guard let subnet = SubnetID(primary.subnetID) else { throw NodeIdentityError.noPrimary(mac) }
    guard let cidr = primary.subnetCIDR(family) else { throw NodeIdentityError.noCIDR(subnet, family) }
    guard let address = primary.addresses(family).first else { throw NodeIdentityError.noAddress(primary.id, family) }
    return NodeIdentity(
      instance: try await identity, primary: primary, family: family, primaryAddress: address, primarySubnet: subnet,
      primarySubnetCIDR: cidr)
  }
}

/// Why the node cannot run pods at all.
enum NodeIdentityError: Error, CustomStringConvertible {
  case noPrimary(MACAddress)
  case noCIDR(SubnetID, AddressFamily)
  case noAddress(ENIID, AddressFamily)
  case unknownType(String)
  case noPrefixes(String)

  var description: String {
    switch self {
    case .noPrimary(let mac): "IMDS does not describe the primary interface \(mac)"
    case .noCIDR(let subnet, .ipv4): "\(subnet), the subnet of the primary interface, has no IPv4 CIDR"
    case .noCIDR(let subnet, .ipv6):
      "ENABLE_IPv6=true, but \(subnet), the subnet of the primary interface, has no IPv6 CIDR; associate one with it"
    case .noAddress(let eni, .ipv4): "the primary interface \(eni) has no IPv4 address"
    case .noAddress(let eni, .ipv6):
      "ENABLE_IPv6=true, but the primary interface \(eni) has no IPv6 address; assign one to it"
    case .noPrefixes(let type):
      "ENABLE_IPv6=true needs prefixes, which EC2 delegates to Nitro and bare-metal instances only, and not to \(type)"
    case .unknownType(let type): "cannot get the network limits of instance type \(type) from EC2"
    }
  }
}
