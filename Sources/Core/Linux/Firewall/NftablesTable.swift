// SPDX-License-Identifier: Apache-2.0
package import VPCModel

/// Which table: its family and name.
package struct NftablesTableID: Sendable, Hashable, CustomStringConvertible {
  package let family: AddressFamily
  package let name: String

  package init(family: AddressFamily, name: String) {
    self.family = family
    self.name = name
  }

  /// As `nft` writes it: `table ip vpc-cni`.
  package var description: String { "table \(family == .ipv4 ? "ip" : "ip6") \(name)" }
}

/// The content of one nftables table, wanted or found, limited to the features that this project uses.
package struct NftablesTable: Sendable, Hashable {
  /// By name.
  package var chains: [String: NftablesChain]
  /// By name.
  package var maps: [String: NftablesMap]
  /// Descriptions of found objects that this model cannot express (a set of another kind, a flag on the table). A table
  /// with any of them is replaced as a whole. Empty in a wanted table.
  package var foreign: [String]

  package init(chains: [String: NftablesChain] = [:], maps: [String: NftablesMap] = [:], foreign: [String] = []) {
    self.chains = chains
    self.maps = maps
    self.foreign = foreign
  }
}

/// A chain: its hook, if any, and its rules in order.
package struct NftablesChain: Sendable, Hashable {
  package var hook: NftablesHook?
  package var rules: [NftablesRule]

  package init(hook: NftablesHook? = nil, rules: [NftablesRule] = []) {
    self.hook = hook
    self.rules = rules
  }
}

/// The hook of a base chain. Its policy is accept.
package struct NftablesHook: Sendable, Hashable {
  /// `filter`, `route` or `nat`.
  package let type: String
  /// NF_INET_PRE_ROUTING and so on.
  package let number: UInt32
  package let priority: Int32

  package init(type: String, number: UInt32, priority: Int32) {
    self.type = type
    self.number = number
    self.priority = priority
  }

  /// NF_INET_PRE_ROUTING.
  package static let prerouting: UInt32 = 0
  /// NF_INET_FORWARD.
  package static let forward: UInt32 = 2
  /// NF_INET_LOCAL_OUT.
  package static let output: UInt32 = 3
  /// NF_INET_POST_ROUTING.
  package static let postrouting: UInt32 = 4
}

/// A rule: its expressions, and the kernel's handle if it was read.
package struct NftablesRule: Sendable, Hashable {
  package let expressions: [NftablesExpression]
  /// NFTNL_RULE_HANDLE; 0 in a wanted rule. Not part of equality.
  package let handle: UInt64

  package init(_ expressions: [NftablesExpression], handle: UInt64 = 0) {
    self.expressions = expressions
    self.handle = handle
  }

  package static func == (left: NftablesRule, right: NftablesRule) -> Bool {
    left.expressions.count == right.expressions.count
      && zip(left.expressions, right.expressions).allSatisfy { $0.matches($1) }
  }

  package func hash(into hasher: inout Hasher) { hasher.combine(expressions.count) }
}

/// A verdict map from source addresses to chains.
package struct NftablesMap: Sendable, Hashable {
  /// The immutable parts of a map.
  package struct Shape: Sendable, Hashable {
    package let family: AddressFamily
    /// Holds prefixes (NFT_SET_INTERVAL, a tree) rather than single addresses (a hash table).
    package let isInterval: Bool

    package init(family: AddressFamily, isInterval: Bool) {
      self.family = family
      self.isInterval = isInterval
    }
  }

  package let shape: Shape
  /// The chain of each address or prefix. Full length only, unless the shape says interval.
  package var elements: [IPPrefix: String]

  package init(shape: Shape, elements: [IPPrefix: String] = [:]) {
    self.shape = shape
    self.elements = elements
  }
}
