// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel

/// The source map: which ENI a pod's packets leave by, derived from the addresses of each ENI.
extension NodeNetwork {
  /// The kernel's map is evidence for running pods: addresses that the listing lacks, or shows elsewhere, stay
  /// unchanged.
  func keepWhatRuns() throws -> Set<IPPrefix> {
    guard let marks, let present = try marks.read(.ipv4) else { return [] }
    let pods = Set(try podRoutes(to: podVeths()).map(\.address))
    let primary = enis.values.filter(\.isPrimary).reduce(into: Set<IPPrefix>()) { $0.formUnion($1.slots) }
    let ledByMap = try Route.list(table: .pods, family: .ipv4, on: socket).filter(\.destination.isSingle)
    let evidence = wantedMarks.evidence(
      in: present, pods: pods, ledByMap: Set(ledByMap.map(\.destination.address)), unmarked: primary)
    for id in enis.keys { enis[id]?.slots.subtract(evidence.contested) }
    kept = evidence.kept
    if !kept.isEmpty {
      logger.warning(
        "ENI listing lacks addresses that running pods use; keeping their routes and asking EC2 again",
        metadata: ["kept": "\(kept.map { "\($0.key): \($0.value.sources.sorted())" }.sorted())"])
    }
    return evidence.contested
  }

  /// ENIs that an agent has managed since boot, from the kernel's source map; nil if there is none.
  func ledENIs() throws -> Set<ENIID>? {
    openMarks()
    return try marks?.read(.ipv4).map { ENIMarks.ledENIs(in: $0) }
  }

  /// MACs of every link in the node's namespace: attached hardware, whatever a listing says.
  func linkMACs() throws -> Set<MACAddress> { Set(try Link.list(on: socket).compactMap(\.mac)) }

  /// The desired source map.
  var wantedMarks: ENIMarks {
    var wanted = ENIMarks(mask: configuration.eniMarkMask, vethPrefix: configuration.vethPrefix)
    wanted.earlierVethPrefixes = earlier.vethPrefixes
    for (id, eni) in enis {
      wanted.enis[id] = eni.mark.map { ENIMarks.ENI(mark: $0, sources: eni.slots, address: eni.address) }
    }
    for (id, eni) in kept { wanted.enis[id, default: ENIMarks.ENI(mark: eni.mark)].sources.formUnion(eni.sources) }
    return wanted
  }

  /// Routes packets from more addresses by this ENI. Does nothing for the primary ENI and in the per-pod scheme.
  ///
  /// - Parameter sources: addresses that EC2 has just assigned to the ENI; no other ENI has them any more.
  /// - Throws: `NodeNetworkError.inUse` if a running pod uses one of them on another ENI; nothing is changed then.
  func addSources(_ sources: [IPPrefix], of eni: ENIID) throws {
    for (other, taken) in takenFromOthers(by: eni, sources) {
      if let pod = try runningPods(in: taken).first { throw NodeNetworkError.inUse(pod.address, other, eni) }
    }
    let isMoved = claim(sources, for: eni)
    setSlots(of: eni) { $0.formUnion(sources) }
    guard let marks else { return }
    if isMoved { return _ = try marks.apply(wantedMarks) }
    if enis[eni]?.mark != nil { try marks.add(sources, to: eni) }
  }

  /// Addresses and prefixes of other ENIs in this map.
  private func takenFromOthers(by eni: ENIID, _ sources: [IPPrefix]) -> [(ENIID, Set<IPPrefix>)] {
    var taken: [(ENIID, Set<IPPrefix>)] = []
    for (id, other) in enis where id != eni { taken.append((id, other.slots.intersection(sources))) }
    for (id, other) in kept where id != eni {
      taken.append((id, other.sources.filter { old in sources.contains { $0.overlaps(old) } }))
    }
    return taken.filter { !$0.1.isEmpty }
  }

  /// The ones that running pods use, according to the kernel's routes.
  func runningPods(in sources: Set<IPPrefix>) throws -> Set<IPPrefix> {
    guard !sources.isEmpty else { return [] }
    let pods = try podRoutes(to: podVeths()).map(\.address)
    return sources.filter { source in pods.contains(where: source.contains) }
  }

  /// Former addresses of an ENI that running pods use and no other ENI has: they keep their routes.
  func keepInUse(of eni: ENIID, besides slots: Set<IPPrefix>) throws {
    let old = (enis[eni]?.slots ?? []).union(kept[eni]?.sources ?? [])
    let former = old.subtracting(slots)
    guard !former.isEmpty else { return kept[eni] = nil }
    let others = enis.filter { $0.key != eni }.values.reduce(into: slots) { $0.formUnion($1.slots) }
    let left = try runningPods(in: former.filter { old in !others.contains { $0.overlaps(old) } })
    guard let mark = enis[eni]?.mark ?? kept[eni]?.mark, !left.isEmpty else { return kept[eni] = nil }
    kept[eni] = ENIMarks.ENI(mark: mark, sources: left)
  }

  /// An address belongs to one ENI: these are removed from any other ENI.
  ///
  /// - Returns: whether another ENI had one.
  @discardableResult
  func claim(_ sources: some Collection<IPPrefix>, for eni: ENIID) -> Bool {
    var isMoved = false
    for id in enis.keys where id != eni {
      guard enis[id]?.slots.isDisjoint(with: sources) == false else { continue }
      setSlots(of: id) { $0.subtract(sources) }
      isMoved = true
    }
    for (id, eni) in kept {
      let left = eni.sources.filter { old in !sources.contains { $0.overlaps(old) } }
      guard left.count < eni.sources.count else { continue }
      kept[id] = left.isEmpty ? nil : ENIMarks.ENI(mark: eni.mark, sources: left)
      isMoved = true
    }
    return isMoved
  }

  func removeSources(_ sources: [IPPrefix], of eni: ENIID) throws {
    setSlots(of: eni) { $0.subtract(sources) }
    if enis[eni]?.mark != nil { try marks?.delete(sources, from: eni) }
  }

  private func setSlots(of eni: ENIID, _ change: (inout Set<IPPrefix>) -> Void) {
    guard var managed = enis[eni] else { return }
    change(&managed.slots)
    managed.wiring?.wanted.slots = managed.slots
    enis[eni] = managed
  }

  /// The ENI's mark: its device index in the lowest bits of the mask, so that it is the same after a restart.
  func mark(of eni: ENIObservation) throws -> UInt32? {
    guard !eni.isPrimary else { return nil }
    let mask = configuration.eniMarkMask
    let value = UInt32(eni.device) << UInt32(mask.trailingZeroBitCount)
    guard eni.card == 0, value != 0, value & ~mask == 0 else {
      throw NodeNetworkError.noMark(eni.id, device: eni.device, card: eni.card, mask: mask)
    }
    return value
  }
}
