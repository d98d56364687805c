// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
package import VPCModel

/// A route of one nexthop (RTM_NEWROUTE).
package struct Route: Sendable, Hashable, CustomStringConvertible {
  /// The scope of the destination (RT_SCOPE_…).
  package enum Scope: UInt8, Sendable, Hashable {
    /// RT_SCOPE_UNIVERSE
    case global = 0
    case site = 200
    /// RT_SCOPE_LINK: on the link itself, no gateway.
    case link = 253
    case host = 254
    case nowhere = 255
  }

  /// The kind of the route (RTN_…).
  package enum Kind: UInt8, Sendable, Hashable {
    case unicast = 1
    case local, broadcast, anycast, multicast, blackhole, unreachable, prohibit, throwing
  }

  /// RTA_DST; `everything` for the default route.
  package var destination: IPPrefix
  /// RTA_TABLE.
  package var table: RouteTable
  /// The index of the output device; nil for a kind without one and for a multipath route as read.
  package var device: UInt32?
  /// RTA_GATEWAY, of the destination's family.
  package var gateway: IPAddress?
  /// RTA_PREFSRC: the source address of the node's own packets.
  package var source: IPAddress?
  /// rtm_scope; always global for IPv6.
  package var scope: Scope
  /// RTNH_F_ONLINK: the gateway is on the link even without a route.
  package var isOnLink: Bool
  /// rtm_type.
  package var kind: Kind
  /// Metric, RTA_PRIORITY; 0 leaves it to the kernel (0 for IPv4, 1024 for IPv6).
  package var priority: UInt32
  /// RTPROT_…: the route's origin. 3, boot, as `ip route` and amazon-vpc-cni-k8s write it; 2 is the kernel. Not part of
  /// a delete.
  package var origin: UInt8

  /// - Parameter scope: nil for `link` without a gateway and `global` with one.
  package init(
    to destination: IPPrefix, table: RouteTable = .main, device: UInt32? = nil, gateway: IPAddress? = nil,
    source: IPAddress? = nil, scope: Scope? = nil, isOnLink: Bool = false, kind: Kind = .unicast, priority: UInt32 = 0
  ) {
    self.destination = destination
    self.table = table
    self.device = device
    self.gateway = gateway
    self.source = source
    // IPv6 knows one scope; any other reads back as global.
    self.scope = scope ?? (gateway == nil && destination.family == .ipv4 && kind == .unicast ? .link : .global)
    self.isOnLink = isOnLink
    self.kind = kind
    self.priority = priority
    origin = UInt8(RTPROT_BOOT)
  }

  /// The default route of a family.
  package static func everything(_ family: AddressFamily) -> IPPrefix {
    let zero = family == .ipv4 ? IPAddress(ipv4: 0) : IPAddress(ipv6: 0)
    return IPPrefix(containing: zero, length: 0) ?? IPPrefix(single: zero)
  }

  package var description: String {
    var text = "\(destination)"
    if kind != .unicast { text = "\(kind) \(text)" }
    if let gateway { text += " via \(gateway)" }
    if let device { text += " dev \(device)" }
    text += " table \(table)"
    if priority != 0 { text += " metric \(priority)" }
    return text
  }

  /// Whether this route, as read, matches `wanted`. Attributes that `wanted` leaves to the kernel are not compared.
  package func matches(_ wanted: Route) -> Bool {
    destination == wanted.destination && table == wanted.table && device == wanted.device && gateway == wanted.gateway
      && kind == wanted.kind && (wanted.source == nil || source == wanted.source)
      && (destination.family == .ipv6 || scope == wanted.scope)
      && (wanted.priority == 0 || priority == wanted.priority)
  }
}

extension NetlinkRequest {
  /// Adds a route.
  ///
  /// `alreadySo` if the same route exists; the error `exists` if the table has a different one with the same
  /// destination and metric, which `replace` would replace.
  package static func add(_ route: Route) -> NetlinkRequest {
    var request = NetlinkRequest(
      message: message(RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_EXCL, route), text: { "add route \(route)" })
    request.resolve = { (socket) throws(NetlinkError) in
      try Route.find(route.destination, table: route.table, on: socket).contains { $0.matches(route) }
        ? .alreadySo : nil
    }
    return request
  }

