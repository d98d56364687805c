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
      let set = NftablesElementReader(shape: shape)
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
        if let found = NftablesAnswer.tableFlags(message) { flags = found }
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
      guard let found = NftablesAnswer.chain(message, of: table.name) else { return }
      chains[found.name] = found.chain
      if !found.isAccepting { foreign.append("policy of chain \(found.name)") }
    }
    result.chains = chains
    result.foreign += foreign
  }

  private func readRules(_ table: NftablesTableID, into result: inout NftablesTable) throws(NftablesError) {
    var rules: [String: [NftablesRule]] = [:]
    try dump(NFT_MSG_GETRULE, table, "rules") {
      cnft_mnl_attr_put_strz($0, UInt16(NFTA_RULE_TABLE.rawValue), table.name)
    } each: { message in
      guard let found = NftablesAnswer.rule(message, of: table.name) else { return }
      rules[found.chain, default: []].append(found.rule)
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
      guard let map = NftablesAnswer.map(message, of: table) else { return }
      if let shape = map.shape { found[map.name] = shape } else { others.append("set \(map.name)") }
    }
    maps = found
    foreign += others
  }

  private func readElements(
    _ table: NftablesTableID, _ map: String, into reader: NftablesElementReader
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
