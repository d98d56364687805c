// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
package import VPCModel

/// A policy rule that looks up a table, or skips other rules (RTM_NEWRULE, FR_ACT_TO_TBL, FR_ACT_GOTO).
package struct PolicyRule: Sendable, Hashable, CustomStringConvertible {
  /// Each family has a list of its own.
  package var family: AddressFamily
  /// FRA_PRIORITY; the kernel evaluates lower values first.
  package var priority: UInt32
  /// FRA_SRC
  package var source: IPPrefix?
  /// FRA_DST
  package var destination: IPPrefix?
  /// FRA_FWMARK and FRA_FWMASK
  package var mark: PacketMark?
  /// FRA_IIFNAME
  package var input: String?
  /// FRA_OIFNAME
  package var output: String?
  /// FIB_RULE_INVERT: the rule applies if the selectors do not match.
  package var isInverted = false
  /// FRA_TABLE: looked up if all selectors match. 0 for a goto rule.
  package var table: RouteTable
  /// FRA_GOTO: the rule at this priority is evaluated next.
  package var skipsTo: UInt32?
  /// As read: the rule has a selector or an action that is not modelled here, so it equals no wanted rule.
  package private(set) var isForeign = false

  /// Whether it is a plain table lookup for the selected packets.
  package var isLookup: Bool { !isForeign && !isInverted && skipsTo == nil }

  /// A selector left nil matches every packet.
  package init(
    family: AddressFamily, priority: UInt32, from source: IPPrefix? = nil, to destination: IPPrefix? = nil,
    mark: PacketMark? = nil, input: InterfaceName? = nil, output: InterfaceName? = nil, table: RouteTable
  ) {
    self.family = family
    self.priority = priority
    self.source = source
    self.destination = destination
    self.mark = mark
    self.input = input?.text
    self.output = output?.text
    self.table = table
  }

  package var description: String {
    var text = "\(priority):"
    if isInverted { text += " not" }
    if let source { text += " from \(source)" }
    if let destination { text += " to \(destination)" }
    if let mark { text += " fwmark \(mark)" }
    if let input { text += " iif \(input)" }
    if let output { text += " oif \(output)" }
    return text + (skipsTo.map { " goto \($0)" } ?? " lookup \(table)")
  }

  /// Lists the rules of a family in the kernel's evaluation order. The same rule can appear twice.
  package static func list(_ family: AddressFamily, on socket: NetlinkSocket) throws(NetlinkError) -> [PolicyRule] {
    var header = fib_rule_hdr()
    header.family = family.number
    let message = NetlinkMessage(RTM_GETRULE, header: header)
    let request = NetlinkRequest(message: message, text: { "list policy rules" })
    return try socket.dump(request) { (reply) throws(NetlinkError) in PolicyRule(reply: reply) }
  }
}

extension NetlinkRequest {
  /// Adds a rule; `alreadySo` if the same rule exists.
  package static func add(_ rule: PolicyRule) -> NetlinkRequest {
    var request = NetlinkRequest(
      message: message(RTM_NEWRULE, flags: NLM_F_CREATE | NLM_F_EXCL, rule), text: { "add rule \(rule)" })
    // When the kernel looks for an equal rule, attributes missing in the request match anything: `512: to POD lookup
    // 20512` makes `512: lookup 20512` count as existing. Without NLM_F_EXCL it does not look.
    request.resolve = { (socket) throws(NetlinkError) in
      if try PolicyRule.list(rule.family, on: socket).contains(rule) { return .alreadySo }
      return try socket.perform(
        NetlinkRequest(message: message(RTM_NEWRULE, flags: NLM_F_CREATE, rule), text: { "add rule \(rule)" }))
    }
    return request
  }

