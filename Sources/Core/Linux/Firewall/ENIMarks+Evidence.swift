// SPDX-License-Identifier: Apache-2.0
package import VPCModel

extension ENIMarks {
  /// Sources of running pods in the kernel's source map that the desired state lacks.
  package struct Evidence: Sendable, Hashable {
    /// Sources of running pods that the desired state lacks or has on another ENI: kept as in the kernel.
    package var kept: [ENIID: ENI] = [:]
    /// The part of `kept` that the desired state has on no ENI.
    package var unclaimed: [ENIID: ENI] = [:]
    /// Sources with running pods that the desired state has on a different ENI than the kernel.
    package var contested: Set<IPPrefix> = []

    package init() {}
  }

  /// Compares the desired state, which comes from one listing, with the kernel's: a listing can be stale, while pods
  /// run on addresses that it lacks.
  ///
  /// - Parameters:
  ///   - present: what the kernel routes (`led(in:)`).
  ///   - pods: addresses of pods that run.
  ///   - ledByMap: the pods routed by this map: a source missing in it leaves by the primary ENI. Other pods have their
  ///     own rules.
  ///   - unmarked: addresses and prefixes of the primary ENI, which are not in the map.
  package func evidence(
    in present: [ENIID: ENI], pods: some Sequence<IPAddress>, ledByMap: Set<IPAddress> = [], unmarked: Set<IPPrefix>
  ) -> Evidence {
    var found: [IPPrefix: ENIID] = [:]
    for (id, eni) in present { for source in eni.sources { found[source] = id } }
    var wanted: [IPPrefix: ENIID?] = [:]
    for source in unmarked { wanted[source] = .some(nil) }
    for (id, eni) in enis { for source in eni.sources { wanted[source] = id } }
    let lengths = Set(found.keys.map(\.length)).union(wanted.keys.map(\.length)).sorted(by: >)

    // A table without any element is no evidence: another program may have flushed it. The map of the ENIs' own addresses
    // has elements as long as there are secondary ENIs.
    let isFlushed = present.values.allSatisfy { $0.sources.isEmpty && $0.address == nil }
    var evidence = Evidence()
    for pod in pods {
      let around = lengths.compactMap { IPPrefix(containing: pod, length: $0) }
      let source = around.first { found[$0] != nil }
      let id = source.flatMap { found[$0] }
      if source == nil, isFlushed || !ledByMap.contains(pod) { continue }
      var isClaimed = false
      if let held = around.first(where: { wanted[$0] != nil }), let owner = wanted[held] {
        guard owner != id else { continue }
        evidence.contested.insert(held)
        isClaimed = true
      }
      guard let source, let id, let mark = enis[id]?.mark ?? present[id]?.mark, mark != 0 else { continue }
      evidence.kept[id, default: ENI(mark: mark)].sources.insert(source)
      if !isClaimed { evidence.unclaimed[id, default: ENI(mark: mark)].sources.insert(source) }
    }
    return evidence
  }

  /// What the kernel's table routes by each ENI. An agent of this node has managed these ENIs since boot. The mark is 0
  /// for a chain that another program changed.
  package static func led(in table: NftablesTable) -> [ENIID: ENI] {
    var led: [ENIID: ENI] = [:]
    for (name, chain) in table.chains {
      guard let id = ENIID(name) else { continue }
      led[id] = ENI(mark: mark(of: chain) ?? 0)
    }
    for (name, map) in table.maps {
      for (source, chain) in map.elements {
        guard let id = ENIID(chain) else { continue }
        if name == Name.enis { led[id]?.address = source.address } else { led[id]?.sources.insert(source) }
      }
    }
    return led
  }

  /// The mark that an ENI's chain sets.
  private static func mark(of chain: NftablesChain) -> UInt32? {
    for expression in chain.rules.first?.expressions ?? [] {
      if case .bitwise(_, xor: let value) = expression { return value == 0 ? nil : value }
    }
    return nil
  }
}
