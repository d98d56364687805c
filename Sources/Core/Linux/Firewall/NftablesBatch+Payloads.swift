// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Glibc
internal import VPCModel

// Each function writes one object after a message's header. If a libnftnl object cannot be created (no memory), the
// message stays empty and the kernel refuses it: nothing is done then, and the error names the object.
extension NftablesBatch {
  static func fillTable(_ header: UnsafeMutablePointer<nlmsghdr>, _ table: NftablesTableID) {
    guard let object = cnft_nftnl_table_alloc() else { return }
    defer { cnft_nftnl_table_free(object) }
    _ = cnft_nftnl_table_set_str(object, UInt16(NFTNL_TABLE_NAME.rawValue), table.name)
    cnft_nftnl_table_nlmsg_build_payload(header, object)
  }

  static func fillChain(
    _ header: UnsafeMutablePointer<nlmsghdr>, _ table: NftablesTableID, _ name: String, _ hook: NftablesHook?
  ) {
    guard let object = cnft_nftnl_chain_alloc() else { return }
    defer { cnft_nftnl_chain_free(object) }
    _ = cnft_nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_TABLE.rawValue), table.name)
    _ = cnft_nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_NAME.rawValue), name)
    if let hook {
      _ = cnft_nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_TYPE.rawValue), hook.type)
      cnft_nftnl_chain_set_u32(object, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue), hook.number)
      cnft_nftnl_chain_set_s32(object, UInt16(NFTNL_CHAIN_PRIO.rawValue), hook.priority)
      cnft_nftnl_chain_set_u32(object, UInt16(NFTNL_CHAIN_POLICY.rawValue), 1 /* NF_ACCEPT */)
    }
    cnft_nftnl_chain_nlmsg_build_payload(header, object)
  }

  static func fillRule(
    _ header: UnsafeMutablePointer<nlmsghdr>, _ table: NftablesTableID, _ chain: String, _ rule: NftablesRule
  ) {
    guard let object = cnft_nftnl_rule_alloc() else { return }
    defer { cnft_nftnl_rule_free(object) }
    _ = cnft_nftnl_rule_set_str(object, UInt16(NFTNL_RULE_TABLE.rawValue), table.name)
    _ = cnft_nftnl_rule_set_str(object, UInt16(NFTNL_RULE_CHAIN.rawValue), chain)
    if rule.handle != 0 { cnft_nftnl_rule_set_u64(object, UInt16(NFTNL_RULE_HANDLE.rawValue), rule.handle) }
    for expression in rule.expressions {
      guard let encoded = expression.encode() else { return }
      cnft_nftnl_rule_add_expr(object, encoded)
    }
    cnft_nftnl_rule_nlmsg_build_payload(header, object)
  }

  static func fillMap(
    _ header: UnsafeMutablePointer<nlmsghdr>, _ table: NftablesTableID, _ name: String, _ shape: NftablesMap.Shape,
    _ identifier: UInt32
  ) {
    guard let object = cnft_nftnl_set_alloc() else { return }
    defer { cnft_nftnl_set_free(object) }
    let set = { (attribute: nftnl_set_attr, value: UInt32) in
      cnft_nftnl_set_set_u32(object, UInt16(attribute.rawValue), value)
    }
    _ = cnft_nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table.name)
    _ = cnft_nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), name)
    set(NFTNL_SET_ID, identifier)
    set(NFTNL_SET_FLAGS, shape.flags)
    set(NFTNL_SET_KEY_TYPE, shape.keyType)
    set(NFTNL_SET_KEY_LEN, UInt32(shape.family.bitWidth / 8))
    set(NFTNL_SET_DATA_TYPE, NftablesMap.Shape.verdictType)
    set(NFTNL_SET_DATA_LEN, 0)
    // NFTNL_UDATA_SET_KEYBYTEORDER, four bytes, big endian (2): without it `nft list` shows keys of an interval map
    // byte-swapped.
    let order: [UInt8] = [0, 4] + NftablesExpression.hostBytes(2)
    _ = cnft_nftnl_set_set_data(object, UInt16(NFTNL_SET_USERDATA.rawValue), order, UInt32(order.count))
    cnft_nftnl_set_nlmsg_build_payload(header, object)
  }

  static func fillElements(
    _ header: UnsafeMutablePointer<nlmsghdr>, _ table: NftablesTableID, _ map: String, _ shape: NftablesMap.Shape,
    _ elements: [NftablesElement], adds: Bool
  ) {
    guard let object = cnft_nftnl_set_alloc() else { return }
    defer { cnft_nftnl_set_free(object) }
    _ = cnft_nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table.name)
    _ = cnft_nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), map)
    for element in elements {
      appendElement(object, element.key.address, chain: element.chain)
      // An interval is its first address and, with a flag, the one after its last; the last interval has no end.
      if shape.isInterval, let end = element.key.address.advanced(by: element.key.size) {
        appendElement(object, end, chain: nil)
      }
    }
    cnft_nftnl_set_elems_nlmsg_build_payload(header, object)
  }

  /// - Parameter chain: nil for the end of an interval.
  private static func appendElement(_ set: OpaquePointer, _ address: IPAddress, chain: String?) {
    guard let element = cnft_nftnl_set_elem_alloc() else { return }
    let key = address.bytes
    _ = cnft_nftnl_set_elem_set(element, UInt16(NFTNL_SET_ELEM_KEY), key, UInt32(key.count))
    if let chain {
      // `goto`: no rule follows the ENI's chain, so that a single address takes precedence over a prefix.
      let verdict = UInt32(bitPattern: NFT_GOTO.rawValue)
      cnft_nftnl_set_elem_set_u32(element, UInt16(NFTNL_SET_ELEM_VERDICT), verdict)
      _ = cnft_nftnl_set_elem_set_str(element, UInt16(NFTNL_SET_ELEM_CHAIN), chain)
    } else {
      cnft_nftnl_set_elem_set_u32(
        element, UInt16(NFTNL_SET_ELEM_FLAGS), UInt32(NFT_SET_ELEM_INTERVAL_END.rawValue))
    }
    // The set owns the element from here on.
    cnft_nftnl_set_elem_add(set, element)
  }
}

extension NftablesMap.Shape {
  /// NFT_DATA_VERDICT.
  static let verdictType: UInt32 = 0xffff_ff00

  /// nft's types ipv4_addr and ipv6_addr: the numbers are nft's own, the kernel only stores them.
  var keyType: UInt32 { family == .ipv4 ? 7 : 8 }

  var flags: UInt32 {
    UInt32(NFT_SET_MAP.rawValue) | (isInterval ? UInt32(NFT_SET_INTERVAL.rawValue) : 0)
  }
}

extension IPPrefix {
  /// The number of addresses; 0 stands for 2^128, which no EC2 prefix has.
  fileprivate var size: UInt128 {
    let hostBits = family.bitWidth - length
    return hostBits >= 128 ? 0 : UInt128(1) << UInt128(hostBits)
  }
}
