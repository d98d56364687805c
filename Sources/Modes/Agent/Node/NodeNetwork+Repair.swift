// SPDX-License-Identifier: Apache-2.0
//
// The repair's view of the node network: what to check, what is wrong, and how to repair it. NodeRepair decides what is
// repaired when.

internal import Logging
internal import VPCLinux
internal import VPCModel
internal import VPCSystem

extension NodeNetwork {
  /// The agent's own sockets, whose changes need no check.
  var ownPorts: NodeMonitor.OwnPorts {
    NodeMonitor.OwnPorts(
      route: [socket.port, cleanup.port], netfilter: Set([nftablesPort].compactMap { $0 }).subtracting([0]))
  }

  /// Processes kernel notifications.
  ///
  /// - Returns: what must be checked.
  func follow(_ changes: NodeChanges) -> RepairScope {
    let gone = veths.gone
    let fresh = veths.follow(changes)
    if veths.gone != gone { podEndedBell.ring() }
    var isNewPrefix = false
    do {
      isNewPrefix = try recognisesVeths(changes)
    } catch {
      // The check once a minute finds it.
      logger.warning(
        "cannot read a new pod interface; will retry within a minute", metadata: ["error": "\(CauseChain.text(error))"])
    }
    var known = RepairScope.Known(veths: veths, fresh: fresh, routing: routing)
    for (id, setUp) in setUp {
      known.eniLinks[setUp.link] = id
      guard wanted.enis[id]?.isPrimary == false else { continue }
      known.eniTables[setUp.table] = id
      known.secondary.insert(id)
    }
    var scope = RepairScope(changes, known)
    scope.hostRules = scope.hostRules || isNewPrefix
    return scope
  }

  // MARK: rules, ENIs, the source map

  func faults(in scope: RepairScope) throws -> [NodeFault] {
    var faults: [NodeFault] = []
    if scope.rules {
      for family in settings.families {
        faults += try wanted.rules(family, scheme).verify(on: socket).map { NodeFault($0) }
      }
    }
    for (id, setUp) in setUp where scope.allENIs || scope.enis.contains(id) {
      guard let eni = wanted.enis[id], let wiring = wanted.wiring(of: eni, scheme) else { continue }
      // A link that is gone, or whose index was reused: EC2's listing will show it.
      guard let link = try Link.find(index: setUp.link, on: socket), link.mac == setUp.mac else { continue }
      faults += try wiring.verify(link, on: socket).map { NodeFault($0) }
    }
    if scope.sourceMap, let marks {
      let differences = try marks.differences(from: wantedMarks)
      if let first = differences.first {
        let more = differences.count > 1 ? " and \(differences.count - 1) more" : ""
        faults.append(
          NodeFault(
            subject: "nftables table \(ENIMarkTable.defaultName)", kind: .nftables,
            text: "source map lacks: \(first)\(more)",
            mend: .sourceMap))
      }
    }
    return faults
  }

  // MARK: pods

  /// Reads the kernel's state for pods. Ask the pool for the assignments afterwards, in this order: every rule or route
  /// read then belongs to a pod that the pool already knows.
  func sight(of scope: RepairScope) throws -> PodPaths.Sight {
    var links: [UInt32: Link] = [:]
    if scope.allPods || scope.leftovers {
      let list = try Link.list(on: socket)
      let gone = veths.gone
      veths.see(all: list)
      if veths.gone != gone { podEndedBell.ring() }
      for link in list { links[link.index] = link }
    } else {
      for index in scope.veths { links[index] = try Link.find(index: index, on: socket) }
    }
    let sight = try PodPaths.Sight(settings.families, links: links, on: socket)
    if scope.allPods, scope.leftovers { try settleEarlierSettings(sight) }
    return sight
  }

  /// Faults of pods' host sides, and leftovers of ended pods or of the other scheme.
  ///
  /// - Parameters:
  ///   - holders: living pods with an address, requested after `sight` was read.
  ///   - held: every assigned address.
  ///   - unixNanoseconds: a check of all pods skips pods that got their address within the last seconds: their plugin
  ///     is at work.
  func podFaults(
    _ seen: PodPaths.Sight, _ scope: RepairScope, _ holders: [PodHolder], held: Set<IPAddress>,
    unixNanoseconds: Int64
  ) throws -> [NodeFault] {
    var sight = seen
    let routed = routedVeths(sight)
    var pods: [PodPaths.Pod] = []
    for holder in holders {
      guard let veth = veth(of: holder, routed) else { continue }
      let isAsked = scope.pods.contains(holder.address) || scope.veths.contains(veth)
      // Pods present at startup were verified then.
      let age = unixNanoseconds.subtractingReportingOverflow(holder.sinceUnixNanoseconds)
      let isYoung =
        holder.sinceUnixNanoseconds > startedUnixNanoseconds && !age.overflow
        && (0..<Restoration.youth.saturatedNanoseconds).contains(age.partialValue)
      guard isAsked || (scope.allPods || scope.leftovers) && !isYoung else { continue }
      if sight.links[veth] == nil { sight.links[veth] = try Link.find(index: veth, on: socket) }
      pods.append(
        PodPaths.Pod(address: holder.address, veth: veth, mac: veths[veth]?.mac, eniTable: holder.eniTable))
    }
    let paths = PodPaths(routing: routing, pods: pods)
    let broken = paths.faults(in: sight)
    let adopted = adopted(paths, in: sight)
    var faults = broken.flatMap { address, differences in
      differences.map { NodeFault($0, reason: adopted.contains(address) ? .takeover : .repair) }
    }
    faults += strayMACs(sight, besides: faults)
    guard scope.leftovers else { return faults }
    let holds = Dictionary(holders.map { ($0.address, $0) }, uniquingKeysWith: { first, _ in first })
    let known = Set(pods.map(\.address))
    let leftovers = paths.leftovers(
      in: sight,
      // A skipped pod has no leftovers.
      isOurs: { address in (!held.contains(address) || known.contains(address)) && wanted.eni(of: address) != nil },
      stands: { pod in
        guard broken[pod.address] == nil, let id = holds[pod.address]?.eni, setUp[id] != nil else { return false }
        return wanted.enis[id]?.sources.contains { $0.contains(pod.address) } ?? false
      }, isVeth: veths.contains)
    return faults + leftovers.map { NodeFault($0, reason: .takeover) }
  }

