// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Glibc
internal import VPCModel

/// Decodes the kernel's messages about nf_tables objects, by libnftnl.
///
/// Every function returns nil for a message of another type or about another table. The type is checked first because
/// libnftnl ends the process ("nf_tables kernel ABI is broken") if an attribute is not of the type that it expects.
enum NftablesAnswer {
  /// Whether the message has this type, and the header of all nf_tables messages.
  static func has(_ message: UnsafePointer<nlmsghdr>, type: nf_tables_msg_types) -> Bool {
    Int(message.pointee.nlmsg_type) == Int(NFNL_SUBSYS_NFTABLES) << 8 | Int(type.rawValue)
      && message.pointee.nlmsg_len >= UInt32(MemoryLayout<nlmsghdr>.size + MemoryLayout<nfgenmsg>.size)
  }

  static func generation(_ message: UnsafePointer<nlmsghdr>) -> UInt32? {
    guard has(message, type: NFT_MSG_NEWGEN), let object = cnft_nftnl_gen_alloc() else { return nil }
    defer { cnft_nftnl_gen_free(object) }
    guard cnft_nftnl_gen_nlmsg_parse(message, object) >= 0 else { return nil }
    return cnft_nftnl_gen_get_u32(object, UInt16(NFTNL_GEN_ID))
  }

  static func tableFlags(_ message: UnsafePointer<nlmsghdr>) -> UInt32? {
    guard has(message, type: NFT_MSG_NEWTABLE), let object = cnft_nftnl_table_alloc() else { return nil }
    defer { cnft_nftnl_table_free(object) }
    guard cnft_nftnl_table_nlmsg_parse(message, object) >= 0 else { return nil }
    return cnft_nftnl_table_get_u32(object, UInt16(NFTNL_TABLE_FLAGS.rawValue))
  }

  /// A chain without its rules. `isAccepting` is false if another program has set a drop policy.
  static func chain(
    _ message: UnsafePointer<nlmsghdr>, of table: String
  ) -> (name: String, chain: NftablesChain, isAccepting: Bool)? {
    guard has(message, type: NFT_MSG_NEWCHAIN), let object = cnft_nftnl_chain_alloc() else { return nil }
    defer { cnft_nftnl_chain_free(object) }
    guard cnft_nftnl_chain_nlmsg_parse(message, object) >= 0 else { return nil }
    let text = { (attribute: nftnl_chain_attr) in
      cnft_nftnl_chain_get_str(object, UInt16(attribute.rawValue)).map { String(cString: $0) }
    }
    // The kernel lists the chains of all tables of the family.
    guard text(NFTNL_CHAIN_TABLE) == table, let name = text(NFTNL_CHAIN_NAME) else { return nil }
    guard cnft_nftnl_chain_is_set(object, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue)) else {
      return (name, NftablesChain(hook: nil), true)
    }
    let hook = NftablesHook(
      type: text(NFTNL_CHAIN_TYPE) ?? "",
      number: cnft_nftnl_chain_get_u32(object, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue)),
      priority: cnft_nftnl_chain_get_s32(object, UInt16(NFTNL_CHAIN_PRIO.rawValue)))
    // NF_ACCEPT is 1.
    let policy = cnft_nftnl_chain_get_u32(object, UInt16(NFTNL_CHAIN_POLICY.rawValue))
    return (name, NftablesChain(hook: hook), policy == 1)
  }

  static func rule(
    _ message: UnsafePointer<nlmsghdr>, of table: String
  ) -> (chain: String, rule: NftablesRule)? {
    guard has(message, type: NFT_MSG_NEWRULE), let object = cnft_nftnl_rule_alloc() else { return nil }
    defer { cnft_nftnl_rule_free(object) }
    guard cnft_nftnl_rule_nlmsg_parse(message, object) >= 0,
      let owner = cnft_nftnl_rule_get_str(object, UInt16(NFTNL_RULE_TABLE.rawValue)),
      String(cString: owner) == table,
      let chain = cnft_nftnl_rule_get_str(object, UInt16(NFTNL_RULE_CHAIN.rawValue)),
      let iterator = cnft_nftnl_expr_iter_create(object)
    else { return nil }
    defer { cnft_nftnl_expr_iter_destroy(iterator) }
    var expressions: [NftablesExpression] = []
    while let expression = cnft_nftnl_expr_iter_next(iterator) { expressions.append(.decode(expression)) }
    let handle = cnft_nftnl_rule_get_u64(object, UInt16(NFTNL_RULE_HANDLE.rawValue))
    return (String(cString: chain), NftablesRule(expressions, handle: handle))
  }

  /// A set without its elements. `shape` is nil if it is not a verdict map of ours.
  static func map(
    _ message: UnsafePointer<nlmsghdr>, of table: NftablesTableID
  ) -> (name: String, shape: NftablesMap.Shape?)? {
    guard has(message, type: NFT_MSG_NEWSET), let object = cnft_nftnl_set_alloc() else { return nil }
    defer { cnft_nftnl_set_free(object) }
    guard cnft_nftnl_set_nlmsg_parse(message, object) >= 0,
      let owner = cnft_nftnl_set_get_str(object, UInt16(NFTNL_SET_TABLE.rawValue)),
      String(cString: owner) == table.name,
      let name = cnft_nftnl_set_get_str(object, UInt16(NFTNL_SET_NAME.rawValue)).map({ String(cString: $0) })
    else { return nil }
    let number = { (attribute: nftnl_set_attr) in cnft_nftnl_set_get_u32(object, UInt16(attribute.rawValue)) }
    let shape = NftablesMap.Shape(
      family: table.family, isInterval: number(NFTNL_SET_FLAGS) & UInt32(NFT_SET_INTERVAL.rawValue) != 0)
    let isOurs =
      number(NFTNL_SET_FLAGS) == shape.flags && number(NFTNL_SET_KEY_TYPE) == shape.keyType
      && number(NFTNL_SET_DATA_TYPE) == NftablesMap.Shape.verdictType
    return (name, isOurs ? shape : nil)
  }
}
