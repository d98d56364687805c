// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCCloud
internal import VPCLinux
internal import VPCModel
internal import VPCObserve
internal import VPCSystem

/// One run of the mode, from the first check to the archive's name.
struct SupportBundle {
  let target: BundleTarget
  let isQuiet: Bool
  let ignoresIntrospection: Bool
  let ignoresMetrics: Bool
  let isHybrid: Bool

  /// The archive's maximum, plus as much that stays free on the node.
  private static let neededSpace = UInt64(2 * BundleRun.archiveLimit)

  /// - Returns: the exit status.
  func make() -> Int32 {
    // Before any thread starts, so that every thread blocks these signals.
    let signals = SignalQueue([SIGTERM, SIGINT, SIGHUP])
    let began = ContinuousClock.now
    let processes = ProcessTable.read()
    let own = ProcessEnvironment.variables()
    let agent = processes.agent?.pid
    let agentEnvironment = agent.map(ProcessTable.environment(of:)) ?? [:]
    let introspection = AgentIntrospection(environments: [own, agentEnvironment])
    let instance = InstanceName.find(
      agent: introspection, environment: own.merging(agentEnvironment) { mine, _ in mine }, asksIMDS: !isHybrid)
    let now = UTCTime.now
    let stem = BundleName.stem(instance: instance, at: now, version: Release.version)
    var index = BundleIndex(version: Release.version, instance: instance, began: now, seconds: 0)
    if ignoresIntrospection { index.notes.append("Left out on request: the agent's introspection.") }
    if ignoresMetrics { index.notes.append("Left out on request: the agent's metrics.") }
    do {
      let plan = BundlePlan(
        ignoresIntrospection: ignoresIntrospection, ignoresMetrics: ignoresMetrics, agentProcess: agent
      ).collection
      index.notes += plan.notes
      let run = BundleRun(
        parts: plan.parts,
        collector: PartCollector(
          introspection: introspection, agent: agent, environment: own, interruption: try Interruption(),
          end: began.advanced(by: BundleRun.timeLimit)),
        signals: signals, workers: min(max(2 * Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))), 4), 12),
        progress: BundleProgress(isQuiet: isQuiet).show)
      return try write(run, stem: stem, index: &index, began: began)
    } catch {
      Terminal.complain("vpc-cni support: \(CauseChain.text(error))\n")
      return 1
    }
  }

  private func write(
    _ run: BundleRun, stem: String, index: inout BundleIndex, began: ContinuousClock.Instant
  ) throws -> Int32 {
    switch target {
    case .standardOutput:
      return try fill(STDOUT_FILENO, "standard output", run, stem, &index, began).status
    case .file(let folder, let name):
      let file = try NewFile(folder: folder, name: name ?? "\(stem).tar.gz", needed: SupportBundle.neededSpace)
      let path = file.path
      let made = try fill(file.descriptor, path, run, stem, &index, began)
      guard made.status == 0 else { return made.status }
      try file.keep()
      if !isQuiet {
        Terminal.complain("\(index.summary)\n")
        Terminal.complain(
          "\(made.size) bytes in \(BundleIndex.text(index.seconds)) s; read it before you share it\n")
      }
      Terminal.say("\(path)\n")
      return 0
    }
  }

  private func fill(
    _ descriptor: Int32, _ path: String, _ run: BundleRun, _ stem: String, _ index: inout BundleIndex,
    _ began: ContinuousClock.Instant
  ) throws -> (status: Int32, size: Int) {
    var archive = try ArchiveStream(descriptor: descriptor, path: path)
    let now = index.began.seconds
    var signal: Int32?
    guard let records = try run.fill(&archive, folder: stem, now: now, signal: &signal) else {
      Terminal.complain("vpc-cni support: interrupted, no archive written\n")
      return (128 + (signal ?? SIGTERM), 0)
    }
    index.records = records
    index.seconds = began.duration(to: .now).inSeconds
    for (name, text) in [("index.json", index.json.indented(by: 2) + "\n"), ("index.txt", index.text)] {
      var deflate = try Deflate()
      try deflate.add(Array(text.utf8))
      try archive.add(try deflate.end(), name: "\(stem)/\(name)", modified: now)
    }
    try archive.end()
    return (0, archive.size)
  }
}

/// Progress: one line that is overwritten on a terminal, every fiftieth part elsewhere.
struct BundleProgress {
  let isQuiet: Bool

  func show(_ done: Int, _ all: Int) {
    guard !isQuiet else { return }
    if Terminal.isWatched {
      Terminal.complain("\rcollecting: \(done) of \(all)" + (done == all ? "\n" : ""))
    } else if done == all || done % 50 == 0 {
      Terminal.complain("collecting: \(done) of \(all)\n")
    }
  }
}
