// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Glibc
internal import VPCModel

extension NftablesSocket {
  /// A table's content; nil if it does not exist.
  ///
  /// Takes several requests: another program may change the table between them. To compute changes from the result,
  /// call `generation()` before and pass it to `commit`.
  ///
  /// - Throws: `.interrupted` if a list changed while it was read; `.refused`.
  package func read(_ table: NftablesTableID) throws(NftablesError) -> NftablesTable? {
    guard let flags = try readTableFlags(table) else { return nil }
    var result = NftablesTable()
    // NFT_TABLE_F_DORMANT would leave every chain without effect.
    if flags != 0 { result.foreign.append("table flags \(flags)") }
    try readChains(table, into: &result)
    try readRules(table, into: &result)
    var maps: [String: NftablesMap.Shape] = [:]
    try readMapShapes(table, into: &maps, foreign: &result.foreign)
    for (name, shape) in maps {
      let set = ElementReader(shape: shape)
      try readElements(table, name, into: set)
      if let elements = set.elements() {
        result.maps[name] = NftablesMap(shape: shape, elements: elements)
      } else {
        result.foreign.append("elements of map \(name)")
      }
    }
    return result
  }

  private func readTableFlags(_ table: NftablesTableID) throws(NftablesError) -> UInt32? {
    var flags: UInt32?
    do {
      try request(NFT_MSG_GETTABLE, family: table.protocolFamily, flags: 0, what: "read \(table)") {
        cnft_mnl_attr_put_strz($0, UInt16(NFTA_TABLE_NAME.rawValue), table.name)
      } each: { message in
        guard let object = cnft_nftnl_table_alloc() else { return }
        defer { cnft_nftnl_table_free(object) }
        if cnft_nftnl_table_nlmsg_parse(message, object) >= 0 {
          flags = cnft_nftnl_table_get_u32(object, UInt16(NFTNL_TABLE_FLAGS.rawValue))
        }
      }
    } catch {
      // "Not found" is a valid answer.
      if error.code == .refused && error.errno == ENOENT { return nil }
      throw error
    }
    return flags
  }