  /// Deletes the first rule that has all attributes of this one; `alreadyGone` if there is none.
  ///
  /// Missing attributes match anything: `512: lookup 20512` can delete `512: to POD lookup 20512`. So do not give two
  /// rules the same priority and table.
  package static func delete(_ rule: PolicyRule) -> NetlinkRequest {
    NetlinkRequest(
      message: message(RTM_DELRULE, flags: 0, rule), text: { "delete rule \(rule)" }, gone: [ENOENT, ESRCH])
  }

  private static func message(_ type: Int, flags: Int32, _ rule: PolicyRule) -> NetlinkMessage {
    var header = fib_rule_hdr()
    header.family = rule.family.number
    header.src_len = UInt8(rule.source?.length ?? 0)
    header.dst_len = UInt8(rule.destination?.length ?? 0)
    header.table = rule.table.byte
    header.action = UInt8(rule.skipsTo == nil ? FR_ACT_TO_TBL : FR_ACT_GOTO)
    if rule.isInverted { header.flags = UInt32(FIB_RULE_INVERT) }
    let message = NetlinkMessage(type, flags: flags, header: header)
    message.put(FRA_PRIORITY, rule.priority)
    if let target = rule.skipsTo { message.put(FRA_GOTO, target) } else { message.put(FRA_TABLE, rule.table.number) }
    if let source = rule.source { message.put(FRA_SRC, source.address) }
    if let destination = rule.destination { message.put(FRA_DST, destination.address) }
    if let mark = rule.mark {
      message.put(FRA_FWMARK, mark.value)
      message.put(FRA_FWMASK, mark.mask)
    }
    if let input = rule.input { message.put(FRA_IIFNAME, input) }
    if let output = rule.output { message.put(FRA_OIFNAME, output) }
    return message
  }
}

extension PolicyRule {
  /// Reads RTM_NEWRULE and RTM_DELRULE; nil for any other message.
  init?(reply: NetlinkReply) {
    guard reply.type == RTM_NEWRULE || reply.type == RTM_DELRULE, let header = reply.header(fib_rule_hdr.self),
      let family = AddressFamily(number: header.family)
    else { return nil }
    var (priority, table) = (UInt32(0), UInt32(header.table))
    var (source, destination): (IPPrefix?, IPPrefix?) = (nil, nil)
    var (value, mask): (UInt32?, UInt32?) = (nil, nil)
    var (input, output): (String?, String?) = (nil, nil)
    var skipsTo: UInt32?
    var foreign = ![Int(FR_ACT_TO_TBL), Int(FR_ACT_GOTO)].contains(Int(header.action)) || header.tos != 0
    reply.forEachAttribute(after: fib_rule_hdr.self) { type, attribute in
      switch type {
      case FRA_PRIORITY: priority = attribute.uint32 ?? 0
      case FRA_TABLE: table = attribute.uint32 ?? table
      case FRA_SRC: source = attribute.address.flatMap { IPPrefix(containing: $0, length: Int(header.src_len)) }
      case FRA_DST: destination = attribute.address.flatMap { IPPrefix(containing: $0, length: Int(header.dst_len)) }
      case FRA_FWMARK: value = attribute.uint32
      case FRA_FWMASK: mask = attribute.uint32
      case FRA_GOTO: skipsTo = attribute.uint32
      case FRA_IIFNAME: input = attribute.text
      case FRA_OIFNAME: output = attribute.text
      case FRA_SUPPRESS_PREFIXLEN, FRA_SUPPRESS_IFGROUP:
        // Always present; all ones means that nothing is suppressed.
        if attribute.uint32 != UInt32.max { foreign = true }
      case FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE, FRA_UID_RANGE, FRA_TUN_ID: foreign = true
      case FRA_L3MDEV: if attribute.uint8 != 0 { foreign = true }
      default: break
      }
    }
    self.init(
      family: family, priority: priority, from: source, to: destination,
      mark: mask.map { PacketMark(value: value ?? 0, mask: $0) }, table: RouteTable(table))
    self.input = input
    self.output = output
    isInverted = header.flags & UInt32(FIB_RULE_INVERT) != 0
    self.skipsTo = skipsTo
    isForeign = foreign
  }
}
