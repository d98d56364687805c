// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
package import VPCModel

extension Route {
  /// Lists the routes of a table. A table that does not exist is empty.
  ///
  /// - Parameter device: nil for all; the kernel filters, so that a long table costs a walk and no messages.
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
      // Without strict checking the kernel lists all tables. Entries of its route cache are no routes of a table.
      guard let header = reply.header(rtmsg.self), header.rtm_flags & UInt32(RTM_F_CLONED) == 0,
        let route = Route(reply: reply), route.table == table, device == nil || route.device == device
      else { return nil }
      return route
    }
  }

  /// The routes of exactly this destination in a table, by metric; more than one where metrics differ.
  ///
  /// Asks the kernel to look the address up first, which is enough and costs the same whatever the table's length where
  /// the policy rules lead to this table; else lists the table.
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

  /// The entry of the table that the kernel would use for a packet to `address` (RTM_F_FIB_MATCH), with its own
  /// destination and table; nil where nothing leads there. Costs the same whatever the number of routes.
  ///
  /// Parameters as for `lookup`.
  package static func match(
    _ address: IPAddress, from source: IPAddress? = nil, mark: UInt32 = 0, input: UInt32? = nil,
    on socket: NetlinkSocket
  ) throws(NetlinkError) -> Route? {
    try get(address, flags: RTM_F_FIB_MATCH, source: source, mark: mark, input: input, on: socket)
  }

  /// What `ip route get` says: the way that a packet to `address` takes; nil where nothing leads there.
  ///
  /// - Parameters:
  ///   - source: the packet's source.
  ///   - mark: the packet's mark.
  ///   - input: the index of the link that the packet comes in by; nil for one of the node's own. With it `source` is
  ///     needed, and the reverse-path check applies.
  /// - Returns: the destination as one address, and the table in which the way was found.
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
    // RTM_F_LOOKUP_TABLE asks IPv4 to name the table; IPv6 does so always, and its strict check refuses the flag.
    header.rtm_flags = UInt32(flags | (address.family == .ipv4 ? RTM_F_LOOKUP_TABLE : 0))
    let message = NetlinkMessage(RTM_GETROUTE, header: header)
    message.put(Int(RTA_DST.rawValue), address)
    if let source { message.put(Int(RTA_SRC.rawValue), source) }
    if mark != 0 { message.put(Int(RTA_MARK.rawValue), mark) }
    if let input { message.put(Int(RTA_IIF.rawValue), input) }
    let request = NetlinkRequest(message: message, text: { "look up the route to \(address)" })
    let found = try socket.get(request, absent: [ENETUNREACH, EHOSTUNREACH, ESRCH]) { Route(reply: $0) }
    // IPv6 answers with an unreachable route in place of an error.
    guard let found, found.kind != .unreachable || found.table != RouteTable(0) || address.family == .ipv4 else {
      return nil
    }
    return found
  }
}
