// SPDX-License-Identifier: Apache-2.0
package import VPCModel

/// The desired source map: which ENI each pod address leaves by.
///
/// It does not contain the primary ENI: packets from its addresses get no mark and are routed by table `main`.
package struct ENIMarks: Sendable, Hashable {
  /// One secondary ENI.
  package struct ENI: Sendable, Hashable {
    /// The mark that the ENI's policy rule matches, from 1 and within the mask.
    package var mark: UInt32
    /// Its addresses (full length) and delegated prefixes.
    package var sources: Set<IPPrefix>
    /// The ENI's primary address, which no pod has: replies on connections to it leave by this ENI.
    package var address: IPAddress?

    package init(mark: UInt32, sources: Set<IPPrefix> = [], address: IPAddress? = nil) {
      self.mark = mark
      self.sources = sources
      self.address = address
    }
  }

  /// The bits of the packet mark that the agent uses. All others stay unchanged.
  package var mask: UInt32
  /// The prefix of pods' host veth names: `eni`.
  package var vethPrefix: String
  /// Prefixes of pods from before a settings change.
  package var earlierVethPrefixes: [String] = []
  /// The address families of pods. Other families have no table.
  package var families: Set<AddressFamily>
  package var enis: [ENIID: ENI]

  package init(
    mask: UInt32 = PacketMark.defaultENIMask, vethPrefix: String = "eni", families: Set<AddressFamily> = [.ipv4],
    enis: [ENIID: ENI] = [:]
  ) {
    self.mask = mask
    self.vethPrefix = vethPrefix
    self.families = families
    self.enis = enis
  }
}

extension ENIMarks {
  /// Names in the table.
  enum Name {
    static let addresses = "addresses"
    static let prefixes = "prefixes"
    /// The ENIs' own addresses.
    static let enis = "enis"
    static let prerouting = "prerouting"
    static let output = "output"
    /// No ENI's identifier looks like this, and those are chain names too.
    static let fromPods = "from-pods"
  }

  /// After destination NAT and the connmark chain at -90, whose last rule overwrites the whole mark of packets of
  /// unconfirmed flows; before the filter hooks at 0.
  static let preroutingPriority: Int32 = -50
  /// `mangle`, where a mark change makes the kernel repeat the route lookup.
  static let outputPriority: Int32 = -150

  /// The desired table of a family; nil for a family that pods do not have.
  ///
  /// Single addresses are in a hash table, prefixes in an interval tree: adding an address costs a tenth, lookup takes
  /// constant time, and an address takes precedence over a prefix that contains it.
  func table(_ family: AddressFamily) -> NftablesTable? {
    guard families.contains(family) else { return nil }
    var table = NftablesTable(maps: [
      Name.addresses: NftablesMap(shape: .init(family: family, isInterval: false)),
      Name.prefixes: NftablesMap(shape: .init(family: family, isInterval: true)),
      Name.enis: NftablesMap(shape: .init(family: family, isInterval: false)),
    ])
    for (identifier, eni) in enis {
      let mark = NftablesRule(NftablesExpression.setMark(value: eni.mark, mask: mask))
      table.chains[identifier.text] = NftablesChain(rules: [mark])
      if let address = eni.address, address.family == family {
        table.maps[Name.enis]?.elements[IPPrefix(single: address)] = identifier.text
      }
      for source in eni.sources where source.family == family {
        table.maps[ENIMarks.map(for: source)]?.elements[source] = identifier.text
      }
    }
    let source = NftablesExpression.networkHeader(offset: family == .ipv4 ? 12 : 8, length: family == .ipv4 ? 4 : 16)
    let look = [Name.addresses, Name.prefixes].map { NftablesRule([source, .verdictMap($0)]) }
    // Packets that do not come from a pod cost only one comparison of the interface name.
    let fromPod = ([vethPrefix] + earlierVethPrefixes).map {
      NftablesRule(NftablesExpression.inputName(prefix: $0) + [.jump(Name.fromPods)])
    }
    let clear = NftablesRule(NftablesExpression.setMark(value: 0, mask: mask))
    table.chains[Name.fromPods] = NftablesChain(rules: [clear] + look)
    // A NodePort on an ENI's primary address: reply packets have a pod's source, or come from another node, and get the
    // ENI's address only after routing. Conntrack knows the original address.
    let answers = family == .ipv4 ? [NftablesRule(NftablesExpression.answersTo(Name.enis))] : []
    table.chains[Name.prerouting] = NftablesChain(
      hook: NftablesHook(type: "filter", number: NftablesHook.prerouting, priority: ENIMarks.preroutingPriority),
      rules: answers + fromPod)
    table.chains[Name.output] = NftablesChain(
      hook: NftablesHook(type: "route", number: NftablesHook.output, priority: ENIMarks.outputPriority),
      rules: answers + look)
    return table
  }

  static func map(for source: IPPrefix) -> String { source.isSingle ? Name.addresses : Name.prefixes }

  /// - Throws: `.invalid` if a mark, the mask or the veth prefix is out of range, an address belongs to two ENIs, or
  ///   two prefixes overlap.
  func check() throws(NftablesError) {
    let what = "build the source map"
    guard mask != 0 else { throw NftablesError(.invalid, what, detail: "the mask has no bits") }
    for prefix in [vethPrefix] + earlierVethPrefixes {
      let isWord = prefix.utf8.allSatisfy { 48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 }
      // A link's name has at most 15 bytes, 11 of which are the pod's digits.
      guard (1...4).contains(prefix.utf8.count), isWord else {
        throw NftablesError(.invalid, what, detail: "no prefix of link names: \(prefix.prefix(20))")
      }
    }
    var owners: [(IPPrefix, ENIID)] = []
    for (identifier, eni) in enis {
      guard eni.mark != 0, eni.mark & ~mask == 0 else {
        let mark = "0x\(String(eni.mark, radix: 16))"
        throw NftablesError(.invalid, what, detail: "mark \(mark) of \(identifier) is not within the mask")
      }
      if let stray = eni.sources.first(where: { !families.contains($0.family) }) {
        throw NftablesError(.invalid, what, detail: "\(stray) is of a family that pods do not have")
      }
      owners += eni.sources.map { ($0, identifier) }
    }
    for singles in [true, false] {
      let list = owners.filter { $0.0.isSingle == singles }.sorted { $0.0 < $1.0 }
      for (left, right) in zip(list, list.dropFirst()) where left.0.overlaps(right.0) {
        throw NftablesError(
          .invalid, what, detail: "\(left.0) of \(left.1) and \(right.0) of \(right.1) overlap")
      }
    }
  }
}

extension NftablesExpression {
  /// `ct direction reply ct original ip daddr vmap @MAP`
  fileprivate static func answersTo(_ map: String) -> [NftablesExpression] {
    [
      .conntrackLoad(key: conntrackDirection), isReply, .conntrackOriginal(key: conntrackDestination), .verdictMap(map),
    ]
  }
}