  private func veth(of holder: PodHolder, _ routed: [IPAddress: UInt32]) -> UInt32? {
    // Without a pod name, only the route identifies the pod's veth.
    guard let suffix = holder.vethSuffix else { return routed[holder.address] }
    return veths.index(suffix: suffix)
  }

  private func routedVeths(_ sight: PodPaths.Sight) -> [IPAddress: UInt32] {
    var found: [IPAddress: UInt32] = [:]
    for route in sight.routes where route.destination.isSingle {
      guard let device = route.device, veths.contains(device) else { continue }
      found[route.destination.address] = device
    }
    return found
  }

  /// Pods with a route of the other scheme only: another plugin connected them, nobody removed their route.
  private func adopted(_ paths: PodPaths, in sight: PodPaths.Sight) -> Set<IPAddress> {
    let here = paths.routing.routeTable
    var tables: [IPAddress: Set<RouteTable>] = [:]
    for route in sight.routes where route.destination.isSingle {
      tables[route.destination.address, default: []].insert(route.table)
    }
    return Set(tables.filter { !$0.value.contains(here) }.keys)
  }

  /// A veth whose MAC was changed before its pod got an address.
  private func strayMACs(_ sight: PodPaths.Sight, besides faults: [NodeFault]) -> [NodeFault] {
    let told = Set(faults.map(\.subject))
    return sight.links.values.compactMap { link in
      guard let mac = veths[link.index]?.mac, link.mac != mac else { return nil }
      let fault = NodeFault(.mac(link: link.index, found: link.mac, wanted: mac))
      return told.contains(fault.subject) ? nil : fault
    }
  }

  /// Whether the other scheme is no longer needed: all ENIs are set up and no pod has state of it.
  ///
  /// - Parameter sight: read after the last repair.
  func isTakenOver(_ seen: PodPaths.Sight, _ holders: [PodHolder]) -> Bool {
    guard scheme.otherStands, wanted.enis.keys.allSatisfy({ setUp[$0] != nil }) else { return false }
    let routed = routedVeths(seen)
    let paths = PodPaths(
      routing: routing,
      pods: holders.compactMap { holder in
        guard let veth = veth(of: holder, routed), seen.links[veth] != nil else { return nil }
        return PodPaths.Pod(address: holder.address, veth: veth, eniTable: holder.eniTable)
      })
    guard paths.faults(in: seen).isEmpty else { return false }
    // In the per-pod scheme, a pod whose ENI is unknown has no rule.
    return routing != .perPodRules || holders.allSatisfy { $0.eniTable != nil }
  }

  // MARK: mending

  /// Repairs faults, additions before deletions.
  ///
  /// - Returns: the error of each fault that could not be repaired; nil for success.
  func mend(_ faults: [NodeFault]) throws -> [(any Error)?] {
    var failures = [(any Error)?](repeating: nil, count: faults.count)
    for isDeletion in [false, true] {
      var places: [Int] = []
      var differences: [NodeDifference] = []
      for (index, fault) in faults.enumerated() where fault.isDeletion == isDeletion {
        switch fault.mend {
        case .kernel(let difference):
          places.append(index)
          differences.append(difference)
        case .sourceMap:
          do {
            try marks?.apply(wantedMarks)
          } catch {
            failures[index] = error
          }
        case .hostRules: break
        }
      }
      for (index, failure) in zip(places, try NodeDifference.mendEach(differences, on: socket)) {
        failures[index] = failure
      }
    }
    return failures
  }

  /// Traces in the kernel of who made the change.
  func evidence(_ faults: [NodeFault], _ origin: NodeChanges.Origin) throws -> Culprit.Evidence {
    var evidence = Culprit.Evidence(kinds: Set(faults.map(\.kind)), programs: origin.programs)
    // A port that is no process ID gives no hint.
    evidence.senders = Set(origin.ports.compactMap(ProcessNames.name(of:))).intersection(Culprit.suspects.keys)
    evidence.running = ProcessNames.running(among: Set(Culprit.suspects.keys))
    for family in settings.families where !evidence.showsCloudSetup {
      evidence.showsCloudSetup = try PolicyRule.list(family, on: socket).contains(where: Culprit.isCloudSetup)
    }
    evidence.lostMainRule = faults.contains { fault in
      guard case .kernel(.missingRule(let rule)) = fault.mend else { return false }
      return rule.priority == RulePriority.main
    }
    return evidence
  }
}
