// SPDX-License-Identifier: Apache-2.0
package import VPCModel

/// One change to one table.
package enum NftablesOperation: Sendable, Hashable {
  /// Succeeds if the table exists.
  case addTable
  /// With all its content; the table must exist.
  case deleteTable
  case addChain(String, hook: NftablesHook?)
  /// With its rules; no rule or element may still refer to it.
  case deleteChain(String)
  case addMap(String, NftablesMap.Shape)
  /// Appends.
  case addRule(chain: String, NftablesRule)
  case deleteRule(chain: String, handle: UInt64)
  /// Existing elements with the same chain are no error; with another chain they are (EBUSY).
  case addElements(map: String, NftablesMap.Shape, [NftablesElement])
  /// Missing elements are an error (ENOENT).
  case deleteElements(map: String, NftablesMap.Shape, [NftablesElement])
}

/// An address or prefix, and the chain that the map sends it to.
package struct NftablesElement: Sendable, Hashable, Comparable {
  package let key: IPPrefix
  package let chain: String

  package init(key: IPPrefix, chain: String) {
    self.key = key
    self.chain = chain
  }

  package static func < (left: NftablesElement, right: NftablesElement) -> Bool { left.key < right.key }
}

extension NftablesOperation: CustomStringConvertible {
  /// The operation in an error: `add chain eni-01`. Names up to three elements.
  package var description: String {
    switch self {
    case .addTable: "add table"
    case .deleteTable: "delete table"
    case .addChain(let name, let hook): hook == nil ? "add chain \(name)" : "add base chain \(name)"
    case .deleteChain(let name): "delete chain \(name)"
    case .addMap(let name, _): "add map \(name)"
    case .addRule(let chain, _): "add rule to chain \(chain)"
    case .deleteRule(let chain, let handle): "delete rule \(handle) of chain \(chain)"
    case .addElements(let map, _, let elements): "add \(Self.list(elements)) to map \(map)"
    case .deleteElements(let map, _, let elements): "delete \(Self.list(elements)) from map \(map)"
    }
  }

  private static func list(_ elements: [NftablesElement]) -> String {
    let shown = elements.prefix(3).map { $0.key.isSingle ? "\($0.key.address)" : "\($0.key)" }
    return shown.joined(separator: ", ") + (elements.count > 3 ? " and \(elements.count - 3) more" : "")
  }
}

extension NftablesOperation {
  /// The operations that turn `present` into `wanted`, in an order that the kernel accepts in one transaction.
  ///
  /// Chains, maps and their elements come before references to them; deletions come last. A table whose immutable parts
  /// differ (a hook, the kind of a map, an object that the model cannot express) is replaced as a whole, also
  /// atomically. Empty if both are equal.
  package static func difference(from present: NftablesTable?, to wanted: NftablesTable?) -> [NftablesOperation] {
    guard let wanted else { return present == nil ? [] : [.deleteTable] }
    guard let present else { return [.addTable] + changes(from: NftablesTable(), to: wanted) }
    let rebuilt =
      !present.foreign.isEmpty
      || present.maps.contains { name, map in wanted.maps[name]?.shape != map.shape }
      || present.chains.contains { name, chain in
        wanted.chains[name].map { $0.hook != chain.hook } ?? (chain.hook != nil)
      }
    if rebuilt { return [.deleteTable, .addTable] + changes(from: NftablesTable(), to: wanted) }
    return changes(from: present, to: wanted)
  }

  private static func changes(from present: NftablesTable, to wanted: NftablesTable) -> [NftablesOperation] {
    var additions: [NftablesOperation] = []
    var removals: [NftablesOperation] = []
    let names = wanted.chains.keys.sorted()
    for name in names where present.chains[name] == nil {
      additions.append(.addChain(name, hook: wanted.chains[name]?.hook))
    }
    for (name, map) in wanted.maps.sorted(by: { $0.key < $1.key }) {
      let old = present.maps[name]
      if old == nil { additions.append(.addMap(name, map.shape)) }
      // A key that changes its chain is deleted and added in one transaction: no packet sees the gap.
      let gone = (old?.elements ?? [:]).filter { map.elements[$0.key] != $0.value }
      let new = map.elements.filter { old?.elements[$0.key] != $0.value }
      if !gone.isEmpty { additions.append(.deleteElements(map: name, map.shape, elements(gone))) }
      if !new.isEmpty { additions.append(.addElements(map: name, map.shape, elements(new))) }
    }
    for name in names {
      let old = present.chains[name]?.rules ?? []
      let new = wanted.chains[name]?.rules ?? []
      guard old != new else { continue }
      additions += new.map { .addRule(chain: name, $0) }
      removals += old.map { .deleteRule(chain: name, handle: $0.handle) }
    }
    // A deleted chain may refer to another deleted one: all rules first, then the chains.
    let stale = present.chains.keys.filter { wanted.chains[$0] == nil }.sorted()
    for name in stale {
      removals += (present.chains[name]?.rules ?? []).map { .deleteRule(chain: name, handle: $0.handle) }
    }
    return additions + removals + stale.map { .deleteChain($0) }
  }

  private static func elements(_ map: [IPPrefix: String]) -> [NftablesElement] {
    map.map { NftablesElement(key: $0.key, chain: $0.value) }.sorted()
  }
}
