// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Glibc

// The attributes of libnftnl's expressions are anonymous C enumerators: Int in Swift, uint16_t in the calls.
private let register = UInt32(NFT_REG_1.rawValue)

extension NftablesExpression {
  /// A new libnftnl expression; the caller adds it to a rule, which then owns it. Nil if memory is short.
  func encode() -> OpaquePointer? {
    switch self {
    case .metaLoad(let key):
      Self.build("meta", [(NFTNL_EXPR_META_KEY, key), (NFTNL_EXPR_META_DREG, register)])
    case .metaSet(let key):
      Self.build("meta", [(NFTNL_EXPR_META_KEY, key), (NFTNL_EXPR_META_SREG, register)])
    case .conntrackLoad(let key):
      Self.build("ct", [(NFTNL_EXPR_CT_KEY, key), (NFTNL_EXPR_CT_DREG, register)])
    case .conntrackSet(let key):
      Self.build("ct", [(NFTNL_EXPR_CT_KEY, key), (NFTNL_EXPR_CT_SREG, register)])
    case .bitwise(let mask, let xor):
      Self.build(
        "bitwise",
        [(NFTNL_EXPR_BITWISE_SREG, register), (NFTNL_EXPR_BITWISE_DREG, register), (NFTNL_EXPR_BITWISE_LEN, 4)],
        data: [(NFTNL_EXPR_BITWISE_MASK, Self.hostBytes(mask)), (NFTNL_EXPR_BITWISE_XOR, Self.hostBytes(xor))])
    case .conntrackOriginal(let key):
      Self.build(
        "ct", [(NFTNL_EXPR_CT_KEY, key), (NFTNL_EXPR_CT_DREG, register)],
        data: [(NFTNL_EXPR_CT_DIR, [Self.originalDirection])])
    case .compareEqual(let bytes):
      Self.buildComparison(NFT_CMP_EQ.rawValue, bytes)
    case .compareDifferent(let bytes):
      Self.buildComparison(NFT_CMP_NEQ.rawValue, bytes)
    case .networkHeader(let offset, let length):
      Self.build(
        "payload",
        [
          (NFTNL_EXPR_PAYLOAD_DREG, register),
          (NFTNL_EXPR_PAYLOAD_BASE, UInt32(NFT_PAYLOAD_NETWORK_HEADER.rawValue)),
          (NFTNL_EXPR_PAYLOAD_OFFSET, offset), (NFTNL_EXPR_PAYLOAD_LEN, length),
        ])
    case .verdictMap(let map):
      Self.build(
        "lookup", [(NFTNL_EXPR_LOOKUP_SREG, register), (NFTNL_EXPR_LOOKUP_DREG, UInt32(NFT_REG_VERDICT.rawValue))],
        text: [(NFTNL_EXPR_LOOKUP_SET, map)])
    case .destinationType:
      Self.buildAddressType(Self.destinationFlags)
    case .destinationTypeOnInput:
      Self.buildAddressType(Self.destinationOnInputFlags)
    case .sourceTypeOnOutput:
      Self.buildAddressType(Self.sourceOnOutputFlags)
    case .load(let bytes):
      Self.build(
        "immediate", [(NFTNL_EXPR_IMM_DREG, register)], data: [(NFTNL_EXPR_IMM_DATA, bytes)])
    case .sourceNAT(let ports):
      Self.build(
        "nat",
        [
          (NFTNL_EXPR_NAT_TYPE, UInt32(NFT_NAT_SNAT.rawValue)), (NFTNL_EXPR_NAT_FAMILY, 2 /* NFPROTO_IPV4 */),
          (NFTNL_EXPR_NAT_REG_ADDR_MIN, register),
        ] + (ports == .first ? [] : [(NFTNL_EXPR_NAT_FLAGS, ports.rawValue)]))
    case .jump(let chain):
      Self.buildVerdict(NFT_JUMP.rawValue, text: [(NFTNL_EXPR_IMM_CHAIN, chain)])
    case .returnToCaller:
      Self.buildVerdict(NFT_RETURN.rawValue)
    case .reject:
      Self.build(
        "reject", [(NFTNL_EXPR_REJECT_TYPE, UInt32(NFT_REJECT_ICMP_UNREACH.rawValue))],
        data: [(NFTNL_EXPR_REJECT_CODE, [Self.portUnreachable])])
    case .counter:
      Self.build("counter", [])
    case .other:
      nil
    }
  }

  private static let destinationFlags = UInt32(NFTA_FIB_F_DADDR.rawValue)
  private static let destinationOnInputFlags = UInt32(NFTA_FIB_F_DADDR.rawValue | NFTA_FIB_F_IIF.rawValue)
  private static let sourceOnOutputFlags = UInt32(NFTA_FIB_F_SADDR.rawValue | NFTA_FIB_F_OIF.rawValue)
  /// ICMP_PORT_UNREACH
  private static let portUnreachable: UInt8 = 3
  /// IP_CT_DIR_ORIGINAL
  private static let originalDirection: UInt8 = 0