  private func readChains(_ table: NftablesTableID, into result: inout NftablesTable) throws(NftablesError) {
    var chains: [String: NftablesChain] = [:]
    var foreign: [String] = []
    try dump(NFT_MSG_GETCHAIN, table, "chains") { _ in
    } each: { message in
      guard let object = cnft_nftnl_chain_alloc() else { return }
      defer { cnft_nftnl_chain_free(object) }
      guard cnft_nftnl_chain_nlmsg_parse(message, object) >= 0 else { return }
      let text = { (attribute: nftnl_chain_attr) in
        cnft_nftnl_chain_get_str(object, UInt16(attribute.rawValue)).map { String(cString: $0) }
      }
      // The kernel lists the chains of all tables of the family.
      guard text(NFTNL_CHAIN_TABLE) == table.name, let name = text(NFTNL_CHAIN_NAME) else { return }
      var hook: NftablesHook?
      if cnft_nftnl_chain_is_set(object, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue)) {
        hook = NftablesHook(
          type: text(NFTNL_CHAIN_TYPE) ?? "",
          number: cnft_nftnl_chain_get_u32(object, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue)),
          priority: cnft_nftnl_chain_get_s32(object, UInt16(NFTNL_CHAIN_PRIO.rawValue)))
        // NF_ACCEPT is 1; a drop policy was set by another program.
        if cnft_nftnl_chain_get_u32(object, UInt16(NFTNL_CHAIN_POLICY.rawValue)) != 1 {
          foreign.append("policy of chain \(name)")
        }
      }
      chains[name] = NftablesChain(hook: hook)
    }
    result.chains = chains
    result.foreign += foreign
  }

  private func readRules(_ table: NftablesTableID, into result: inout NftablesTable) throws(NftablesError) {
    var rules: [String: [NftablesRule]] = [:]
    try dump(NFT_MSG_GETRULE, table, "rules") {
      cnft_mnl_attr_put_strz($0, UInt16(NFTA_RULE_TABLE.rawValue), table.name)
    } each: { message in
      guard let object = cnft_nftnl_rule_alloc() else { return }
      defer { cnft_nftnl_rule_free(object) }
      guard cnft_nftnl_rule_nlmsg_parse(message, object) >= 0,
        let owner = cnft_nftnl_rule_get_str(object, UInt16(NFTNL_RULE_TABLE.rawValue)),
        String(cString: owner) == table.name,
        let chain = cnft_nftnl_rule_get_str(object, UInt16(NFTNL_RULE_CHAIN.rawValue)),
        let iterator = cnft_nftnl_expr_iter_create(object)
      else { return }
      defer { cnft_nftnl_expr_iter_destroy(iterator) }
      var expressions: [NftablesExpression] = []
      while let expression = cnft_nftnl_expr_iter_next(iterator) { expressions.append(.decode(expression)) }
      let handle = cnft_nftnl_rule_get_u64(object, UInt16(NFTNL_RULE_HANDLE.rawValue))
      rules[String(cString: chain), default: []].append(NftablesRule(expressions, handle: handle))
    }
    for (chain, list) in rules { result.chains[chain]?.rules = list }
  }

  private func readMapShapes(
    _ table: NftablesTableID, into maps: inout [String: NftablesMap.Shape], foreign: inout [String]
  ) throws(NftablesError) {
    var found: [String: NftablesMap.Shape] = [:]
    var others: [String] = []
    try dump(NFT_MSG_GETSET, table, "maps") {
      cnft_mnl_attr_put_strz($0, UInt16(NFTA_SET_TABLE.rawValue), table.name)
    } each: { message in
      guard let object = cnft_nftnl_set_alloc() else { return }
      defer { cnft_nftnl_set_free(object) }
      guard cnft_nftnl_set_nlmsg_parse(message, object) >= 0,
        let owner = cnft_nftnl_set_get_str(object, UInt16(NFTNL_SET_TABLE.rawValue)),
        String(cString: owner) == table.name,
        let name = cnft_nftnl_set_get_str(object, UInt16(NFTNL_SET_NAME.rawValue)).map({ String(cString: $0) })
      else { return }
      let number = { (attribute: nftnl_set_attr) in cnft_nftnl_set_get_u32(object, UInt16(attribute.rawValue)) }
      let shape = NftablesMap.Shape(
        family: table.family, isInterval: number(NFTNL_SET_FLAGS) & UInt32(NFT_SET_INTERVAL.rawValue) != 0)
      let isOurs =
        number(NFTNL_SET_FLAGS) == shape.flags && number(NFTNL_SET_KEY_TYPE) == shape.keyType
        && number(NFTNL_SET_DATA_TYPE) == NftablesMap.Shape.verdictType
      if isOurs { found[name] = shape } else { others.append("set \(name)") }
    }
    maps = found
    foreign += others
  }

  private func readElements(
    _ table: NftablesTableID, _ map: String, into reader: ElementReader
  ) throws(NftablesError) {
    try dump(NFT_MSG_GETSETELEM, table, "elements of map \(map)") {
      cnft_mnl_attr_put_strz($0, UInt16(NFTA_SET_ELEM_LIST_TABLE.rawValue), table.name)
      cnft_mnl_attr_put_strz($0, UInt16(NFTA_SET_ELEM_LIST_SET.rawValue), map)
    } each: { message in
      reader.append(message)
    }
  }

  private func dump(
    _ type: nf_tables_msg_types, _ table: NftablesTableID, _ part: String,
    fill: (UnsafeMutablePointer<nlmsghdr>) -> Void, each: (UnsafePointer<nlmsghdr>) -> Void
  ) throws(NftablesError) {
    let what = "read \(part) of \(table)"
    do {
      try request(
        type, family: table.protocolFamily, flags: UInt16(NLM_F_DUMP), what: what, fill: fill, each: each)
    } catch {
      // The table existed a moment ago: another program is deleting or replacing it.
      if error.code == .refused && error.errno == ENOENT {
        throw NftablesError(.interrupted, what, detail: "the table vanished meanwhile")
      }
      throw error
    }
  }
}

