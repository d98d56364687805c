// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
package import VPCModel

/// A network interface as the kernel reports it (RTM_NEWLINK).
package struct Link: Sendable, Hashable {
  /// ifi_index, unique in its namespace.
  package let index: UInt32
  /// Raw text: the kernel allows bytes that `InterfaceName` refuses.
  package let name: String
  /// Nil for a link without an Ethernet address.
  package let mac: MACAddress?
  /// IFLA_MTU in bytes.
  package let mtu: UInt32
  /// IFF_UP: the administrative state, whatever the carrier.
  package let isUp: Bool
  /// IFF_LOWER_UP: the link has a carrier.
  package let hasCarrier: Bool
  /// IFF_LOOPBACK.
  package let isLoopback: Bool
  /// IFLA_INFO_KIND: `veth`, `vlan`, `dummy`; nil for a hardware device.
  package let kind: String?
  /// IFLA_LINK: for a veth the index of the other end, in the namespace `peerNamespaceID`; for a VLAN its trunk.
  package let peerIndex: UInt32?
  /// IFLA_LINK_NETNSID; nil if the other end is in this namespace.
  package let peerNamespaceID: Int32?

  /// Reads one link by name (RTM_GETLINK); nil if there is none. Takes constant time.
  package static func find(named name: InterfaceName, on socket: NetlinkSocket) throws(NetlinkError) -> Link? {
    try socket.get(.getLink(named: name), absent: [ENODEV], transform: Link.init(reply:))
  }

  /// Reads one link by index (RTM_GETLINK); nil if there is none.
  package static func find(index: UInt32, on socket: NetlinkSocket) throws(NetlinkError) -> Link? {
    let message = NetlinkMessage(RTM_GETLINK, header: header(index: index))
    message.put(IFLA_EXT_MASK, filter)
    let request = NetlinkRequest(message: message, text: { "get link \(index)" })
    return try socket.get(request, absent: [ENODEV], transform: Link.init(reply:))
  }

  /// Lists all links of the namespace, by index. For the agent: the cost grows with the number of pods.
  package static func list(on socket: NetlinkSocket) throws(NetlinkError) -> [Link] {
    let message = NetlinkMessage(RTM_GETLINK, header: header())
    message.put(IFLA_EXT_MASK, filter)
    let request = NetlinkRequest(message: message, text: { "list links" })
    return try socket.dump(request) { (reply) throws(NetlinkError) in Link(reply: reply) }.sorted {
      $0.index < $1.index
    }
  }

  /// Finds the links with this MAC by listing all: the kernel has no lookup by MAC.
  ///
  /// - Returns: links by index. More than one if a VLAN or bridge has the MAC of its device; `kind` distinguishes them.
  package static func find(mac: MACAddress, on socket: NetlinkSocket) throws(NetlinkError) -> [Link] {
    try list(on: socket).filter { $0.mac == mac }
  }

  /// The kernel leaves out the counters, which are most of an answer.
  fileprivate static var filter: UInt32 { UInt32(RTEXT_FILTER_SKIP_STATS) }

  fileprivate static func header(index: UInt32 = 0, up: Bool? = nil) -> ifinfomsg {
    var header = ifinfomsg()
    header.ifi_family = UInt8(AF_UNSPEC)
    header.ifi_index = Int32(bitPattern: index)
    if let up {
      header.ifi_flags = up ? UInt32(IFF_UP) : 0
      header.ifi_change = UInt32(IFF_UP)
    }
    return header
  }
}

/// One end of a veth pair to create.
package struct VethEnd: Sendable, Hashable {
  /// IFLA_IFNAME; free in the end's namespace.
  package var name: InterfaceName
  /// Nil for one that the kernel chooses. Set at creation, so that udev's MACAddressPolicy does not change it.
  package var mac: MACAddress?
  /// Nil for the kernel's 1500.
  package var mtu: UInt32?
  /// Whether the end is up from the beginning. Only for the near end: the kernel cannot set up the far end, which it
  /// creates first and without its peer (ENOTCONN of veth_open); use `setUp` for that.
  package var isUp: Bool

  /// Does not validate; the kernel checks the MTU (68…65535).
  package init(name: InterfaceName, mac: MACAddress? = nil, mtu: UInt32? = nil, isUp: Bool = false) {
    self.name = name
    self.mac = mac
    self.mtu = mtu
    self.isUp = isUp
  }

  fileprivate func put(in message: NetlinkMessage) {
    message.put(IFLA_IFNAME, name)
    if let mac { message.put(IFLA_ADDRESS, mac) }
    if let mtu { message.put(IFLA_MTU, mtu) }
  }
}

