// SPDX-License-Identifier: Apache-2.0

/// What EC2 allows an instance type's network.
package struct InstanceLimits: Sendable, Hashable {
  package enum Hypervisor: String, Sendable { case nitro, xen, unknown }

  /// ENIs on the default network card, the primary included.
  package var eniLimit: Int
  /// IPv4 addresses of one ENI, its own included.
  package var ipv4Limit: Int
  /// ENIs of each network card, by the card's index.
  package var cards: [Int]
  package var hypervisor: Hypervisor
  package var isBareMetal: Bool

  package init(
    eniLimit: Int, ipv4Limit: Int, cards: [Int]? = nil, hypervisor: Hypervisor = .nitro, isBareMetal: Bool = false
  ) {
    self.eniLimit = eniLimit
    self.ipv4Limit = ipv4Limit
    self.cards = cards ?? [eniLimit]
    self.hypervisor = hypervisor
    self.isBareMetal = isBareMetal
  }

  /// Prefixes are delegated to Nitro and bare-metal instances only.
  package var supportsPrefixes: Bool { hypervisor == .nitro || isBareMetal }
}
