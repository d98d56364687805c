// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Glibc
internal import VPCModel

/// Changes to nftables that the kernel applies atomically: one batch, from NFNL_MSG_BATCH_BEGIN to NFNL_MSG_BATCH_END.
/// No packet sees a state in between.
package struct NftablesTransaction: Sendable {
  /// In the order in which the kernel takes them.
  package private(set) var steps: [(table: NftablesTableID, operation: NftablesOperation)] = []

  package init() {}

  package var isEmpty: Bool { steps.isEmpty }

  package mutating func append(_ operations: [NftablesOperation], to table: NftablesTableID) {
    steps += operations.map { (table, $0) }
  }
}

/// A transaction as bytes for the kernel, and the purpose of each message.
struct NftablesBatch {
  private(set) var bytes: [UInt8] = []
  /// `add chain eni-01 to table ip vpc-cni`, by sequence number.
  private(set) var objects: [UInt32: String] = [:]
  /// The sequence number of the last message before the end: the one that the kernel is asked to acknowledge.
  private(set) var lastSequence: UInt32 = 0
  private var sequence: UInt32
  private var setID: UInt32 = 0

  /// Elements in one message. An element with a chain of 255 bytes takes about 340 bytes, and the list that holds them
  /// has a 16-bit length.
  private static let elementsPerMessage = 128
  /// Room for one message: 128 elements of 340 bytes twice over. libnftnl does not check it.
  private static let messageCapacity = 131_072

