// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
package import VPCModel

/// A socket that receives notifications of changes in the namespace in which it was opened.
///
/// A notification says that something changed, not the current state: read the state again before acting on it. The
/// user's own changes are reported too.
package final class NetlinkMonitor {
  /// The notifications to receive, for both families.
  package struct Topics: OptionSet, Sendable {
    /// The bits of the topics.
    package let rawValue: Int
    /// For `OptionSet`.
    package init(rawValue: Int) { self.rawValue = rawValue }
    /// RTNLGRP_LINK.
    package static let links = Topics(rawValue: 1)
    /// RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR.
    package static let addresses = Topics(rawValue: 2)
    /// RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE.
    package static let routes = Topics(rawValue: 4)
    /// RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE.
    package static let rules = Topics(rawValue: 8)
    /// RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF: some settings of links, rp_filter and forwarding among them.
    package static let settings = Topics(rawValue: 16)
  }

  /// One change, with the object as it is, or was before its removal.
  package enum Event: Sendable, Hashable {
    case link(Link, isRemoved: Bool)
    case address(InterfaceAddress, isRemoved: Bool)
    case route(Route, isRemoved: Bool)
    case rule(PolicyRule, isRemoved: Bool)
    /// A setting of the link with this index; the kernel only partly says which one.
    case setting(link: UInt32)
    /// The queue was full and notifications are missing: everything may have changed.
    case lost
  }

  /// An event, and who made the change.
  package struct Notice: Sendable, Hashable {
    package let event: Event
    /// The port of the netlink socket that requested the change: usually a process ID. 0 if unknown, or if the kernel
    /// made the change.
    package let port: UInt32
  }

  /// For `poll`.
  let descriptor: Int32
  // SAFETY: allocated in `init` when nothing can fail any more, freed in `deinit`.
  private let buffer: UnsafeMutableRawBufferPointer
  /// The rest of the last datagram, the next event last. Bounded by what 32 KiB can hold.
  private var pending: [Notice] = []

  /// Opens the socket in the calling thread's namespace; changes from now on are reported.
  ///
  /// - Parameters:
  ///   - families: whose addresses, routes, rules and settings.
  ///   - queueSize: bytes that the kernel keeps until they are read, not bound by net.core.rmem_max; nil for the
  ///     system's default.
  package init(
    _ topics: Topics, families: Set<AddressFamily> = Set(AddressFamily.allCases), queueSize: Int32? = nil
  ) throws(NetlinkError) {
    let groups: [(Topics, [AddressFamily: rtnetlink_groups])] = [
      (.addresses, [.ipv4: RTNLGRP_IPV4_IFADDR, .ipv6: RTNLGRP_IPV6_IFADDR]),
      (.routes, [.ipv4: RTNLGRP_IPV4_ROUTE, .ipv6: RTNLGRP_IPV6_ROUTE]),
      (.rules, [.ipv4: RTNLGRP_IPV4_RULE, .ipv6: RTNLGRP_IPV6_RULE]),
      (.settings, [.ipv4: RTNLGRP_IPV4_NETCONF, .ipv6: RTNLGRP_IPV6_NETCONF]),
    ]
    var wanted = topics.contains(.links) ? [RTNLGRP_LINK.rawValue] : []
    for (topic, group) in groups where topics.contains(topic) {
      wanted += group.filter { families.contains($0.key) }.map(\.value.rawValue)
    }
    descriptor = try NetlinkSocket.open(groups: wanted)
    buffer = .allocate(byteCount: 32768, alignment: 16)
    if let queueSize { NetlinkMonitor.setQueue(queueSize, of: descriptor) }
  }

  /// As much as allowed without CAP_NET_ADMIN.
  static func setQueue(_ bytes: Int32, of descriptor: Int32) {
    var size = bytes
    let length = socklen_t(MemoryLayout<Int32>.size)
    guard setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, length) != 0 else { return }
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, length)
  }

  deinit {
    close(descriptor)
    buffer.deallocate()
  }

  /// Waits for the next event.
  ///
  /// - Returns: nil when the deadline has passed without one.
  /// - Throws: `malformed`, or the system's reason.
  package func next(until deadline: ContinuousClock.Instant) throws(NetlinkError) -> Event? {
    try nextNotice(until: deadline)?.event
  }

  /// As `next`, and who made the change.
  package func nextNotice(until deadline: ContinuousClock.Instant) throws(NetlinkError) -> Notice? {
    while true {
      if let notice = pending.popLast() { return notice }
      do throws(NetlinkError) {
        let bytes = try NetlinkSocket.receive(
          on: descriptor, into: buffer, until: deadline, for: { "wait for a change" })
        var notices: [Notice] = []
        let isWhole = try NetlinkReply.forEach(in: bytes) { (reply) throws(NetlinkError) in
          if let event = Event(reply: reply) { notices.append(Notice(event: event, port: reply.port)) }
        }
        guard isWhole else { throw NetlinkError(.malformed, "wait for a change") }
        pending = notices.reversed()
      } catch {
        if error.code == .timedOut { return nil }
        guard error.errno == ENOBUFS else { throw error }
        return Notice(event: .lost, port: 0)
      }
    }
  }

  /// Waits until the namespace has a link with this MAC that is not a VLAN or other upper device.
  ///
  /// Blocks its thread: not for the shared kernel executor. The monitor must have the topic `links` and be in the
  /// namespace of `socket`.
  /// - Returns: nil when the deadline has passed.
  package func waitForLink(
    mac: MACAddress, until deadline: ContinuousClock.Instant, on socket: NetlinkSocket
  ) throws(NetlinkError) -> Link? {
    // The monitor was opened before the list is read, so that no link is missed.
    while true {
      if let link = try Link.find(mac: mac, on: socket).first(where: { $0.kind != "vlan" }) { return link }
      var isSuspect = false
      while !isSuspect {
        switch try next(until: deadline) {
        case nil: return nil
        case .link(let link, false): isSuspect = link.mac == mac
        case .lost: isSuspect = true
        default: break
        }
      }
    }
  }
}

extension NetlinkMonitor.Event {
  fileprivate init?(reply: NetlinkReply) {
    switch reply.type {
    case RTM_NEWLINK, RTM_DELLINK:
      guard let link = Link(reply: reply) else { return nil }
      self = .link(link, isRemoved: reply.type == RTM_DELLINK)
    case RTM_NEWADDR, RTM_DELADDR:
      guard let address = InterfaceAddress(reply: reply) else { return nil }
      self = .address(address, isRemoved: reply.type == RTM_DELADDR)
    case RTM_NEWROUTE, RTM_DELROUTE:
      guard let route = Route(reply: reply) else { return nil }
      self = .route(route, isRemoved: reply.type == RTM_DELROUTE)
    case RTM_NEWRULE, RTM_DELRULE:
      guard let rule = PolicyRule(reply: reply) else { return nil }
      self = .rule(rule, isRemoved: reply.type == RTM_DELRULE)
    case RTM_NEWNETCONF:
      var link: UInt32?
      reply.forEachAttribute(after: netconfmsg.self) { type, value in
        if type == Int(NETCONFA_IFINDEX) { link = value.uint32 }
      }
      guard let link else { return nil }
      self = .setting(link: link)
    default: return nil
    }
  }
}
