// SPDX-License-Identifier: Apache-2.0
//
// Produces one part: source → text → Redactor → Deflate. Blocks; many run concurrently on their own threads.

internal import VPCKube
internal import VPCLinux
internal import VPCModel
internal import VPCObserve
internal import VPCSystem

/// State shared by all parts of one run.
struct PartCollector: Sendable {
  let introspection: AgentIntrospection
  /// The agent's process, if one runs here.
  let agent: Int32?
  /// Of this process, for the modes of this binary that are run.
  let environment: [String: String]
  let interruption: Interruption
  /// The common deadline.
  let end: ContinuousClock.Instant

  /// Resolver options for programs: one try per name server and a timeout of one second; without DNS the default is
  /// five, repeatedly.
  private static let runner = SpawnedCommand(
    environment: [
      "PATH=" + SpawnedCommand.defaultPath.joined(separator: ":"), "LC_ALL=C", "RES_OPTIONS=timeout:1 attempts:1",
    ])

  /// A part and its content; none if there is nothing to keep.
  struct Result: Sendable {
    var record: PartRecord
    let content: DeflatedPiece?
  }

  /// - Parameter room: bytes left in the bundle.
  func collect(_ part: BundlePart, room: Int) -> Result {
    let began = ContinuousClock.now
    var record = PartRecord(
      path: part.path, origin: part.origin, outcome: .collected, reason: "", size: 0, seconds: 0, redacted: [:])
    let left = began.duration(to: end)
    guard room > 0, left > .zero, !interruption.isRaised else {
      record.outcome = .leftOut
      record.reason = room > 0 ? "no time left" : "the bundle has reached its size limit"
      return Result(record: record, content: nil)
    }
    if let needs = part.needs, !FileInstallation.isThere(needs) {
      record.outcome = .absent
      record.reason = "\(needs) does not exist"
      return Result(record: record, content: nil)
    }
    do {
      var text = try PartText(isJSON: part.isJSON, end: end)
      let limit = min(part.limit, room)
      let finding = try fill(&text, part, limit: limit, deadline: min(part.deadline, left))
      record.outcome = finding.outcome
      record.reason = finding.reason
      let done = try text.finish()
      record.size = done.content.length
      record.redacted = done.redacted
      if done.lost > 0 {
        record.outcome = .partial
        record.add("no time left for the last \(done.lost) bytes")
      }
      if done.cutLines > 0 {
        if record.outcome == .collected { record.outcome = .partial }
        record.add("\(done.cutLines) lines of more than \(Redactor.lineLimit) bytes were cut")
      }
      record.seconds = began.duration(to: .now).inSeconds
      return Result(
        record: record, content: done.content.length > 0 || record.outcome == .collected ? done.content : nil)
    } catch {
      let isMissing = (error as? FileError)?.isNotFound == true
      record.outcome = isMissing ? .absent : .failed
      record.reason = isMissing ? "no such file" : Redactor.redacted("\(error)")
      record.seconds = began.duration(to: .now).inSeconds
      return Result(record: record, content: nil)
    }
  }

  private struct Finding {
    var outcome = PartRecord.Outcome.collected
    var reason = ""
  }