  /// - Parameter generation: the generation of the rule set that the changes were computed from (NFNL_BATCH_GENID); the
  ///   kernel refuses the batch with ERESTART if it has changed since.
  init(_ transaction: NftablesTransaction, sequence: UInt32, generation: UInt32?) throws(NftablesError) {
    self.sequence = sequence
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.messageCapacity, alignment: 16)
    defer { scratch.deallocate() }
    guard let base = scratch.baseAddress else { return }
    let room = base.assumingMemoryBound(to: CChar.self)
    append(cnft_nftnl_batch_begin(room, sequence)) { header in
      if let generation { cnft_mnl_attr_put_u32(header, UInt16(NFNL_BATCH_GENID.rawValue), generation.bigEndian) }
    }
    for (index, step) in transaction.steps.enumerated() {
      let isLast = index == transaction.steps.count - 1
      do {
        try append(step.operation, table: step.table, isLast: isLast, room: room)
      } catch {
        throw NftablesError(.invalid, "\(step.operation), \(step.table)", errno: error.errno, detail: error.detail)
      }
    }
    self.sequence &+= 1
    append(cnft_nftnl_batch_end(room, self.sequence)) { _ in }
  }

  private mutating func append(
    _ header: UnsafeMutablePointer<nlmsghdr>?, fill: (UnsafeMutablePointer<nlmsghdr>) -> Void
  ) {
    guard let header else { return }
    fill(header)
    let length = Int(header.pointee.nlmsg_len)
    bytes += UnsafeRawBufferPointer(start: header, count: length)
    // SAFETY: the message was written into the scratch buffer of `init`, whose capacity exceeds any of them.
    bytes += repeatElement(0, count: (4 - length % 4) % 4)
  }

  private mutating func append(
    _ operation: NftablesOperation, table: NftablesTableID, isLast: Bool, room: UnsafeMutablePointer<CChar>
  ) throws(NftablesError) {
    try NftablesBatch.check(operation)
    let add = UInt16(NLM_F_CREATE)
    switch operation {
    case .addTable:
      message(NFT_MSG_NEWTABLE, table, operation, add, isLast, room) { Self.fillTable($0, table) }
    case .deleteTable:
      message(NFT_MSG_DELTABLE, table, operation, 0, isLast, room) { Self.fillTable($0, table) }
    case .addChain(let name, let hook):
      message(NFT_MSG_NEWCHAIN, table, operation, add, isLast, room) { Self.fillChain($0, table, name, hook) }
    case .deleteChain(let name):
      message(NFT_MSG_DELCHAIN, table, operation, 0, isLast, room) { Self.fillChain($0, table, name, nil) }
    case .addMap(let name, let shape):
      setID += 1
      let identifier = setID
      message(NFT_MSG_NEWSET, table, operation, add, isLast, room) {
        Self.fillMap($0, table, name, shape, identifier)
      }
    case .addRule(let chain, let rule):
      message(NFT_MSG_NEWRULE, table, operation, add | UInt16(NLM_F_APPEND), isLast, room) {
        Self.fillRule($0, table, chain, rule)
      }
    case .deleteRule(let chain, let handle):
      message(NFT_MSG_DELRULE, table, operation, 0, isLast, room) {
        Self.fillRule($0, table, chain, NftablesRule([], handle: handle))
      }
    case .addElements(let map, let shape, let elements), .deleteElements(let map, let shape, let elements):
      var adds = false
      if case .addElements = operation { adds = true }
      for start in stride(from: 0, to: elements.count, by: Self.elementsPerMessage) {
        let end = min(start + Self.elementsPerMessage, elements.count)
        let part = Array(elements[start..<end])
        let named: NftablesOperation =
          adds ? .addElements(map: map, shape, part) : .deleteElements(map: map, shape, part)
        message(
          adds ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, table, named, adds ? add : 0, isLast && end == elements.count,
          room
        ) { Self.fillElements($0, table, map, shape, part, adds: adds) }
      }
    }
  }

  private mutating func message(
    _ type: nf_tables_msg_types, _ table: NftablesTableID, _ operation: NftablesOperation, _ flags: UInt16,
    _ isLast: Bool, _ room: UnsafeMutablePointer<CChar>, fill: (UnsafeMutablePointer<nlmsghdr>) -> Void
  ) {
    sequence &+= 1
    let kind = UInt16(NFNL_SUBSYS_NFTABLES) << 8 | UInt16(type.rawValue)
    let header = cnft_nftnl_nlmsg_build_hdr(
      room, kind, table.protocolFamily, flags | (isLast ? UInt16(NLM_F_ACK) : 0), sequence)
    objects[sequence] = "\(operation), \(table)"
    lastSequence = sequence
    append(header, fill: fill)
  }

  /// Names come from ENI ids and settings; other characters must not reach the kernel.
  private static func check(_ operation: NftablesOperation) throws(NftablesError) {
    switch operation {
    case .addChain(let name, _), .deleteChain(let name), .addMap(let name, _), .addRule(let name, _),
      .deleteRule(let name, _):
      guard isName(name) else { throw NftablesError(.invalid, "", detail: "not a name of nftables") }
      if case .addRule(_, let rule) = operation, rule.expressions.contains(where: { !$0.matches($0) }) {
        throw NftablesError(.invalid, "", detail: "not an expression that we write")
      }
    case .addElements(_, let shape, let elements), .deleteElements(_, let shape, let elements):
      let fits = elements.allSatisfy {
        $0.key.family == shape.family && (shape.isInterval || $0.key.isSingle) && isName($0.chain)
      }
      guard fits else { throw NftablesError(.invalid, "", detail: "an element that the map cannot hold") }
    case .addTable, .deleteTable:
      break
    }
  }

  /// A valid nft identifier, at most as long as a link or ENI name.
  private static func isName(_ name: String) -> Bool {
    guard (1...64).contains(name.utf8.count), let first = name.utf8.first else { return false }
    let isLetter = { (byte: UInt8) in 65...90 ~= byte || 97...122 ~= byte }
    return isLetter(first)
      && name.utf8.allSatisfy { isLetter($0) || 48...57 ~= $0 || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") }
  }
}

extension NftablesTableID {
  /// NFPROTO_IPV4 (2) or NFPROTO_IPV6 (10). linux/netfilter.h cannot be imported: it defines in_addr a second time.
  var protocolFamily: UInt16 { family == .ipv4 ? 2 : 10 }
}
