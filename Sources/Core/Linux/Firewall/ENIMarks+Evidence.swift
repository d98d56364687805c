// SPDX-License-Identifier: Apache-2.0
package import VPCModel

extension ENIMarks {
  /// Sources of running pods in the kernel's source map that the desired state lacks.
  package struct Evidence: Sendable, Hashable {
    /// Sources of running pods that the desired state lacks or has on another ENI: kept as in the kernel.
    package var kept: [ENIID: ENI] = [:]
    /// Sources with running pods that the desired state has on a different ENI than the kernel.
    package var contested: Set<IPPrefix> = []

    package init() {}
  }

  /// Compares the desired state, which comes from one listing, with the kernel's: a listing can be stale, while pods
  /// run on addresses that it lacks.
  ///
  /// - Parameters:
  ///   - table: the table as read from the kernel.
  ///   - pods: addresses of pods that run.
  ///   - ledByMap: the pods routed by this map: a source missing in it leaves by the primary ENI. Other pods have their
  ///     own rules.
  ///   - unmarked: addresses and prefixes of the primary ENI, which are not in the map.
  package func evidence(
    in table: NftablesTable, pods: some Sequence<IPAddress>, ledByMap: Set<IPAddress> = [], unmarked: Set<IPPrefix>
  ) -> Evidence {
    var found: [IPPrefix: ENIID] = [:]
    for (name, map) in table.maps where name != Name.enis {
      for (source, chain) in map.elements { found[source] = ENIID(chain) }
    }
    var wanted: [IPPrefix: ENIID?] = [:]
    for source in unmarked { wanted[source] = .some(nil) }
    for (id, eni) in enis { for source in eni.sources { wanted[source] = id } }
    let lengths = Set(found.keys.map(\.length)).union(wanted.keys.map(\.length)).sorted(by: >)

    // A table without any element is no evidence: another program may have flushed it. The map of the ENIs' own addresses
    // has elements as long as there are secondary ENIs.
    let isFlushed = table.maps.values.allSatisfy(\.elements.isEmpty)
    var evidence = Evidence()
    for pod in pods {
      let around = lengths.compactMap { IPPrefix(containing: pod, length: $0) }
      let source = around.first { found[$0] != nil }
      let id = source.flatMap { found[$0] }
      if source == nil, isFlushed || !ledByMap.contains(pod) { continue }
      if let held = around.first(where: { wanted[$0] != nil }), let owner = wanted[held] {
        guard owner != id else { continue }
        evidence.contested.insert(held)
      }
      guard let source, let id, let mark = enis[id]?.mark ?? ENIMarks.mark(of: table.chains[id.text]) else { continue }
      evidence.kept[id, default: ENI(mark: mark)].sources.insert(source)
    }
    return evidence
  }

  /// The mark that an ENI's chain sets.
  private static func mark(of chain: NftablesChain?) -> UInt32? {
    for expression in chain?.rules.first?.expressions ?? [] {
      if case .bitwise(_, xor: let value) = expression { return value == 0 ? nil : value }
    }
    return nil
  }

  /// The ENIs in the kernel's map: an agent of this node has managed them since boot.
  package static func ledENIs(in table: NftablesTable) -> Set<ENIID> {
    Set(table.chains.keys.compactMap { ENIID($0) })
  }
}