  private static func buildComparison(_ operation: UInt32, _ bytes: [UInt8]) -> OpaquePointer? {
    build(
      "cmp", [(NFTNL_EXPR_CMP_SREG, register), (NFTNL_EXPR_CMP_OP, operation)], data: [(NFTNL_EXPR_CMP_DATA, bytes)])
  }

  private static func buildAddressType(_ flags: UInt32) -> OpaquePointer? {
    build(
      "fib",
      [
        (NFTNL_EXPR_FIB_DREG, register), (NFTNL_EXPR_FIB_RESULT, UInt32(NFT_FIB_RESULT_ADDRTYPE.rawValue)),
        (NFTNL_EXPR_FIB_FLAGS, flags),
      ])
  }

  private static func buildVerdict(_ verdict: Int32, text: [(Int, String)] = []) -> OpaquePointer? {
    build(
      "immediate",
      [
        (NFTNL_EXPR_IMM_DREG, UInt32(NFT_REG_VERDICT.rawValue)),
        (NFTNL_EXPR_IMM_VERDICT, UInt32(bitPattern: verdict)),
      ], text: text)
  }

  private static func build(
    _ name: String, _ numbers: [(Int, UInt32)], data: [(Int, [UInt8])] = [], text: [(Int, String)] = []
  ) -> OpaquePointer? {
    guard let expression = cnft_nftnl_expr_alloc(name) else { return nil }
    for (attribute, number) in numbers { cnft_nftnl_expr_set_u32(expression, UInt16(attribute), number) }
    var failed = false
    for (attribute, bytes) in data {
      if cnft_nftnl_expr_set(expression, UInt16(attribute), bytes, UInt32(bytes.count)) != 0 { failed = true }
    }
    for (attribute, value) in text {
      if cnft_nftnl_expr_set_str(expression, UInt16(attribute), value) != 0 { failed = true }
    }
    guard !failed else {
      cnft_nftnl_expr_free(expression)
      return nil
    }
    return expression
  }

  /// The model's form of an expression that libnftnl has read from the kernel; the caller keeps the pointer.
  static func decode(_ expression: OpaquePointer) -> NftablesExpression {
    let source = ExpressionReader(pointer: expression)
    guard let name = source.text(NFTNL_EXPR_NAME) else { return .other("?") }
    return decode(name, source) ?? .other(name)
  }

  private static func decode(_ name: String, _ source: ExpressionReader) -> NftablesExpression? {
    switch name {
    case "meta", "ct":
      return decodeKeyed(name, source)
    case "bitwise":
      guard source.number(NFTNL_EXPR_BITWISE_SREG) == register, source.number(NFTNL_EXPR_BITWISE_DREG) == register,
        source.number(NFTNL_EXPR_BITWISE_OP) ?? 0 == 0,
        let mask = source.hostNumber(NFTNL_EXPR_BITWISE_MASK), let xor = source.hostNumber(NFTNL_EXPR_BITWISE_XOR)
      else { return nil }
      return .bitwise(mask: mask, xor: xor)
    case "cmp":
      guard source.number(NFTNL_EXPR_CMP_SREG) == register, let bytes = source.bytes(NFTNL_EXPR_CMP_DATA) else {
        return nil
      }
      switch source.number(NFTNL_EXPR_CMP_OP) {
      case UInt32(NFT_CMP_EQ.rawValue): return .compareEqual(bytes)
      case UInt32(NFT_CMP_NEQ.rawValue): return .compareDifferent(bytes)
      default: return nil
      }
    case "payload":
      guard source.number(NFTNL_EXPR_PAYLOAD_DREG) == register,
        source.number(NFTNL_EXPR_PAYLOAD_BASE) == UInt32(NFT_PAYLOAD_NETWORK_HEADER.rawValue),
        let offset = source.number(NFTNL_EXPR_PAYLOAD_OFFSET), let length = source.number(NFTNL_EXPR_PAYLOAD_LEN)
      else { return nil }
      return .networkHeader(offset: offset, length: length)
    case "lookup":
      // Flags: NFT_LOOKUP_F_INV, which turns the meaning round.
      guard source.number(NFTNL_EXPR_LOOKUP_SREG) == register,
        source.number(NFTNL_EXPR_LOOKUP_DREG) == UInt32(NFT_REG_VERDICT.rawValue),
        source.number(NFTNL_EXPR_LOOKUP_FLAGS) ?? 0 == 0, let map = source.text(NFTNL_EXPR_LOOKUP_SET)
      else { return nil }
      return .verdictMap(map)
    case "fib":
      guard source.number(NFTNL_EXPR_FIB_DREG) == register,
        source.number(NFTNL_EXPR_FIB_RESULT) == UInt32(NFT_FIB_RESULT_ADDRTYPE.rawValue)
      else { return nil }
      switch source.number(NFTNL_EXPR_FIB_FLAGS) {
      case destinationFlags: return .destinationType
      case destinationOnInputFlags: return .destinationTypeOnInput
      case sourceOnOutputFlags: return .sourceTypeOnOutput
      default: return nil
      }
    case "immediate":
      guard source.number(NFTNL_EXPR_IMM_DREG) == register else { return decodeVerdict(source) }
      return source.bytes(NFTNL_EXPR_IMM_DATA).map { .load($0) }
    case "nat":
      return decodeSourceNAT(source)
    case "reject":
      let isOurs =
        source.number(NFTNL_EXPR_REJECT_TYPE) == UInt32(NFT_REJECT_ICMP_UNREACH.rawValue)
        && source.bytes(NFTNL_EXPR_REJECT_CODE) == [portUnreachable]
      return isOurs ? .reject : nil
    case "counter":
      return .counter
    default:
      return nil
    }
  }

