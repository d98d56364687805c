// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// Why pods cannot use an ENI.
enum NodeNetworkError: Error, CustomStringConvertible {
  /// No link with the ENI's MAC showed up.
  case noLink(ENIID, MACAddress)
  /// No link has the primary ENI's MAC.
  case noPrimaryLink(MACAddress)
  /// The primary ENI's link name matches AWS_VPC_K8S_CNI_VETHPREFIX.
  case vethPrefixOfENI(prefix: String, link: String)
  /// No listing has shown its MAC.
  case unknown(ENIID)
  /// EC2 shows no primary address for it.
  case noAddress(ENIID)
  /// Its device index does not fit into the mark mask.
  case noMark(ENIID, device: Int, card: Int, mask: UInt32)
  /// The kernel was booted without IPv6.
  case noIPv6
  /// The node cannot find the subnet's router by the link.
  case noLinkLocal(ENIID, String)
  /// The kernel's state differs from what was just written.
  case notAsWanted(ENIID, [NodeDifference])
  /// The subnet's CIDR, which determines the gateway, is unknown.
  case noSubnet(ENIID, String)
  /// EC2 has assigned an address to an ENI, but a pod uses it on another ENI.
  case inUse(IPAddress, ENIID, ENIID)

  var description: String {
    switch self {
    case .noLink(let eni, let mac): "no link with the address \(mac) of \(eni) on this node"
    case .noPrimaryLink(let mac): "no link with the address \(mac) of the primary ENI on this node"
    case .vethPrefixOfENI(let prefix, let link):
      "AWS_VPC_K8S_CNI_VETHPREFIX is \"\(prefix)\", and the primary ENI is \(link): pod rules would apply to it too; choose a prefix that no interface name begins with, and set it in the plugin's configuration as well"
    case .unknown(let eni): "agent does not know \(eni)"
    case .noAddress(let eni): "\(eni) has no primary address"
    case .noMark(let eni, let device, let card, let mask):
      "no mark for \(eni) (device \(device) of card \(card)) within VPC_CNI_ENI_MARK_MASK 0x\(String(mask, radix: 16))"
    case .noIPv6: "ENABLE_IPv6=true, but the kernel has no IPv6; remove its boot parameter ipv6.disable=1"
    case .noLinkLocal(let eni, let link):
      "\(link) of \(eni) has no usable IPv6 link-local address, by which the node finds the router; the kernel adds one unless the link's addrgenmode is none or its disable_ipv6 is 1"
    case .notAsWanted(let eni, let left):
      "network setup of \(eni) did not stay in place: \(left.map(\.description).joined(separator: ", "))"
    case .noSubnet(let eni, let subnet): "unknown CIDR of \(subnet), the subnet of \(eni)"
    case .inUse(let address, let holder, let eni):
      "EC2 assigned \(address) to \(eni), but a pod uses it on \(holder)"
    }
  }
}
