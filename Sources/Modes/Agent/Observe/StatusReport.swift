// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCModel

/// The parts of `/v1/status`.
struct StatusReport: Sendable {
  let settings: Settings
  let pool: AddressPool
  /// What does not change while the agent runs.
  let node: AgentStatus.Process
  let began: ContinuousClock.Instant
  let directory: ENIDirectory?
  let subnets: @Sendable () -> [SubnetUse]
  /// Time since EC2 was last asked for them; nil if never.
  let subnetsAge: @Sendable () -> Duration?
  let calls: @Sendable () -> [AgentStatus.EC2.Call]
  /// The node network's desired and actual state: scheme, iptables, differences, repairs.
  let kernel: @Sendable () async -> AgentStatus.Kernel
  let cluster: @Sendable () -> AgentStatus.Cluster

  func status() async -> AgentStatus {
    var status = await pool.status()
    status.agent = node
    status.agent.version = settings.version
    status.agent.pid = Int(getpid())
    status.agent.upSeconds = began.duration(to: .now).wholeSeconds
    status.ec2.calls = calls()
    status.subnets = StatusReport.subnets(subnets(), age: subnetsAge(), status.subnets)
    let entries = directory?.entries ?? [:]
    for index in status.enis.indices {
      guard let id = ENIID(status.enis[index].id), let entry = entries[id] else { continue }
      status.enis[index].mac = "\(entry.mac)"
    }
    status.kernel = await kernel()
    status.cluster = cluster()
    status.settings.warnings = settings.warnings.map { "\($0)" }
    status.settings.vethPrefix = settings.vethPrefix
    status.settings.eniMTU = settings.eniMTU
    status.settings.podMTU = settings.podMTU
    status.settings.externalSNAT = settings.usesExternalSNAT
    status.settings.customNetworking = settings.usesCustomNetworking
    status.settings.checkpoint = settings.checkpointPath
    return status
  }

  /// EC2's facts about subnets, and the pool's use of them.
  static func subnets(
    _ uses: [SubnetUse], age: Duration?, _ pool: [AgentStatus.Subnet]
  ) -> [AgentStatus.Subnet] {
    var rows = Dictionary(pool.map { ($0.id, $0) }) { first, _ in first }
    for use in uses {
      var row = rows[use.id.text] ?? AgentStatus.Subnet()
      row.id = use.id.text
      row.free = use.freeAddresses
      row.freeSeconds = use.freeAddresses == nil ? nil : age?.wholeSeconds
      row.isExcluded = use.isExcluded
      rows[use.id.text] = row
    }
    return rows.values.sorted { $0.id < $1.id }
  }
}

extension AgentStatus.Process {
  init(instance: String, instanceType: String, zone: String, commit: String) {
    self.init()
    (self.instance, self.instanceType, self.zone, self.commit) = (instance, instanceType, zone, commit)
  }
}

extension AddressPool {
  /// The pool's part of `/v1/status`, all of one moment.
  func status() -> AgentStatus {
    let now = time()
    var status = AgentStatus()
    let counts = pool.counts
    status.pool.total = counts.total
    status.pool.assigned = counts.assigned
    status.pool.free = counts.free
    status.pool.cooling = counts.cooling
    // Addresses already on an ENI are counted there.
    status.pool.pending = counts.pending - counts.preparing
    status.pool.stray = counts.stray
    status.pool.waiting = counts.waiting
    let snapshot = PoolSnapshot(pool, now: now.instant)
    status.pool.usesPrefixes = pool.settings.usesPrefixes
    status.pool.isIPv6 = pool.settings.family == .ipv6
    status.pool.eniLimit = snapshot.eniLimit
    status.pool.addressesPerENI = snapshot.addressesPerENI
    status.pool.maxPods = pool.settings.maxPods
    status.pool.blockedCause = snapshot.blockedCause?.label
    status.pool.blockedText = snapshot.blockedCause.map { "\($0)" }
    status.targets = pool.targetStatus
    status.enis = snapshot.enis.map(AgentStatus.ENI.init)
    status.pods = pool.assignments.sorted { $0.address < $1.address }.map {
      AgentStatus.Pod($0, unixNanoseconds: now.unixNanoseconds)
    }
    status.waiters = pool.waiters(now: now.instant)
    status.actions = pool.workUnderWay
    status.ec2.held = pool.holds(now: now.instant)
    status.ec2.reconciledSeconds = pool.sinceReconciled(now: now.instant)?.wholeSeconds
    status.subnets = Set(snapshot.pausedSubnets + snapshot.fallbackSubnets).sorted().map { id in
      var row = AgentStatus.Subnet()
      row.id = id.text
      row.isPaused = snapshot.pausedSubnets.contains(id)
      row.isFragmented = snapshot.fallbackSubnets.contains(id)
      return row
    }
    return status
  }
}

extension AgentStatus.ENI {
  fileprivate init(_ snapshot: ENISnapshot) {
    self.init()
    let seen = snapshot.eni
    id = seen.id.text
    device = seen.device
    card = seen.card
    subnet = seen.subnet.text
    address = seen.primaryAddress.map { "\($0)" } ?? ""
    table = Int((seen.table).number)
    isManaged = snapshot.isManaged
    isOpen = snapshot.isOpen
    isExcluded = seen.isExcluded
    total = snapshot.cidrs.reduce(0) { $0 + $1.capacity }
    assigned = snapshot.cidrs.reduce(0) { $0 + $1.assigned }
    cooling = snapshot.cidrs.reduce(0) { $0 + $1.cooling }
    keptBack = snapshot.cidrs.reduce(0) { $0 + $1.keptBack }
    isOutdated = snapshot.isOutdated
    prefixes = snapshot.cidrs.map(\.prefix).filter { !$0.isSingle }.map { "\($0)" }
  }
}

extension AgentStatus.Pod {
  fileprivate init(_ assignment: Assignment, unixNanoseconds: Int64) {
    self.init()
    namespace = assignment.pod.namespace
    name = assignment.pod.name
    address = "\(assignment.address)"
    eni = assignment.eni?.text ?? ""
    device = assignment.device
    let (age, overflow) = unixNanoseconds.subtractingReportingOverflow(assignment.assignedUnixNanoseconds)
    ageSeconds = overflow ? 0 : Int(max(age, 0) / 1_000_000_000)
  }
}
