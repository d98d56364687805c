// SPDX-License-Identifier: Apache-2.0
internal import VPCModel

// The node's rules in nftables: connection marks unless kube-proxy uses iptables-legacy, and all rules if no iptables
// is usable.
extension HostRules {
  /// The contract's table for connection marks.
  package static let connmarkTable = NftablesTableID(family: .ipv4, name: "aws-cni")
  /// The agent's table for rules that iptables holds on other nodes. Not `vpc-cni`, which comes and goes with the
  /// source map.
  package static let substituteTable = NftablesTableID(family: .ipv4, name: "vpc-cni-host")

  /// The desired `table ip aws-cni`; nil if it must not exist.
  package var connmarkTable: NftablesTable? {
    guard !externalSNAT && connmarkBackend == .nftables else { return nil }
    let restore: [NftablesExpression] = [
      .conntrackLoad(key: NftablesExpression.conntrackMark), .bitwise(mask: connmark.mask, xor: 0),
      .metaSet(key: NftablesExpression.metaMark),
    ]
    return NftablesTable(chains: [
      // After kube-proxy's DNAT at -100.
      "nat-prerouting": NftablesChain(
        hook: NftablesHook(type: "nat", number: NftablesHook.prerouting, priority: -90),
        rules: [NftablesRule([.destinationType, .isLocal, .returnToCaller])]
          + fromPods.map { NftablesRule($0 + [.counter, .jump("snat-mark")]) } + [NftablesRule([.counter] + restore)]),
      "snat-mark": NftablesChain(
        rules: destinations.map {
          NftablesRule([.counter] + NftablesExpression.destination($0.prefix) + [.returnToCaller])
        } + [NftablesRule([.counter] + setConnectionMark)]),
    ])
  }

  /// The desired `table ip vpc-cni-host` on a node without a usable iptables: SNAT and the mangle rules, with the same
  /// effect. Nil if the settings need neither.
  ///
  ///     chain postrouting { type nat hook postrouting priority 110; … snat to PRIMARY fully-random }
  ///     chain prerouting  { type filter hook prerouting priority mangle; … jump restore-mark }
  ///     chain restore-mark { … }
  ///     chain forward     { type filter hook forward priority filter; ip daddr 169.254.172.0/22 ct state new reject }
  package var substituteTable: NftablesTable? {
    var table = NftablesTable()
    // Without any NAT chain in the namespace the kernel stops translating open connections: an empty chain stays for
    // them.
    if !externalSNAT || !earlier.marks.isEmpty {
      table.chains["postrouting"] = NftablesChain(
        // After kube-proxy's masquerading at 100: the first chain that translates a connection decides.
        hook: NftablesHook(type: "nat", number: NftablesHook.postrouting, priority: 110),
        rules: externalSNAT ? [] : translation)
    }
    let marks = connectionMarks
    if !marks.isEmpty {
      table.chains["prerouting"] = NftablesChain(
        hook: NftablesHook(type: "filter", number: NftablesHook.prerouting, priority: -150), rules: marks)
      table.chains["restore-mark"] = NftablesChain(rules: restoreMark)
    }
    if blocksNodeLocalPods, let range = IPPrefix(IptablesPlan.nodeLocalRange(.ipv4)) {
      table.chains["forward"] = NftablesChain(
        hook: NftablesHook(type: "filter", number: NftablesHook.forward, priority: 0),
        rules: [NftablesRule(NftablesExpression.destination(range) + NftablesExpression.isNew + [.reject])])
    }
    return table.chains.isEmpty ? nil : table
  }

  private var translation: [NftablesRule] {
    let ports: NftablesExpression.PortChoice =
      switch randomization {
      case .fully: .fullyRandom
      case .hashed: .random
      case .none: .first
      }
    let returns = destinations.map { NftablesExpression.destination($0.prefix) + [.returnToCaller] }
    return
      ([
        NftablesExpression.outputName(prefix: "vlan") + [.returnToCaller],
        [.destinationType, .isLocal, .returnToCaller],
      ] + returns + [
        NftablesExpression.outputName(otherThan: primaryInterface) + [.sourceTypeOnOutput, .isLocal, .returnToCaller],
        [.load(primaryAddress.bytes), .sourceNAT(ports: ports)],
      ]).map { NftablesRule($0) }
  }

  private var connectionMarks: [NftablesRule] {
    var rules: [[NftablesExpression]] = []
    if nodePortSupport {
      rules.append(
        NftablesExpression.inputName(primaryInterface) + [.destinationTypeOnInput, .isLocal] + setConnectionMark)
    }
    if !restoredMarks.isEmpty { rules += fromPods.map { $0 + [.jump("restore-mark")] } }
    if nodePortSupport { rules.append(NftablesExpression.inputName(prefix: "vlan") + [.jump("restore-mark")]) }
    return rules.map { NftablesRule($0) }
  }

  /// The connection's mark has all of the bits or none, so the packet gets all or none: one register cannot combine two
  /// marks bit by bit.
  private var restoreMark: [NftablesRule] {
    restoredMarks.flatMap { mark in
      let isMarked: [NftablesExpression] = [
        .conntrackLoad(key: NftablesExpression.conntrackMark), .bitwise(mask: mark.mask, xor: 0),
        .compareEqual(NftablesExpression.hostBytes(mark.value)),
      ]
      return [
        NftablesRule(NftablesExpression.setMark(value: 0, mask: mark.mask)),
        NftablesRule(isMarked + NftablesExpression.setMark(value: mark.value, mask: mark.mask)),
      ]
    }
  }

  private var fromPods: [[NftablesExpression]] { vethPrefixes.map { NftablesExpression.inputName(prefix: $0) } }

  /// `ct mark set ct mark | MARK`
  private var setConnectionMark: [NftablesExpression] {
    [
      .conntrackLoad(key: NftablesExpression.conntrackMark), .bitwise(mask: ~connmark.mask, xor: connmark.value),
      .conntrackSet(key: NftablesExpression.conntrackMark),
    ]
  }
}

extension NftablesExpression {
  /// `ip daddr PREFIX` as nft writes it: whole bytes if possible, a mask otherwise, nothing for 0.0.0.0/0.
  static func destination(_ prefix: IPPrefix) -> [NftablesExpression] {
    let bytes = prefix.address.bytes
    if prefix.length == 0 { return [] }
    if prefix.length % 8 == 0 {
      let count = prefix.length / 8
      return [.networkHeader(offset: 16, length: UInt32(count)), .compareEqual(Array(bytes.prefix(count)))]
    }
    let mask = ~UInt32(0) << UInt32(32 - prefix.length)
    return [
      .networkHeader(offset: 16, length: 4), .bitwise(mask: mask.bigEndian, xor: 0), .compareEqual(bytes),
    ]
  }
}
