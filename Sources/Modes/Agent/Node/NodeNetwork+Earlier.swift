// SPDX-License-Identifier: Apache-2.0
//
// Pods and connections created under other settings keep working until they end (EarlierSettings):
//
//   pods with another veth prefix    marked, translated and repaired like all others
//   connections with another mark    routed by the primary ENI by their own mark
//
// Detected at startup, before the first rule is written. Prefixes are also detected later: the plugin's configuration
// may name the old prefix for a moment, or a different one permanently.

internal import Logging
internal import VPCLinux
internal import VPCModel

extension NodeNetwork {
  /// Detects earlier settings in the kernel. Runs before any rule is written.
  func findEarlierSettings() throws {
    let sight = try PodPaths.Sight(
      settings.families,
      links: Dictionary(try Link.list(on: socket).map { ($0.index, $0) }, uniquingKeysWith: { first, _ in first }),
      on: socket)
    var found = EarlierSettings()
    found.vethPrefixes = EarlierSettings.prefixes(links: sight.links.values, rules: sight.rules, routes: sight.routes)
      .subtracting([settings.vethPrefix]).sorted()
    found.marks = EarlierSettings.marks(
      rules: sight.rules, today: settings.primaryMark,
      taken: settings.eniMarkMask)
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
        metadata: ["prefix": "\(settings.vethPrefix)", "others": "\(prefixes.sorted())"])
    }
    let marks = now.marks.filter { !before.marks.contains($0) }
    if !marks.isEmpty {
      logger.notice(
        "connections with a connmark of earlier settings may be open; keeping its rules until they end",
        metadata: ["marks": "\(marks)"])
    }
  }

  /// Compares the kept earlier settings with the running pods and connections: adds new ones, drops unused ones. Its
  /// writes do not count as repairs.
  ///
  /// - Parameter sight: of all links.
  func settleEarlierSettings(_ sight: PodPaths.Sight) throws {
    var now = earlier
    let running = Set(
      sight.links.values.compactMap { $0.kind == "veth" ? HostVethName.split($0.name)?.prefix : nil })
    let found = EarlierSettings.prefixes(links: sight.links.values, rules: sight.rules, routes: sight.routes)
    now.vethPrefixes = Set(earlier.vethPrefixes).intersection(running).union(found)
      .subtracting([settings.vethPrefix]).sorted()
    now.marks = earlier.marks.filter { mark in
      // If the kernel does not answer, the mark counts as in use.
      (try? ConnectionTracking.hasConnections(marked: mark)) ?? true
    }
    guard now != earlier else { return }
    let ended = earlier.marks.filter { !now.marks.contains($0) }
    take(now)
    veths.see(all: sight.links.values)
    try marks?.apply(wantedMarks)
    guard !ended.isEmpty else { return }
    try applyNodeRules()
    logger.notice("no connection with a connmark of earlier settings is left", metadata: ["marks": "\(ended)"])
  }

  /// Adds a prefix that a new pod route shows.
  ///
  /// - Returns: whether the prefix is new: firewall rules must be written for it.
  func recognisesVeths(_ changes: NodeChanges) throws -> Bool {
    for route in changes.addedRoutes where route.destination.isSingle && route.table == routing.routeTable {
      guard let device = route.device, !veths.contains(device),
        !setUp.values.contains(where: { $0.link == device }),
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
