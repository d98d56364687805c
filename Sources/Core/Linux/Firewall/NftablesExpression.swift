// SPDX-License-Identifier: Apache-2.0

/// One step of a rule. All steps work on register 1 (NFT_REG_1), as nft itself writes such rules.
package enum NftablesExpression: Sendable, Hashable {
  /// NFT_META_IIFNAME, NFT_META_MARK or another key of `meta`.
  case metaLoad(key: UInt32)
  case metaSet(key: UInt32)
  /// NFT_CT_MARK or another key of `ct`.
  case conntrackLoad(key: UInt32)
  case conntrackSet(key: UInt32)
  /// NFT_CT_DST_IP or another key of `ct original`: of the connection's first packet, as it came.
  case conntrackOriginal(key: UInt32)
  /// register = register & mask ^ xor; four bytes, host order.
  case bitwise(mask: UInt32, xor: UInt32)
  /// Continues only if the register begins with these bytes: network order for addresses, host order for numbers.
  case compareEqual([UInt8])
  /// Continues only if the register does not begin with these bytes.
  case compareDifferent([UInt8])
  /// Bytes of the network header.
  case networkHeader(offset: UInt32, length: UInt32)
  /// Looks the register up in a verdict map of the same table and applies the verdict.
  case verdictMap(String)
  /// `fib daddr type` into the register.
  case destinationType
  /// `fib daddr . iif type`: the same, limited to the addresses of the packet's input interface.
  case destinationTypeOnInput
  /// `fib saddr . oif type`: for the source, limited to the addresses of the packet's output interface.
  case sourceTypeOnOutput
  /// Puts these bytes into the register.
  case load([UInt8])
  /// `snat to` the IPv4 address in the register.
  case sourceNAT(ports: PortChoice)
  case jump(String)
  case returnToCaller
  /// `reject`: answers with ICMP port unreachable.
  case reject
  /// Packets and bytes; the values are not compared.
  case counter
  /// Found in the kernel and not used by this project; never equal to a wanted one.
  case other(String)

  /// How SNAT chooses a source port if the packet's own is taken, or always (NF_NAT_RANGE_PROTO_…).
  package enum PortChoice: UInt32, Sendable, Hashable {
    case first = 0
    /// `random`: NF_NAT_RANGE_PROTO_RANDOM.
    case random = 4
    /// `fully-random`: NF_NAT_RANGE_PROTO_RANDOM_FULLY.
    case fullyRandom = 16
  }

  /// Equal, if the model can express both.
  func matches(_ other: NftablesExpression) -> Bool {
    if case .other = self { return false }
    return self == other
  }
}

extension NftablesExpression {
  /// NFT_META_MARK.
  package static let metaMark: UInt32 = 3
  /// NFT_META_IIFNAME.
  package static let metaInputName: UInt32 = 6
  /// NFT_META_OIFNAME.
  package static let metaOutputName: UInt32 = 7
  /// NFT_CT_MARK.
  package static let conntrackMark: UInt32 = 3
  /// NFT_CT_STATE.
  static let conntrackState: UInt32 = 0
  /// NFT_CT_DIRECTION, one byte.
  static let conntrackDirection: UInt32 = 1
  /// NFT_CT_DST_IP.
  static let conntrackDestination: UInt32 = 20
  /// IP_CT_DIR_REPLY, as `compareEqual` takes it behind the direction.
  static let isReply = NftablesExpression.compareEqual([1])

  /// `iifname "PREFIX*"`: compares as many bytes as the prefix has.
  package static func inputName(prefix: String) -> [NftablesExpression] {
    [.metaLoad(key: metaInputName), .compareEqual(Array(prefix.utf8))]
  }

  /// `ct state new`: bit NF_CT_STATE_BIT(IP_CT_NEW).
  static let isNew: [NftablesExpression] = [
    .conntrackLoad(key: conntrackState), .bitwise(mask: 8, xor: 0), .compareDifferent(hostBytes(0)),
  ]

  /// RTN_LOCAL, as `compareEqual` takes it behind `destinationType`.
  static let isLocal = NftablesExpression.compareEqual(hostBytes(2))

  /// `iifname "NAME"`: all 16 bytes of the name, so that nothing longer is meant.
  package static func inputName(_ name: String) -> [NftablesExpression] {
    [.metaLoad(key: metaInputName), .compareEqual(wholeName(name))]
  }

  /// `oifname != "NAME"`
  static func outputName(otherThan name: String) -> [NftablesExpression] {
    [.metaLoad(key: metaOutputName), .compareDifferent(wholeName(name))]
  }

  private static func wholeName(_ name: String) -> [UInt8] {
    let bytes = Array(name.utf8.prefix(15))
    return bytes + repeatElement(0, count: 16 - bytes.count)
  }

  /// `oifname "PREFIX*"`
  package static func outputName(prefix: String) -> [NftablesExpression] {
    [.metaLoad(key: metaOutputName), .compareEqual(Array(prefix.utf8))]
  }

  /// `meta mark set meta mark & ~MASK | VALUE`: sets only the bits under the mask.
  package static func setMark(value: UInt32, mask: UInt32) -> [NftablesExpression] {
    [.metaLoad(key: metaMark), .bitwise(mask: ~mask, xor: value & mask), .metaSet(key: metaMark)]
  }
}
