// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// The part of the node to check. A value, derived from kernel notifications and the agent's knowledge of the node.
struct RepairScope: Sendable, Hashable {
  /// Facts that distinguish the agent's objects from others.
  struct Known: Sendable {
    /// Links of ENIs that are set up.
    var eniLinks: [UInt32: ENIID] = [:]
    /// Tables of secondary ENIs.
    var eniTables: [RouteTable: ENIID] = [:]
    /// Secondary ENIs, whose routes must not be in `main`.
    var secondary: Set<ENIID> = []
    /// Host veths of pods.
    var veths: PodVeths
    /// New ones among them: they were down before they came up.
    var fresh: Set<UInt32> = []
    /// How packets are routed to pods.
    var routing: HostRouting = .table(.pods)
  }

  /// The rules that exist once per node.
  var rules = false
  var enis: Set<ENIID> = []
  /// All ENIs.
  var allENIs = false
  var sourceMap = false
  /// SNAT and connection marks.
  var hostRules = false
  /// Pods by address.
  var pods: Set<IPAddress> = []
  /// Pods by the index of their veth.
  var veths: Set<UInt32> = []
  var allPods = false
  /// Leftovers of ended pods, of amazon-vpc-cni-k8s and of the other scheme.
  var leftovers = false

  static let nothing = RepairScope()
  static let everything: RepairScope = {
    var scope = RepairScope()
    scope.rules = true
    scope.allENIs = true
    scope.sourceMap = true
    scope.hostRules = true
    scope.allPods = true
    scope.leftovers = true
    return scope
  }()
  /// An ENI was set up: its pods may be routed by it from now on.
  static let afterWiring: RepairScope = {
    var scope = RepairScope()
    scope.allPods = true
    scope.leftovers = true
    return scope
  }()

  var needsPods: Bool { allPods || leftovers || !pods.isEmpty || !veths.isEmpty }

  func union(_ other: RepairScope) -> RepairScope {
    var both = self
    both.formUnion(other)
    return both
  }

  mutating func formUnion(_ other: RepairScope) {
    rules = rules || other.rules
    enis.formUnion(other.enis)
    allENIs = allENIs || other.allENIs
    sourceMap = sourceMap || other.sourceMap
    hostRules = hostRules || other.hostRules
    pods.formUnion(other.pods)
    veths.formUnion(other.veths)
    allPods = allPods || other.allPods
    leftovers = leftovers || other.leftovers
  }
}

extension RepairScope {
  /// Changes after which the agent's state may be incomplete. A pod's start and end need no check.
  init(_ changes: NodeChanges, _ known: Known) {
    guard !changes.isLost else {
      self = .everything
      return
    }
    look(atRules: changes, known)
    look(atRoutes: changes, known)
    look(atLinks: changes, known)
    sourceMap = changes.tables.contains(ENIMarkTable.defaultName)
    let ours = [HostRules.connmarkTable, HostRules.substituteTable].map(\.name)
    hostRules = !changes.tables.isDisjoint(with: ours) || !changes.iptablesChains.isEmpty
  }

  private mutating func look(atRules changes: NodeChanges, _ known: Known) {
    for rule in changes.addedRules where RepairScope.isOurs(rule) && PodRules.address(of: rule) == nil {
      rules = true
      allENIs = true
    }
    for rule in changes.removedRules where RepairScope.isOurs(rule) {
      guard let pod = PodRules.address(of: rule) else {
        rules = true
        allENIs = true
        continue
      }
      if known.routing == .perPodRules { pods.insert(pod) }
    }
  }

  /// 512, 1024, 1535, 1536 and from 32764 on: a rule added there may precede one of the agent's.
  private static func isOurs(_ rule: PolicyRule) -> Bool {
    switch rule.priority {
    case RulePriority.toPod, RulePriority.primaryMark, RulePriority.externalService, RulePriority.fromPod,
      RulePriority.pastENIs, RulePriority.fromENI, RulePriority.main:
      true
    default: false
    }
  }

  private mutating func look(atRoutes changes: NodeChanges, _ known: Known) {
    for route in changes.removedRoutes {
      if route.table == known.routing.routeTable, route.destination.isSingle {
        pods.insert(route.destination.address)
      }
      if let eni = known.eniTables[route.table] { enis.insert(eni) }
    }
    for route in changes.addedRoutes {
      if let eni = known.eniTables[route.table] { enis.insert(eni) }
      guard let device = route.device else { continue }
      if route.table == .main, let eni = known.eniLinks[device], known.secondary.contains(eni) { enis.insert(eni) }
      // From a plugin that was answered by an agent with the other scheme, or the plugin of amazon-vpc-cni-k8s.
      if route.table == (known.routing == .perPodRules ? .pods : .main), route.destination.isSingle,
        known.veths.contains(device)
      {
        pods.insert(route.destination.address)
      }
      // No plugin creates a pod route by anything but a veth.
      if route.table == known.routing.routeTable, route.table != .main, !known.veths.contains(device),
        known.eniLinks[device] != nil || changes.links[device] == nil
      {
        pods.insert(route.destination.address)
      }
    }
  }

  private mutating func look(atLinks changes: NodeChanges, _ known: Known) {
    for link in changes.addresses.union(changes.settings) {
      if let eni = known.eniLinks[link] { enis.insert(eni) }
    }
    for (index, change) in changes.links {
      if let eni = known.eniLinks[index] { enis.insert(eni) }
      guard let seen = known.veths[index], let now = change.now else { continue }
      let isDown = change.wasDown && !known.fresh.contains(index)
      if isDown || seen.mac != nil && now.mac != seen.mac { veths.insert(index) }
    }
  }
}