  private static func decodeKeyed(_ name: String, _ source: ExpressionReader) -> NftablesExpression? {
    let isMeta = name == "meta"
    guard let key = source.number(isMeta ? NFTNL_EXPR_META_KEY : NFTNL_EXPR_CT_KEY) else { return nil }
    if !isMeta, let direction = source.bytes(NFTNL_EXPR_CT_DIR) {
      guard direction == [originalDirection], source.number(NFTNL_EXPR_CT_DREG) == register else { return nil }
      return .conntrackOriginal(key: key)
    }
    if source.number(isMeta ? NFTNL_EXPR_META_DREG : NFTNL_EXPR_CT_DREG) == register {
      return isMeta ? .metaLoad(key: key) : .conntrackLoad(key: key)
    }
    if source.number(isMeta ? NFTNL_EXPR_META_SREG : NFTNL_EXPR_CT_SREG) == register {
      return isMeta ? .metaSet(key: key) : .conntrackSet(key: key)
    }
    return nil
  }

  private static func decodeSourceNAT(_ source: ExpressionReader) -> NftablesExpression? {
    // The kernel returns a range whose end is its beginning, and a flag for it (NF_NAT_RANGE_MAP_IPS).
    let flags = (source.number(NFTNL_EXPR_NAT_FLAGS) ?? 0) & ~1
    guard source.number(NFTNL_EXPR_NAT_TYPE) == UInt32(NFT_NAT_SNAT.rawValue),
      source.number(NFTNL_EXPR_NAT_FAMILY) == 2, source.number(NFTNL_EXPR_NAT_REG_ADDR_MIN) == register,
      source.number(NFTNL_EXPR_NAT_REG_ADDR_MAX) ?? register == register,
      source.number(NFTNL_EXPR_NAT_REG_PROTO_MIN) ?? 0 == 0
    else { return nil }
    return PortChoice(rawValue: flags).map { .sourceNAT(ports: $0) }
  }

  private static func decodeVerdict(_ source: ExpressionReader) -> NftablesExpression? {
    guard let verdict = source.number(NFTNL_EXPR_IMM_VERDICT) else { return nil }
    switch Int32(bitPattern: verdict) {
    case NFT_JUMP.rawValue: return source.text(NFTNL_EXPR_IMM_CHAIN).map { .jump($0) }
    case NFT_RETURN.rawValue: return .returnToCaller
    default: return nil
    }
  }

  static func hostBytes(_ number: UInt32) -> [UInt8] {
    // SAFETY: the bytes of a local integer are copied out while it lives.
    withUnsafeBytes(of: number) { Array($0) }
  }
}

/// Reads attributes of one libnftnl expression; the pointer outlives the reader, which `decode` sees to.
private struct ExpressionReader {
  let pointer: OpaquePointer

  func number(_ attribute: Int) -> UInt32? {
    guard cnft_nftnl_expr_is_set(pointer, UInt16(attribute)) else { return nil }
    return cnft_nftnl_expr_get_u32(pointer, UInt16(attribute))
  }

  func text(_ attribute: Int) -> String? {
    cnft_nftnl_expr_get_str(pointer, UInt16(attribute)).map { String(cString: $0) }
  }

  /// At most the 64 bytes that a register can hold.
  func bytes(_ attribute: Int) -> [UInt8]? {
    guard cnft_nftnl_expr_is_set(pointer, UInt16(attribute)) else { return nil }
    var size: UInt32 = 0
    guard let data = cnft_nftnl_expr_get(pointer, UInt16(attribute), &size), size <= 64 else { return nil }
    return Array(UnsafeRawBufferPointer(start: data, count: Int(size)))
  }

  func hostNumber(_ attribute: Int) -> UInt32? {
    guard let bytes = bytes(attribute), bytes.count == 4 else { return nil }
    // SAFETY: four bytes were counted just above.
    return bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
  }
}