  /// Adds a route, or replaces the first one with the same destination and metric in its table.
  package static func replace(_ route: Route) -> NetlinkRequest {
    NetlinkRequest(
      message: message(RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_REPLACE, route), text: { "replace route \(route)" })
  }

  /// Deletes the first route that has all attributes of this one; `alreadyGone` if there is none.
  ///
  /// The request always contains destination, table and kind; device, gateway and source if set; the metric if not 0;
  /// never scope and origin.
  package static func delete(_ route: Route) -> NetlinkRequest {
    NetlinkRequest(
      message: message(RTM_DELROUTE, flags: 0, route), text: { "delete route \(route)" }, gone: [ESRCH, ENODEV, ENOENT])
  }

  private static func message(_ type: Int, flags: Int32, _ route: Route) -> NetlinkMessage {
    var header = rtmsg()
    header.rtm_family = route.destination.family.number
    header.rtm_dst_len = UInt8(route.destination.length)
    header.rtm_table = route.table.byte
    header.rtm_type = route.kind.rawValue
    if type == RTM_DELROUTE {
      // RT_SCOPE_NOWHERE stands for any scope, and protocol 0 for any, in a delete.
      header.rtm_scope = Route.Scope.nowhere.rawValue
    } else {
      header.rtm_scope = route.scope.rawValue
      header.rtm_protocol = route.origin
      header.rtm_flags = route.isOnLink ? UInt32(RTNH_F_ONLINK) : 0
    }
    let message = NetlinkMessage(type, flags: flags, header: header)
    if route.destination.length > 0 { message.put(Int(RTA_DST.rawValue), route.destination.address) }
    message.put(Int(RTA_TABLE.rawValue), route.table.number)
    if let gateway = route.gateway { message.put(Int(RTA_GATEWAY.rawValue), gateway) }
    if let device = route.device { message.put(Int(RTA_OIF.rawValue), device) }
    if let source = route.source { message.put(Int(RTA_PREFSRC.rawValue), source) }
    if route.priority != 0 { message.put(Int(RTA_PRIORITY.rawValue), route.priority) }
    return message
  }
}

extension RouteTable {
  /// The header's table is a byte; a larger number is in an attribute.
  var byte: UInt8 { number < 256 ? UInt8(number) : UInt8(RT_TABLE_COMPAT.rawValue) }
}

extension Route {
  /// Reads RTM_NEWROUTE and RTM_DELROUTE; nil for any other message.
  init?(reply: NetlinkReply) {
    guard reply.type == RTM_NEWROUTE || reply.type == RTM_DELROUTE, let header = reply.header(rtmsg.self),
      let family = AddressFamily(number: header.rtm_family)
    else { return nil }
    var destination = Route.everything(family)
    var table = UInt32(header.rtm_table)
    var (gateway, source): (IPAddress?, IPAddress?) = (nil, nil)
    var device: UInt32?
    var priority: UInt32 = 0
    reply.forEachAttribute(after: rtmsg.self) { type, value in
      switch rtattr_type_t(UInt32(type)) {
      case RTA_DST:
        if let address = value.address, let prefix = IPPrefix(containing: address, length: Int(header.rtm_dst_len)) {
          destination = prefix
        }
      case RTA_TABLE: table = value.uint32 ?? table
      case RTA_GATEWAY: gateway = value.address
      case RTA_OIF: device = value.uint32
      case RTA_PREFSRC: source = value.address
      case RTA_PRIORITY: priority = value.uint32 ?? 0
      default: break
      }
    }
    self.init(
      to: destination, table: RouteTable(table), device: device, gateway: gateway, source: source,
      scope: Scope(rawValue: header.rtm_scope) ?? .global, isOnLink: header.rtm_flags & UInt32(RTNH_F_ONLINK) != 0,
      kind: Kind(rawValue: header.rtm_type) ?? .unicast, priority: priority)
    origin = header.rtm_protocol
  }
}
