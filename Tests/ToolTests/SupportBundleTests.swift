// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing
import VPCLinux
import VPCModel
import VPCObserve
import VPCSystem

@testable import SupportBundleMode

@Suite struct SupportBundleTests {
  @Test(arguments: [
    ("i-0123456789abcdef0", "eks_i-0123456789abcdef0_2026-11-24_1503-UTC_0.1.0"),
    ("ip-10-0-0-1.ec2.internal", "eks_ip-10-0-0-1.ec2.internal_2026-11-24_1503-UTC_0.1.0"),
    ("../../etc/x y", "eks_etc-x-y_2026-11-24_1503-UTC_0.1.0"), ("", "eks_unknown_2026-11-24_1503-UTC_0.1.0"),
  ])
  func theNameIsTheExistingCollectors(_ instance: String, _ name: String) throws {
    let time = try #require(UTCTime(iso8601: "2026-11-24T15:03:59Z"))
    #expect(BundleName.stem(instance: instance, at: time, version: "0.1.0") == name)
  }

  @Test(arguments: [
    (nil, BundleTarget.file(folder: "/var/log", name: nil)), ("-", .standardOutput),
    ("/tmp/x/", .file(folder: "/tmp/x", name: nil)), ("/", .file(folder: "/", name: nil)),
    ("here", .file(folder: "/srv/here", name: nil)), ("/tmp/a.tar.gz", .file(folder: "/tmp", name: "a.tar.gz")),
    ("a.tgz", .file(folder: "/srv", name: "a.tgz")), ("/a.tar.gz", .file(folder: "/", name: "a.tar.gz")),
  ])
  func outputIsAFolderAFileOrStandardOutput(_ option: String?, _ target: BundleTarget) {
    #expect(BundleTarget(option, current: "/srv") == target)
  }

