// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import Testing
import VPCLinux
import VPCModel

/// The operations that turn an existing nftables table into the wanted one.
@Suite struct FirewallDifferenceTests {
  static let shape = NftablesMap.Shape(family: .ipv4, isInterval: false)
  static let address = IPPrefix("10.0.0.1/32")!
  static let hook = NftablesHook(type: "filter", number: NftablesHook.prerouting, priority: -50)
  static let rule = NftablesRule([.metaLoad(key: 3)])

  static func table(
    _ chains: [String: NftablesChain] = [:], to chain: String? = nil, foreign: [String] = []
  ) -> NftablesTable {
    let elements = chain.map { [address: $0] } ?? [:]
    return NftablesTable(chains: chains, maps: ["m": NftablesMap(shape: shape, elements: elements)], foreign: foreign)
  }

  typealias Row = (name: String, present: NftablesTable?, wanted: NftablesTable?, operations: [NftablesOperation])

  static var rows: [Row] {
    let a = NftablesChain(rules: [rule])
    let b = NftablesChain(rules: [NftablesRule([.metaLoad(key: 3)], handle: 9)])
    let other = NftablesChain(rules: [NftablesRule([.other("log")], handle: 4)])
    let base = NftablesChain(hook: hook)
    let element = { NftablesElement(key: address, chain: $0) }
    return [
      ("nothing", nil, nil, []),
      ("no longer wanted", table(), nil, [.deleteTable]),
      ("equal but for the handle", table(["a": b], to: "a"), table(["a": a], to: "a"), []),
      (
        "new", nil, table(["a": a], to: "a"),
        [
          .addTable, .addChain("a", hook: nil), .addMap("m", shape),
          .addElements(map: "m", shape, [element("a")]), .addRule(chain: "a", rule),
        ]
      ),
      (
        "an element changes its chain, the old chain goes", table(["b": b], to: "b"), table(["a": a], to: "a"),
        [
          .addChain("a", hook: nil), .deleteElements(map: "m", shape, [element("a")]),
          .addElements(map: "m", shape, [element("a")]), .addRule(chain: "a", rule),
          .deleteRule(chain: "b", handle: 9), .deleteChain("b"),
        ]
      ),
      (
        "a rule that the model does not know", table(["a": other]), table(["a": a]),
        [.addRule(chain: "a", rule), .deleteRule(chain: "a", handle: 4)]
      ),
      (
        "another hook", table(["a": base]), table(["a": NftablesChain()]),
        [.deleteTable, .addTable, .addChain("a", hook: nil), .addMap("m", shape)]
      ),
      ("a stray base chain", table(["a": base]), table(), [.deleteTable, .addTable, .addMap("m", shape)]),
      ("something foreign", table(foreign: ["set x"]), table(), [.deleteTable, .addTable, .addMap("m", shape)]),
    ]
  }

  @Test(arguments: rows.indices) func difference(_ index: Int) {
    let row = Self.rows[index]
    let found = NftablesOperation.difference(from: row.present, to: row.wanted)
    // The chain that a deleted element points to does not matter.
    #expect(found.map(Self.plain) == row.operations.map(Self.plain), "\(row.name)")
  }

  static func plain(_ operation: NftablesOperation) -> NftablesOperation {
    guard case .deleteElements(let map, let shape, let elements) = operation else { return operation }
    return .deleteElements(map: map, shape, elements.map { NftablesElement(key: $0.key, chain: "any") })
  }
}