/// Collects the elements of one verdict map, message by message.
private final class ElementReader {
  private struct Point {
    let address: IPAddress
    /// Nil at the end of an interval.
    let chain: String?
  }

  private let shape: NftablesMap.Shape
  private var points: [Point] = []
  private var isSound = true

  init(shape: NftablesMap.Shape) { self.shape = shape }

  func append(_ message: UnsafePointer<nlmsghdr>) {
    guard let set = cnft_nftnl_set_alloc() else { return isSound = false }
    defer { cnft_nftnl_set_free(set) }
    guard cnft_nftnl_set_elems_nlmsg_parse(message, set) >= 0, let iterator = cnft_nftnl_set_elems_iter_create(set)
    else { return isSound = false }
    defer { cnft_nftnl_set_elems_iter_destroy(iterator) }
    while let element = cnft_nftnl_set_elems_iter_next(iterator) {
      var size: UInt32 = 0
      guard let key = cnft_nftnl_set_elem_get(element, UInt16(NFTNL_SET_ELEM_KEY), &size),
        let address = IPAddress(bytes: UnsafeRawBufferPointer(start: key, count: Int(size))),
        address.family == shape.family
      else { return isSound = false }
      // libnftnl dereferences a null pointer if an attribute is not set.
      let number = { (attribute: Int) in
        cnft_nftnl_set_elem_is_set(element, UInt16(attribute))
          ? cnft_nftnl_set_elem_get_u32(element, UInt16(attribute)) : 0
      }
      if number(NFTNL_SET_ELEM_FLAGS) & UInt32(NFT_SET_ELEM_INTERVAL_END.rawValue) != 0 {
        points.append(Point(address: address, chain: nil))
        continue
      }
      guard Int32(bitPattern: number(NFTNL_SET_ELEM_VERDICT)) == NFT_GOTO.rawValue,
        cnft_nftnl_set_elem_is_set(element, UInt16(NFTNL_SET_ELEM_CHAIN)),
        let chain = cnft_nftnl_set_elem_get_str(element, UInt16(NFTNL_SET_ELEM_CHAIN))
      else { return isSound = false }
      points.append(Point(address: address, chain: String(cString: chain)))
    }
  }

  /// The elements; nil if the model cannot express one of them: another verdict, a range that is not a prefix.
  func elements() -> [IPPrefix: String]? {
    guard isSound else { return nil }
    var result: [IPPrefix: String] = [:]
    guard shape.isInterval else {
      for point in points {
        guard let chain = point.chain else { return nil }
        result[IPPrefix(single: point.address)] = chain
      }
      return result
    }
    // An interval's end is the first address after it, and comes before a start at the same address.
    let sorted = points.sorted {
      $0.address != $1.address ? $0.address < $1.address : ($0.chain == nil && $1.chain != nil)
    }
    var open: Point?
    for point in sorted {
      if let start = open, let chain = start.chain {
        guard point.chain == nil,
          let prefix = IPPrefix(from: start.address, count: point.address.bits - start.address.bits)
        else { return nil }
        result[prefix] = chain
        open = nil
      } else if point.chain != nil {
        open = point
      }
      // The rest is an end without a start: nft writes one at address zero.
    }
    if let start = open, let chain = start.chain {
      let limit = UInt128(1) << UInt128(shape.family.bitWidth - 1)
      guard let prefix = IPPrefix(from: start.address, count: (limit &- start.address.bits) &+ limit) else {
        return nil
      }
      result[prefix] = chain
    }
    return result
  }
}

extension IPPrefix {
  /// The prefix of `count` addresses from `first`; nil if the range is not a prefix.
  fileprivate init?(from first: IPAddress, count: UInt128) {
    guard count.nonzeroBitCount == 1 else { return nil }
    self.init(address: first, length: first.family.bitWidth - count.trailingZeroBitCount)
  }
}
