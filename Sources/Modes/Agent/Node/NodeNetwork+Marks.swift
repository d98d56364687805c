// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel

/// Which ENI the packets of which pod leave by: the source map, derived from what each ENI has.
extension NodeNetwork {
  /// The kernel's map is evidence for pods that run: what the listing leaves out, or shows elsewhere, stays as it is.
  func keepWhatRuns() throws -> Set<IPPrefix> {
    guard let marks, let present = try marks.read(.ipv4) else { return [] }
    let pods = Set(try podRoutes(to: podVeths()).map(\.address))
    let primary = enis.values.filter(\.isPrimary).reduce(into: Set<IPPrefix>()) { $0.formUnion($1.slots) }
    let evidence = wantedMarks.evidence(in: present, pods: pods, unmarked: primary)
    for id in enis.keys { enis[id]?.slots.subtract(evidence.contested) }
    kept = evidence.kept
    if !kept.isEmpty {
      logger.warning(
        "the listing of ENIs does not show addresses that running pods use; keeping their routes and asking EC2 again",
        metadata: ["kept": "\(kept.map { "\($0.key): \($0.value.sources.sorted())" }.sorted())"])
    }
    return evidence.contested
  }

  /// ENIs that an agent of this node managed since the machine's start, by the kernel's source map; nil where there is
  /// none.
  func ledENIs() throws -> Set<ENIID>? {
    openMarks()
    return try marks?.read(.ipv4).map { ENIMarks.ledENIs(in: $0) }
  }

  /// MACs of every link in the node's namespace: hardware that is there, whatever a listing says.
  func linkMACs() throws -> Set<MACAddress> { Set(try Link.list(on: socket).compactMap(\.mac)) }

  /// What the source map must hold.
  var wantedMarks: ENIMarks {
    var wanted = ENIMarks(mask: configuration.eniMarkMask, vethPrefix: configuration.vethPrefix)
    wanted.earlierVethPrefixes = earlier.vethPrefixes
    for (id, eni) in enis {
      wanted.enis[id] = eni.mark.map { ENIMarks.ENI(mark: $0, sources: eni.slots, address: eni.address) }
    }
    for (id, eni) in kept { wanted.enis[id, default: ENIMarks.ENI(mark: eni.mark)].sources.formUnion(eni.sources) }
    return wanted
  }

  /// Leads packets from more addresses by this ENI. Nothing to do for the primary and in the per-pod scheme.
  ///
  /// - Parameter sources: what EC2 has just given to the ENI; no other has it any more.
  func addSources(_ sources: [IPPrefix], of eni: ENIID) throws {
    let isMoved = claim(sources, for: eni)
    setSlots(of: eni) { $0.formUnion(sources) }
    guard let marks else { return }
    if isMoved { return _ = try marks.apply(wantedMarks) }
    if enis[eni]?.mark != nil { try marks.add(sources, to: eni) }
  }

  /// An address belongs to one ENI: whatever had these before has them no more.
  ///
  /// - Returns: whether anything had.
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