  private func fill(
    _ text: inout PartText, _ part: BundlePart, limit: Int, deadline: Duration
  ) throws -> Finding {
    switch part.source {
    case .command(let program, let arguments):
      let command = Command(program, arguments, deadline: deadline, outputLimit: limit)
      let capture = PartCollector.runner.capture(command, interruption: interruption)
      return try keep(capture, of: program, deadline, &text)
    case .own(let arguments):
      // With this path the child does not inherit this process's name.
      let command = Command("/proc/self/exe", arguments, deadline: deadline, outputLimit: limit)
      let runner = SpawnedCommand(environment: environment.map { "\($0.key)=\($0.value)" })
      // doctor's exit status is a finding.
      return try keep(
        runner.capture(command, interruption: interruption), of: "vpc-cni", deadline, &text, mayFail: true)
    case .file(let path):
      let left = try TailReader.read(path, limit: limit) { piece throws in try text.add(piece) }
      return left == 0 ? Finding() : Finding(outcome: .partial, reason: "\(left) bytes are left out")
    case .compressed(let path):
      let end = try GzipFile.tail(path, limit: limit)
      try text.add(end.dropped == 0 ? end.bytes : PartCollector.wholeLines(end.bytes))
      return end.dropped == 0 ? Finding() : Finding(outcome: .partial, reason: "\(end.dropped) bytes are left out")
    case .introspection(let path):
      try text.add(try introspection.get(path, timeout: min(deadline, .seconds(3))))
      return Finding()
    case .metrics:
      var fetch = HTTPFetch(.tcp(host: IPAddress(ipv4: 0x7f00_0001), port: 61_678))
      fetch.timeout = min(deadline, .seconds(3))
      try text.add(try fetch.get("/metrics"))
      return Finding()
    case .agentEnvironment:
      guard let agent else { return Finding(outcome: .absent, reason: "no agent runs here") }
      let lines = ProcessTable.environment(of: agent).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)\n" }
      try text.add(Array(lines.joined().utf8))
      return Finding()
    case .containers:
      return try containers(&text, limit, deadline)
    case .apiServer:
      return try apiServer(&text, deadline)
    }
  }

  /// The end without its incomplete first line: a truncated secret would not be recognized.
  private static func wholeLines(_ end: [UInt8]) -> [UInt8] { Array(end.drop { $0 != 0x0a }.dropFirst()) }

  private func keep(
    _ capture: CommandCapture, of program: String, _ deadline: Duration, _ text: inout PartText, mayFail: Bool = false
  ) throws -> Finding {
    if capture.dropped > 0 {
      try text.add(Array("[the first \(capture.dropped) bytes are left out]\n".utf8))
      try text.add(PartCollector.wholeLines(capture.output))
    } else {
      try text.add(capture.output)
    }
    let words = Redactor.redacted(
      String(decoding: capture.errors.prefix(300), as: UTF8.self).split(separator: "\n").prefix(2).joined(
        separator: "; "))
    if !capture.errors.isEmpty, !mayFail {
      try text.add(Array("\n[on its standard error]\n".utf8) + capture.errors)
    }
    switch capture.ending {
    case .exited(let status) where status == 0 || mayFail && !capture.output.isEmpty:
      guard capture.dropped == 0 else {
        return Finding(outcome: .partial, reason: "\(capture.dropped) bytes of its beginning are left out")
      }
      return Finding()
    case .exited(let status):
      return Finding(
        outcome: capture.output.isEmpty ? .failed : .partial,
        reason: "exit status \(status)" + (words.isEmpty ? "" : ": \(words)"))
    case .signalled(let number):
      return Finding(outcome: capture.output.isEmpty ? .failed : .partial, reason: "ended by signal \(number)")
    case .timedOut:
      return Finding(
        outcome: capture.output.isEmpty ? .failed : .partial, reason: "timed out after \(deadline.brief), killed")
    case .interrupted:
      return Finding(outcome: .leftOut, reason: "interrupted")
    case .notFound:
      return Finding(outcome: .absent, reason: "this node has no program \(program)")
    case .notRun(let why):
      return Finding(outcome: .failed, reason: why)
    }
  }

  // MARK: what takes two steps

  private func containers(_ text: inout PartText, _ limit: Int, _ deadline: Duration) throws -> Finding {
    let end = ContinuousClock.now.advanced(by: deadline)
    let runner = PartCollector.runner
    let ctr = ["--connect-timeout=2s", "-n", "k8s.io", "containers"]
    let list = runner.capture(Command("ctr", ctr + ["list"], deadline: deadline), interruption: interruption)
    guard list.ending == .exited(status: 0) else { return try keep(list, of: "ctr", deadline, &text) }
    let found = PartCollector.containers(in: String(decoding: list.output, as: UTF8.self))
    for name in found {
      let left = max(ContinuousClock.now.duration(to: end), .milliseconds(1))
      let info = runner.capture(
        Command("ctr", ctr + ["info", name], deadline: left, outputLimit: 1 << 20), interruption: interruption)
      try text.add(Array("# \(name)\n".utf8) + info.output + [0x0a])
    }
    return found.isEmpty ? Finding(outcome: .absent, reason: "no container of aws-node") : Finding()
  }

  private static let images: Set<Substring> = [
    "amazon-k8s-cni", "amazon-k8s-cni-init", "aws-network-policy-agent", "vpc-cni", "cni-metrics-helper",
  ]

  /// Names out of `ctr containers list`: of this project's images and those of amazon-vpc-cni-k8s, ten at most.
  static func containers(in list: String) -> [String] {
    let found = list.split(separator: "\n").dropFirst().compactMap { line -> String? in
      let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
      guard words.count >= 2, let image = words[1].split(separator: "/").last,
        let name = image.split(whereSeparator: { $0 == ":" || $0 == "@" }).first, images.contains(name)
      else { return nil }
      return String(words[0])
    }
    return Array(found.prefix(10))
  }

  private func apiServer(_ text: inout PartText, _ deadline: Duration) throws -> Finding {
    let path = "/var/lib/kubelet/kubeconfig"
    let bytes = try BoundedFile.read(path, limit: 1 << 20)
    guard let server = PartCollector.server(in: bytes) else {
      return Finding(outcome: .absent, reason: "\(path) names no server")
    }
    // Only checks whether it answers: no credential is sent, so no certificate is needed.
    let limit = min(deadline, .seconds(8))
    let form =
      "HTTP %{http_code}, name %{time_namelookup} s, connect %{time_connect} s, TLS %{time_appconnect} s, "
      + "all %{time_total} s\n"
    let words = ["-sSk", "--max-time", "5", "-o", "/dev/null", "-w", form, "\(server)/livez"]
    return try keep(
      PartCollector.runner.capture(Command("curl", words, deadline: limit), interruption: interruption), of: "curl",
      limit, &text)
  }

  /// The server of a kubeconfig's first cluster; kubelet's has one. The rest of it, such as a token helper, does not
  /// matter here.
  static func server(in bytes: [UInt8]) -> String? {
    let document = try? YAMLReader.parse(bytes)
    let server = document?["clusters"]?.array?.first?["cluster"]?["server"]?.string
    return server.flatMap { $0.hasPrefix("https://") ? $0 : nil }
  }
}

extension PartRecord {
  fileprivate mutating func add(_ text: String) { reason += reason.isEmpty ? text : "; \(text)" }
}
