// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel

/// The node's identity from IMDS at startup, which does not change while the agent runs.
struct NodeIdentity: Sendable {
  let instance: InstanceIdentity
  /// The primary ENI as IMDS shows it.
  let primary: IMDSNetworkInterface
  /// The primary ENI's primary address, the SNAT source address.
  let primaryAddress: IPAddress
  let primarySubnet: SubnetID
  let primarySubnetCIDR: IPPrefix

  /// Reads the identity document and the primary ENI.
  ///
  /// - Throws: `IMDSError`; `NodeIdentityError` if the primary ENI has no IPv4 address.
  static func read(from imds: IMDSClient) async throws -> NodeIdentity {
    async let identity = imds.instanceIdentity()
    let mac = try await imds.mac()
    guard let primary = try await imds.interface(mac) else { throw NodeIdentityError.noPrimary(mac) }
    guard let address = primary.ipv4Addresses.first, let cidr = primary.subnetIPv4CIDR,
      let subnet = SubnetID(primary.subnetID)
    else { throw NodeIdentityError.noIPv4(primary.id) }
    return NodeIdentity(
      instance: try await identity, primary: primary, primaryAddress: address, primarySubnet: subnet,
      primarySubnetCIDR: cidr)
  }
}

/// Why the node cannot run pods at all.
enum NodeIdentityError: Error, CustomStringConvertible {
  case noPrimary(MACAddress)
  case noIPv4(ENIID)
  case unknownType(String)

  var description: String {
    switch self {
    case .noPrimary(let mac): "IMDS does not describe the primary interface \(mac)"
    case .noIPv4(let eni): "the primary interface \(eni) has no IPv4 address or subnet"
    case .unknownType(let type): "cannot get the network limits of instance type \(type) from EC2"
    }
  }
}