extension Link {
  /// Creates a complete veth pair with one RTM_NEWLINK, and reads the near end in the same system call.
  ///
  /// - Parameters:
  ///   - near: the end in the socket's namespace.
  ///   - far: the other end, created directly in `namespace`.
  /// - Returns: the near end. The far end's index is its `peerIndex`.
  /// - Throws: `exists` if either name is taken (nothing is created then).
  package static func createVeth(
    _ near: VethEnd, peer far: VethEnd, in namespace: NetworkNamespace, on socket: NetlinkSocket
  ) throws(NetlinkError) -> Link {
    let create = NetlinkRequest.createVeth(near, peer: far, in: namespace)
    var made: Link?
    let failures = try socket.exchange([create, .getLink(named: near.name)]) { (_, reply) throws(NetlinkError) in
      made = Link(reply: reply)
    }
    if let failure = failures.lazy.compactMap({ $0 }).first {
      throw NetlinkError(errno: failure.errno, request: create.text(), detail: failure.text)
    }
    guard let made else { throw NetlinkError(.malformed, create.text()) }
    return made
  }
}

extension NetlinkRequest {
  fileprivate static func getLink(named name: InterfaceName) -> NetlinkRequest {
    let message = NetlinkMessage(RTM_GETLINK, header: Link.header())
    message.put(IFLA_EXT_MASK, Link.filter)
    message.put(IFLA_IFNAME, name)
    return NetlinkRequest(message: message, text: { "get link \(name)" })
  }

  /// Creates a veth pair: `near` in the socket's namespace, `far` in `namespace` (RTM_NEWLINK, VETH_INFO_PEER).
  ///
  /// A taken name is the error `exists`, never "already so". The namespace must stay open until this has run.
  package static func createVeth(_ near: VethEnd, peer far: VethEnd, in namespace: NetworkNamespace) -> NetlinkRequest {
    let message = NetlinkMessage(
      RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, header: Link.header(up: near.isUp ? true : nil))
    near.put(in: message)
    message.nest(IFLA_LINKINFO) {
      message.put(IFLA_INFO_KIND, "veth")
      message.nest(IFLA_INFO_DATA) {
        message.nest(VETH_INFO_PEER) {
          message.append(Link.header(up: far.isUp ? true : nil))
          far.put(in: message)
          message.put(IFLA_NET_NS_FD, UInt32(bitPattern: namespace.descriptor))
        }
      }
    }
    return NetlinkRequest(message: message, text: { "create veth \(near.name) with peer \(far.name)" })
  }

  private static func setLink(
    _ index: UInt32, up: Bool? = nil, gone: [Int32] = [], text: @escaping () -> String,
    _ attributes: (NetlinkMessage) -> Void = { _ in }
  ) -> NetlinkRequest {
    let message = NetlinkMessage(RTM_SETLINK, header: Link.header(index: index, up: up))
    attributes(message)
    return NetlinkRequest(message: message, text: text, gone: gone)
  }

  /// Keeps the kernel from giving the link an IPv6 link-local address when it is set up (IN6_ADDR_GEN_MODE_NONE).
  ///
  /// `alreadyGone` if the kernel or the link has no IPv6.
  package static func setNoLinkLocalAddress(on index: UInt32) -> NetlinkRequest {
    setLink(index, gone: [EAFNOSUPPORT], text: { "set no link-local address on link \(index)" }) { message in
      message.nest(IFLA_AF_SPEC) {
        message.nest(Int(AF_INET6)) {
          message.put(IFLA_INET6_ADDR_GEN_MODE, byte: UInt8(IN6_ADDR_GEN_MODE_NONE.rawValue))
        }
      }
    }
  }

  /// Sets the link up; already up is `done`.
  package static func setUp(_ index: UInt32) -> NetlinkRequest {
    setLink(index, up: true, text: { "set link \(index) up" })
  }

  /// Sets the link down; its routes go with it.
  package static func setDown(_ index: UInt32) -> NetlinkRequest {
    setLink(index, up: false, text: { "set link \(index) down" })
  }

  /// Sets IFLA_MTU in bytes; the same as before is `done`.
  package static func setMTU(_ mtu: UInt32, of index: UInt32) -> NetlinkRequest {
    setLink(index, text: { "set mtu \(mtu) on link \(index)" }) { $0.put(IFLA_MTU, mtu) }
  }

