// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
package import VPCModel

extension Route {
  /// Lists the routes of a table. A table that does not exist is empty.
  ///
  /// - Parameter device: nil for all; the kernel filters, so that a long table causes no messages.
  package static func list(
    table: RouteTable, family: AddressFamily, device: UInt32? = nil, on socket: NetlinkSocket
  ) throws(NetlinkError) -> [Route] {
    var header = rtmsg()
    header.rtm_family = family.number
    header.rtm_table = table.byte
    let message = NetlinkMessage(RTM_GETROUTE, header: header)
    message.put(Int(RTA_TABLE.rawValue), table.number)
    if let device { message.put(Int(RTA_OIF.rawValue), device) }
    let request = NetlinkRequest(message: message, text: { "list routes of table \(table)" })
    return try socket.dump(request, gone: [ENOENT, ENODEV]) { (reply) throws(NetlinkError) in
      // Without strict checking the kernel lists all tables. Entries of its route cache do not count.
      guard let header = reply.header(rtmsg.self), header.rtm_flags & UInt32(RTM_F_CLONED) == 0,
        let route = Route(reply: reply), route.table == table, device == nil || route.device == device
      else { return nil }
      return route
    }
  }

  /// The routes of exactly this destination in a table, by metric; more than one where metrics differ.
  ///
  /// First asks the kernel for a route lookup, which takes constant time and suffices if the policy rules use this
  /// table; otherwise lists the table.
  package static func find(
    _ destination: IPPrefix, table: RouteTable, on socket: NetlinkSocket
  ) throws(NetlinkError) -> [Route] {
    if destination.isSingle, let hit = try match(destination.address, on: socket), hit.destination == destination,
      hit.table == table
    {
      return [hit]
    }
    return try list(table: table, family: destination.family, on: socket)
      .filter { $0.destination == destination }.sorted { $0.priority < $1.priority }
  }

  /// The route that the kernel would use for a packet to `address` (RTM_F_FIB_MATCH), with its destination and table;
  /// nil if there is none. Takes constant time.
  ///
  /// Parameters as for `lookup`.
  package static func match(
    _ address: IPAddress, from source: IPAddress? = nil, mark: UInt32 = 0, input: UInt32? = nil,
    on socket: NetlinkSocket
  ) throws(NetlinkError) -> Route? {
    try get(address, flags: RTM_F_FIB_MATCH, source: source, mark: mark, input: input, on: socket)
  }

  /// The result of `ip route get`: the route of a packet to `address`; nil if there is none.
  ///
  /// - Parameters:
  ///   - source: the packet's source.
  ///   - mark: the packet's mark.
  ///   - input: the index of the packet's input link; nil for a packet of the node itself. It requires `source`, and
  ///     the reverse-path check applies.
  /// - Returns: the destination as one address, and the table of the route.
  package static func lookup(
    _ address: IPAddress, from source: IPAddress? = nil, mark: UInt32 = 0, input: UInt32? = nil,
    on socket: NetlinkSocket
  ) throws(NetlinkError) -> Route? {
    try get(address, flags: 0, source: source, mark: mark, input: input, on: socket)
  }

  private static func get(
    _ address: IPAddress, flags: Int32, source: IPAddress?, mark: UInt32, input: UInt32?, on socket: NetlinkSocket
  ) throws(NetlinkError) -> Route? {
    var header = rtmsg()
    header.rtm_family = address.family.number
    header.rtm_dst_len = UInt8(address.family.bitWidth)
    header.rtm_src_len = source == nil ? 0 : UInt8(address.family.bitWidth)
    // RTM_F_LOOKUP_TABLE makes IPv4 return the table; IPv6 always does, and its strict check refuses the flag.
    header.rtm_flags = UInt32(flags | (address.family == .ipv4 ? RTM_F_LOOKUP_TABLE : 0))
    let message = NetlinkMessage(RTM_GETROUTE, header: header)
    message.put(Int(RTA_DST.rawValue), address)
    if let source { message.put(Int(RTA_SRC.rawValue), source) }
    if mark != 0 { message.put(Int(RTA_MARK.rawValue), mark) }
    if let input { message.put(Int(RTA_IIF.rawValue), input) }
    let request = NetlinkRequest(message: message, text: { "look up the route to \(address)" })
    let found = try socket.get(request, absent: [ENETUNREACH, EHOSTUNREACH, ESRCH]) { Route(reply: $0) }
    // IPv6 answers with an unreachable route instead of an error.
    guard let found, found.kind != .unreachable || found.table != RouteTable(0) || address.family == .ipv4 else {
      return nil
    }
    return found
  }
}