  @Test func everyPartHasAPathOfItsOwn() {
    let parts = BundlePlan(agentProcess: getpid()).collection.parts
    let paths = parts.map(\.path)
    #expect(Set(paths).count == paths.count)
    #expect(paths.allSatisfy { !$0.hasPrefix("/") && !$0.contains("..") && !$0.isEmpty })
    #expect(parts.allSatisfy { $0.deadline <= BundleRun.timeLimit && $0.limit <= 24 << 20 })
    #expect(parts.first?.path == "ipamd/doctor.json", "what matters most first")
    let rest = parts.drop { $0.comesFirst }
    #expect(
      !rest.contains { $0.comesFirst } && rest.first.map { $0.deadline >= .seconds(20) } == true, "then the long ones")
    for folder in ["ipamd", "cni", "networking", "var_log", "kubelet", "containerd", "kernel", "sysctls", "system"] {
      #expect(paths.contains { $0.hasPrefix("\(folder)/") }, "\(folder)")
    }
  }

  @Test func whatIsToBeIgnoredIsNotAskedFor() {
    let parts = BundlePlan(ignoresIntrospection: true, ignoresMetrics: true).collection.parts
    #expect(!parts.contains { $0.source == .metrics || $0.origin.contains("introspection") })
    #expect(BundlePlan().collection.parts.contains { $0.source == .metrics })
  }

  /// Takes the node's files, but never one through a symbolic link.
  @Test func filesOfAFolderAreTakenWithoutFollowingLinks() throws {
    let folder = TemporaryFolder()
    for name in ["etc/cni/net.d", "var/log/pods/kube-system_aws-node-x_1/c", "var/log/pods/default_web_2/c"] {
      var path = folder.path
      for part in name.split(separator: "/") {
        path += "/\(part)"
        mkdir(path, 0o755)
      }
    }
    try AtomicFile.write([], to: "\(folder.path)/etc/cni/net.d/10-aws.conflist")
    #expect(symlink("/etc/shadow", "\(folder.path)/etc/cni/net.d/link") == 0)
    for pod in ["kube-system_aws-node-x_1", "default_web_2"] {
      try AtomicFile.write([], to: "\(folder.path)/var/log/pods/\(pod)/c/0.log")
    }
    let paths = Set(BundlePlan(root: folder.path).collection.parts.map(\.path))
    #expect(paths.contains("cni/10-aws.conflist") && !paths.contains("cni/link"))
    #expect(paths.contains("var_log/pods/kube-system_aws-node-x_1/c/0.log"))
    #expect(!paths.contains { $0.contains("default_web") })
  }

  /// Another program left 3,000 files in the agent's log folder: the agent's files come first, then the newest ones.
  @Test func manyFilesDoNotPushTheAgentsLogsOut() throws {
    let folder = TemporaryFolder()
    _ = try CommandResult.run([
      "bash", "-ec",
      """
      mkdir -p \(folder.path)/var/log/aws-routed-eni \(folder.path)/etc/cni/net.d; cd \(folder.path)/var/log/aws-routed-eni
      touch -d '2026-01-01' ipamd.log plugin.log; for n in {1..3000}; do : > a$n.log; : > z$n-2026-01-01.log.gz; done
      touch -d '2030-01-01' a1777.log; touch ipamd-2026-01-01.log.gz
      touch -d '2026-01-01' ../../../etc/cni/net.d/10-aws.conflist; for n in {1..200}; do : > ../../../etc/cni/net.d/0$n; done
      """,
    ]).get()
    let collection = BundlePlan(root: folder.path).collection
    let first = collection.parts.prefix { $0.comesFirst }.map(\.path)
    #expect(first.contains("var_log/aws-routed-eni/ipamd.log") && first.contains("var_log/aws-routed-eni/plugin.log"))
    #expect(first.contains("cni/10-aws.conflist"))
    let logs = collection.parts.filter { $0.path.hasPrefix("var_log/aws-routed-eni/") }
    #expect(logs.contains { $0.path.hasSuffix("/a1777.log") }, "the newest")
    #expect(logs.contains { $0.path.hasSuffix("/ipamd-2026-01-01.log") } && logs.count <= 60 + 9)
    #expect(collection.notes.contains { $0.hasPrefix("Left out of /var/log/aws-routed-eni: ") }, "\(collection.notes)")
    #expect(collection.notes.contains("Left out of /etc/cni/net.d: 141 files that are older."))
  }

  @Test func aLongFileKeepsItsEndFromAWholeLineOn() throws {
    let folder = TemporaryFolder()
    let path = "\(folder.path)/a.log"
    try AtomicFile.write(Array((0..<1000).map { "password=\($0)" }.joined(separator: "\n").utf8), to: path)
    var text: [UInt8] = []
    let left = try TailReader.read(path, limit: 100) { text += $0 }
    let lines = String(decoding: text, as: UTF8.self).split(separator: "\n")
    #expect(lines.first?.hasPrefix("[the first ") == true && lines.last == "password=999")
    #expect(lines.dropFirst().allSatisfy { $0.hasPrefix("password=") } && left > 12_000)
    text = []
    #expect(try TailReader.read(path, limit: 1 << 20) { text += $0 } == 0)
    #expect(text.count > 12_000)
    #expect(symlink(path, "\(folder.path)/link") == 0)
    for wrong in ["link", "none", ""] {
      #expect(throws: FileError.self) { try TailReader.read("\(folder.path)/\(wrong)", limit: 10) { _ in } }
    }
  }

  @Test func aPartWithoutTimeOrRoomSaysSo() throws {
    let part = BundlePart(path: "a", source: .file("/proc/version"))
    func collect(_ end: Duration, room: Int) throws -> PartCollector.Result {
      let collector = PartCollector(
        introspection: .init(environments: []), agent: nil, environment: [:], interruption: try Interruption(),
        end: .now.advanced(by: end))
      return collector.collect(part, room: room)
    }
    #expect(try collect(.seconds(60), room: 1000).record.outcome == .collected)
    #expect(try collect(.seconds(60), room: 0).record.reason == "the bundle has reached its size limit")
    #expect(try collect(.zero, room: 1000).record.reason == "no time left")
  }

  /// A long text on a busy machine: the bundle keeps what was ready in time.
  @Test func whatComesTooLateIsCounted() throws {
    var late = try PartText(isJSON: false, end: .now)
    try late.add([UInt8](repeating: 0x61, count: 1_000_000))
    let finished = try late.finish()
    #expect(finished.lost == 1_000_000 && finished.content.length == 0)
    var timely = try PartText(isJSON: false, end: .now.advanced(by: .seconds(60)))
    try timely.add(Array("one\0two\n".utf8))
    let whole = try timely.finish()
    #expect(whole.lost == 0 && whole.content.length == 8)
  }

  @Test func eachEndOfAProgramIsTold() throws {
    let collector = PartCollector(
      introspection: .init(environments: []), agent: nil, environment: [:], interruption: try Interruption(),
      end: .now.advanced(by: .seconds(60)))
    func record(_ script: String, limit: Int = 1000, deadline: Duration = .seconds(20)) -> PartRecord {
      collector.collect(
        BundlePart(path: "a", source: .command("sh", ["-c", script]), limit: limit, deadline: deadline), room: 1 << 20
      ).record
    }
    #expect(record("echo a").outcome == .collected)
    let failed = record("echo password=hunter2 is wrong >&2; exit 3")
    #expect(failed.outcome == .failed && failed.reason.hasPrefix("exit status 3: password=[redacted field]"))
    #expect(!failed.reason.contains("hunter2") && failed.redacted[.field] == 1)
    #expect(record("echo a; exit 1").outcome == .partial)
    let long = record("echo a; exec sleep 100", deadline: .seconds(3))
    #expect(long.outcome == .partial && long.reason == "timed out after 3 s, killed")
    #expect(record("yes line | head -n 1000").outcome == .partial)
    let none = collector.collect(BundlePart(path: "a", source: .command("no-such", [])), room: 10).record
    #expect(none.outcome == .absent && none.reason == "this node has no program no-such")
  }

  @Test func ofEachLogTheLastPutAsideIsTaken() {
    let names = [
      "ipamd-2026-11-23T10-00-00.000.log.gz", "ipamd-2026-11-24T10-00-00.000.log.gz", "ipamd.log",
      "network-policy-agent-2026-01-01T00-00-00.000.log.gz", "plugin-2026-11-20T10-00-00.000.log",
    ]
    #expect(BundlePlan.newestPutAside(names) == [names[1], names[3]])
  }

  @Test func containersOfAwsNodeAreFound() {
    let list = """
      CONTAINER    IMAGE                                                  RUNTIME
      0a1b         602401143452.dkr.ecr.x.amazonaws.com/amazon-k8s-cni:v1.23  io.containerd.runc.v2
      2c3d         registry.k8s.io/pause:3.9                              io.containerd.runc.v2
      4e5f         registry.example/vpc-cni:1                             io.containerd.runc.v2
      """
    #expect(PartCollector.containers(in: list) == ["0a1b", "4e5f"])
    func server(_ text: String) -> String? { PartCollector.server(in: Array(text.utf8)) }
    #expect(server("clusters:\n- cluster:\n    server: \"https://a.example\"\n") == "https://a.example")
    #expect(server("clusters: [{name: c, cluster: {server: 'https://a.example'}}]\n") == "https://a.example")
    #expect(server(#"{"clusters":[{"cluster":{"server":"https://a.example"}}]}"#) == "https://a.example")
    #expect(server("clusters:\n- cluster:\n    server: file:///etc/passwd\n") == nil && server("[") == nil)
  }

  @Test func theIndexTellsWhatHappened() {
    var index = BundleIndex(version: "1", instance: "i-1", began: UTCTime(seconds: 0), seconds: 1.239)
    index.records = [
      PartRecord(path: "b", origin: "ip rule", outcome: .failed, reason: "why", size: 0, seconds: 0.5, redacted: [:]),
      PartRecord(path: "a", origin: "/a", outcome: .collected, reason: "", size: 7, seconds: 0, redacted: [.field: 2]),
    ]
    #expect(index.summary == "2 parts: 1 collected, 0 partial, 0 absent, 1 failed, 0 left out; 2 secrets replaced")
    let lines = index.text.split(separator: "\n")
    #expect(lines[0] == "Support bundle of i-1, made by vpc-cni 1 at 1970-01-01T00:00:00Z, in 1.24 s.")
    #expect(lines[2].hasPrefix("collected  a") && lines[3].hasSuffix("0.50 s  ip rule: why"))
    #expect(index.json["parts"]?.array?.first?["redacted"]?["field"]?.int == 2)
  }
}
