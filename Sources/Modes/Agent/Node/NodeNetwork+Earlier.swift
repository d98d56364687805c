// SPDX-License-Identifier: Apache-2.0
//
// What was made under other settings keeps working until it ends (EarlierSettings):
//
//   pods whose veths begin with another prefix    marked, translated and looked after like all others
//   connections with another mark                 led to the primary ENI by the mark that they have
//
// Found at the start, before the first rule is written. Prefixes also later: the plugin's configuration may still name the
// old one for a moment, or name another one than the agent for ever.

internal import Logging
internal import VPCLinux
internal import VPCModel

extension NodeNetwork {
  /// Takes in what the kernel shows of earlier settings. Before any rule is written.
  func findEarlierSettings() throws {
    let sight = try PodPaths.Sight(
      .ipv4,
      links: Dictionary(try Link.list(on: socket).map { ($0.index, $0) }, uniquingKeysWith: { first, _ in first }),
      on: socket)
    var found = EarlierSettings()
    found.vethPrefixes = EarlierSettings.prefixes(links: sight.links.values, rules: sight.rules, routes: sight.routes)
      .subtracting([configuration.vethPrefix]).sorted()
    found.marks = EarlierSettings.marks(
      rules: sight.rules, today: configuration.usesPrimaryMark ? configuration.primaryMark : nil,
      taken: configuration.eniMarkMask)
    take(found)
  }

  private func take(_ now: EarlierSettings) {
    let before = earlier
    earlier = now
    veths.recognise(now.vethPrefixes)
    let prefixes = Set(now.vethPrefixes).subtracting(before.vethPrefixes)
    if !prefixes.isEmpty {
      logger.notice(
        "pods with a different veth prefix than AWS_VPC_K8S_CNI_VETHPREFIX are running; keeping rules for them",
        metadata: ["prefix": "\(configuration.vethPrefix)", "others": "\(prefixes.sorted())"])
    }
    let marks = now.marks.filter { !before.marks.contains($0) }
    if !marks.isEmpty {
      logger.notice(
        "connections with a connmark of earlier settings may be open; keeping its rules until they end",
        metadata: ["marks": "\(marks)"])
    }
  }

  /// Compares what is kept of earlier settings with all that runs now: takes in what is new, and lets go of what nobody uses
  /// any more. What it writes is no repair.
  ///
  /// - Parameter sight: of all links.
  func settleEarlierSettings(_ sight: PodPaths.Sight) throws {
    var now = earlier
    let running = Set(
      sight.links.values.compactMap { $0.kind == "veth" ? HostVethName.split($0.name)?.prefix : nil })
    let found = EarlierSettings.prefixes(links: sight.links.values, rules: sight.rules, routes: sight.routes)
    now.vethPrefixes = Set(earlier.vethPrefixes).intersection(running).union(found)
      .subtracting([configuration.vethPrefix]).sorted()
    now.marks = earlier.marks.filter { mark in
      // What the kernel does not tell is taken to be in use.
      (try? ConnectionTracking.hasConnections(marked: mark)) ?? true
    }
    guard now != earlier else { return }
    let ended = earlier.marks.filter { !now.marks.contains($0) }
    take(now)
    veths.see(all: sight.links.values)
    try marks?.apply(wantedMarks)
    guard !ended.isEmpty else { return }
    try nodeRules.apply(on: socket)
    logger.notice("no connection with a connmark of earlier settings is left", metadata: ["marks": "\(ended)"])
  }

  /// Takes in a prefix that a route to a pod has just shown.
  ///
  /// - Returns: whether there was one: the firewall's rules must be written for it.
  func recognisesVeths(_ changes: NodeChanges) throws -> Bool {
    for route in changes.addedRoutes where route.destination.isSingle && route.table == routing.routeTable {
      guard let device = route.device, !veths.contains(device),
        !enis.values.contains(where: { $0.wiring?.link == device }),
        let link = try Link.find(index: device, on: socket)
      else { continue }
      let rules = route.table == .main ? Array(changes.addedRules) : []
      let prefixes = EarlierSettings.prefixes(links: [link], rules: rules, routes: [route]).subtracting(veths.prefixes)
      guard !prefixes.isEmpty else { continue }
      var now = earlier
      now.vethPrefixes = prefixes.union(earlier.vethPrefixes).sorted()
      take(now)
      veths.see(all: try Link.list(on: socket))
      try marks?.apply(wantedMarks)
      return true
    }
    return false
  }
}
