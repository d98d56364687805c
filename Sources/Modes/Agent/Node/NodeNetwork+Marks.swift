// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// The source map: which ENI a pod's packets leave by.
extension NodeNetwork {
  /// ENIs that an agent has managed since boot, from the kernel's source map; nil if there is none.
  func ledENIs() throws -> Set<ENIID>? {
    openMarks()
    var led: Set<ENIID>?
    for family in settings.families {
      if let found = try marks?.led(family) { led = (led ?? []).union(found.keys) }
    }
    return led
  }

  /// MACs of every link in the node's namespace: attached hardware, whatever a listing says.
  func linkMACs() throws -> Set<MACAddress> { Set(try Link.list(on: socket).compactMap(\.mac)) }

  /// The wanted source map, with what running pods use besides.
  var wantedMarks: ENIMarks {
    var marks = wanted.marks(scheme)
    for (id, eni) in kept { marks.enis[id, default: ENIMarks.ENI(mark: eni.mark)].sources.formUnion(eni.sources) }
    return marks
  }

  /// Brings the source map to the wanted state. Sources that running pods use are removed only if another ENI has them
  /// by now.
  ///
  /// - Parameter givenBack: sources that the pool gave back. It knows that no pod has them, although the host side of the
  ///   last one may still be there.
  func convergeMarks(givenBack: Set<IPPrefix>) throws {
    guard let marks else { return }
    let present = marks.written?.enis ?? [:]
    let wantedNow = wanted.marks(scheme)
    let leaving = present.contains { id, eni in !eni.sources.isSubset(of: wantedNow.enis[id]?.sources ?? []) }
    kept = [:]
    if leaving {
      let evidence = wantedNow.evidence(in: present, pods: try runningPods(), unmarked: wanted.unmarked)
      for (id, eni) in evidence.unclaimed {
        let sources = eni.sources.subtracting(givenBack)
        if !sources.isEmpty { kept[id] = ENIMarks.ENI(mark: eni.mark, sources: sources) }
      }
    }
    try marks.update(to: wantedMarks)
  }

  /// Addresses of pods that run, according to the kernel's routes.
  func runningPods() throws -> Set<IPAddress> { Set(try podRoutes(to: podVeths()).map(\.address)) }

  /// EC2 has assigned addresses to an ENI: none of them may be in use by a running pod on another one.
  ///
  /// - Throws: `NodeNetworkError.inUse`.
  func refuse(_ arriving: [IPPrefix], for eni: ENIID) throws {
    let (exact, prefixes) = (Set(arriving), arriving.filter { !$0.isSingle })
    let holders = wanted.enis.mapValues(\.sources).map { $0 } + kept.mapValues(\.sources).map { $0 }
    let taken = holders.filter { $0.key != eni }.flatMap { holder in
      holder.value
        .filter { old in exact.contains(old) || (old.isSingle ? prefixes : arriving).contains { $0.overlaps(old) } }
        .map { (eni: holder.key, source: $0) }
    }
    guard !taken.isEmpty else { return }
    let pods = try runningPods()
    for (other, source) in taken {
      if let pod = pods.first(where: source.contains) { throw NodeNetworkError.inUse(pod, other, eni) }
    }
  }
}