  /// Sets IFLA_ADDRESS; some drivers want the link down (`busy`).
  package static func setMAC(_ mac: MACAddress, of index: UInt32) -> NetlinkRequest {
    setLink(index, text: { "set address \(mac) on link \(index)" }) { $0.put(IFLA_ADDRESS, mac) }
  }

  /// Renames the link. Kernels before 6.2 refuse while it is up (`busy`).
  package static func rename(_ index: UInt32, to name: InterfaceName) -> NetlinkRequest {
    setLink(index, text: { "rename link \(index) to \(name)" }) { $0.put(IFLA_IFNAME, name) }
  }

  /// Moves the link to another namespace, where it may get a different index. It is down there and has no addresses.
  package static func move(_ index: UInt32, to namespace: NetworkNamespace) -> NetlinkRequest {
    setLink(index, text: { "move link \(index) to another namespace" }) {
      $0.put(IFLA_NET_NS_FD, UInt32(bitPattern: namespace.descriptor))
    }
  }

  /// Deletes by index, which the kernel does not reuse soon; deleting a veth also deletes its other end.
  ///
  /// The kernel takes 8 to 20 ms. `alreadyGone` if there is no such link.
  package static func deleteLink(_ index: UInt32) -> NetlinkRequest {
    let message = NetlinkMessage(RTM_DELLINK, header: Link.header(index: index))
    return NetlinkRequest(message: message, text: { "delete link \(index)" }, gone: [ENODEV])
  }

  /// As `deleteLink(_:)`, by name.
  package static func deleteLink(named name: InterfaceName) -> NetlinkRequest {
    let message = NetlinkMessage(RTM_DELLINK, header: Link.header())
    message.put(IFLA_IFNAME, name)
    return NetlinkRequest(message: message, text: { "delete link \(name)" }, gone: [ENODEV])
  }
}

extension Link {
  /// Reads RTM_NEWLINK and RTM_DELLINK; nil for any other message and for one without a name.
  init?(reply: NetlinkReply) {
    guard reply.type == RTM_NEWLINK || reply.type == RTM_DELLINK, let header = reply.header(ifinfomsg.self) else {
      return nil
    }
    var (name, kind): (String?, String?) = (nil, nil)
    var mac: MACAddress?
    var mtu: UInt32 = 0
    var peerIndex: UInt32?
    var peerNamespaceID: Int32?
    reply.forEachAttribute(after: ifinfomsg.self) { type, value in
      switch type {
      case IFLA_IFNAME: name = value.text
      case IFLA_ADDRESS: mac = value.mac
      case IFLA_MTU: mtu = value.uint32 ?? 0
      case IFLA_LINK: peerIndex = value.uint32
      case IFLA_LINK_NETNSID: peerNamespaceID = value.uint32.map(Int32.init(bitPattern:))
      case IFLA_LINKINFO:
        value.forEach { type, value in if type == IFLA_INFO_KIND { kind = value.text } }
      default: break
      }
    }
    guard let name else { return nil }
    index = UInt32(bitPattern: header.ifi_index)
    self.name = name
    self.mac = mac
    self.mtu = mtu
    isUp = header.ifi_flags & UInt32(IFF_UP) != 0
    // IFF_LOWER_UP of linux/if.h, which glibc's net/if.h lacks.
    hasCarrier = header.ifi_flags & (1 << 16) != 0
    isLoopback = header.ifi_flags & UInt32(IFF_LOOPBACK) != 0
    self.kind = kind
    self.peerIndex = peerIndex
    self.peerNamespaceID = peerNamespaceID
  }
}

/// Which of the links with an ENI's MAC is the ENI: VLANs, bridges, bonds and macvlans inherit the MAC of their lower
/// device.
package struct ENILinks: Sendable {
  /// The ENI's link; nil if there is none.
  package let best: Link?
  /// Other candidates: another program copied the MAC.
  package let rivals: [Link]

  /// Kinds with a lower device.
  private static let stacked: Set<String> = [
    "vlan", "bridge", "bond", "team", "macvlan", "macvtap", "ipvlan", "ipvtap", "vrf", "netkit",
  ]

  /// - Parameter links: all with that MAC, in any order.
  package init(_ links: [Link]) {
    let candidates = links.filter { !ENILinks.stacked.contains($0.kind ?? "") }.sorted { left, right in
      // A hardware device has no kind. Among several, the older link, which has the lower index.
      (left.kind == nil ? 0 : 1, left.index) < (right.kind == nil ? 0 : 1, right.index)
    }
    best = candidates.first
    rivals = Array(candidates.dropFirst())
  }
}
