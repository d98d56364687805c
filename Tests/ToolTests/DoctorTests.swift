// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Testing
import VPCLinux
import VPCModel

@testable import DoctorMode

/// Checks are functions of facts; docs/troubleshooting.md has a row for each.
@Suite struct DoctorTests {
  private static func verdict(_ id: String, _ facts: NodeFacts) -> Verdict? {
    Check.all.first { $0.id == id }?.judge(facts).verdict
  }

  @Test func nothingKnownIsNoFinding() {
    let answers = Check.all.map { Answer(check: $0, finding: $0.judge(NodeFacts())) }
    for answer in answers {
      #expect([.unknown, .ok].contains(answer.finding.verdict), "\(answer.check.id): \(answer.finding.found)")
    }
    #expect(DoctorText(answers: answers).status == 0)
  }

  @Test func identifiersAreUniqueWords() {
    #expect(Set(DoctorMode.checkIDs).count == DoctorMode.checkIDs.count)
    for id in DoctorMode.checkIDs { #expect(id.allSatisfy { $0.isLowercase || $0 == "-" }) }
  }

  @Test func theDocumentHasARowForEachCheck() throws {
    let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let text = try String(contentsOfFile: "\(root)/docs/troubleshooting.md", encoding: .utf8)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let rows = lines.drop { !$0.hasPrefix("| doctor's check |") }.dropFirst(2).prefix { $0.hasPrefix("|") }
    let named = rows.map { String($0.split(separator: "|")[0].filter { $0 != " " && $0 != "`" }) }
    #expect(named == DoctorMode.checkIDs, "the same checks in the same order")
    for row in rows {
      let cells = row.split(separator: "|", omittingEmptySubsequences: false).dropFirst().dropLast()
      #expect(cells.count == 5 && cells.allSatisfy { $0.contains { $0 != " " } }, "\(row)")
    }
  }

  /// Combines dry runs and the agent's own calls. Two actions have no dry run.
  @Test(
    arguments: [
      (nil, "UnauthorizedOperation", Verdict.broken, "missing: ec2:AssignPrivateIpAddresses"),
      (
        ["ec2:CreateTags"], nil, .ok,
        "1 actions by dry runs, 1 more by the agent's calls; EC2 has no dry run of ec2:Unassign"
      ),
      (nil, nil, .ok, "dry runs: no answer"),
    ] as [([String]?, String?, Verdict, String)])
  func permissionsByDryRunsAndByUse(_ granted: [String]?, _ error: String?, _ verdict: Verdict, _ words: String) {
    var status = AgentStatus()
    var call = AgentStatus.EC2.Call()
    (call.action, call.count, call.lastError) = ("AssignPrivateIpAddresses", 1, error)
    status.ec2.calls = [call]
    var facts = NodeFacts()
    facts.status = .known(status)
    var cloud = CloudFacts()
    cloud.granted = granted ?? []
    facts.cloud = granted == nil ? .unknown("no answer") : .known(cloud)
    let finding = Check.all.first { $0.id == "permissions" }?.judge(facts)
    #expect(finding?.verdict == verdict && finding?.found.contains(words) == true, "\(finding?.found ?? "")")
  }

  /// What the agent reports about the API server. Both the finding and the remedy name a missing permission.
  @Test(
    arguments: [
      (nil, false, 100, [], Verdict.unknown, "release"),
      ("", false, 100, [], .ok, "no API server"),
      ("https://a", true, 100, [], .ok, "serves node n1"),
      ("https://a", false, 5, [], .unknown, "has not answered yet"),
      ("https://a", false, 100, [], .broken, "does not answer"),
      ("https://a", false, 100, [("node n1", "list and watch nodes", true)], .broken, "list and watch nodes"),
      ("https://a", true, 100, [("node n1", "", true)], .broken, "node n1: why"),
      ("https://a", true, 100, [("events", "create events", false)], .warning, "missing permission: create events"),
      ("", false, 100, [("configuration", "", true)], .broken, "configuration: why"),
    ] as [(String?, Bool, Int, [(String, String, Bool)], Verdict, String)])
  func whatTheAPIServerTells(
    _ server: String?, _ isKnown: Bool, _ seconds: Int, _ faults: [(String, String, Bool)], _ verdict: Verdict,
    _ words: String
  ) {
    var status = AgentStatus()
    status.agent.upSeconds = seconds
    if let server {
      var cluster = AgentStatus.Cluster()
      (cluster.server, cluster.node, cluster.isNodeKnown) = (server, "n1", isKnown)
      cluster.faults = faults.map {
        var fault = AgentStatus.Cluster.Fault()
        (fault.subject, fault.error, fault.permission, fault.isEssential) = ($0.0, "why", $0.1, $0.2)
        return fault
      }
      status.cluster = cluster
    }
    var facts = NodeFacts()
    facts.status = .known(status)
    let finding = Check.all.first { $0.id == "api-server" }?.judge(facts)
    #expect(finding?.verdict == verdict && finding?.found.contains(words) == true, "\(finding?.found ?? "")")
    for fault in faults where !fault.1.isEmpty { #expect(finding?.remedy.contains(fault.1) == true) }
  }

  /// A container cannot see the kubelet: the value that its agent has read counts. The kubelet's own has priority.
  @Test(
    arguments: [
      (nil, nil, Verdict.unknown), (nil, 29, .ok), (nil, 110, .warning), (29, 110, .ok), (110, 29, .warning),
    ] as [(Int?, Int?, Verdict)])
  func thePodLimitIsKnownByTheAgentToo(_ kubelet: Int?, _ node: Int?, _ verdict: Verdict) {
    var status = AgentStatus()
    (status.pool.eniLimit, status.pool.addressesPerENI) = (3, 9)
    var cluster = AgentStatus.Cluster()
    cluster.podCapacity = node
    status.cluster = cluster
    var facts = NodeFacts()
    facts.status = .known(status)
    facts.host.maxPods = kubelet.map { .known($0) } ?? .unknown("not seen")
    #expect(Self.verdict("pod-limit", facts) == verdict)
  }

  /// EC2's current answer replaces the agent's. Without a current answer, the agent's shows its age.
  @Test func freeAddressesAreOfThisMomentOrHaveAnAge() {
    var status = AgentStatus()
    status.subnets = ["subnet-1", "subnet-2"].map { id in
      var subnet = AgentStatus.Subnet()
      (subnet.id, subnet.free, subnet.freeSeconds) = (id, 4088, 300)
      return subnet
    }
    var cloud = CloudFacts()
    cloud.subnets = [
      CloudFacts.Subnet(id: "subnet-1", free: 3872, isUsed: true),
      CloudFacts.Subnet(id: "subnet-9", free: 0, isUsed: false),
    ]
    var facts = NodeFacts()
    facts.status = .known(status)
    facts.cloud = .known(cloud)
    let found = Check.all.first { $0.id == "subnet-addresses" }?.judge(facts).found
    #expect(found == "subnet-1: 3872 free, subnet-2: 4088 free 300 s ago, by the agent")
  }

  @Test(arguments: [(0, Verdict.broken), (15, .warning), (16, .ok)])
  func freeAddressesOfSubnets(_ free: Int, _ verdict: Verdict) {
    var facts = NodeFacts()
    var cloud = CloudFacts()
    cloud.subnets = [CloudFacts.Subnet(id: "subnet-1", free: free)]
    facts.cloud = .known(cloud)
    #expect(Self.verdict("subnet-addresses", facts) == verdict)
  }

  @Test(arguments: [("0", "1", Verdict.broken), ("1", "0", .broken), ("2", "1", .ok), ("0", "2", .ok), ("0", "0", .ok)])
  func theGreaterReversePathSettingHolds(_ all: String, _ link: String, _ verdict: Verdict) {
    var kernel = KernelFacts()
    kernel.reversePath = ["all": all, "ens6": link]
    var facts = NodeFacts()
    facts.kernel = .known(kernel)
    #expect(Self.verdict("rp-filter", facts) == verdict)
  }

  @Test(arguments: [
    (["nft"], ["nft"], Verdict.ok), (["legacy"], ["nft"], .broken), (["legacy", "nft"], ["nft"], .warning),
    ([], ["nft"], .ok), (["nft"], [], .ok),
  ])
  func iptablesModes(_ kubelet: [String], _ ours: [String], _ verdict: Verdict) {
    var facts = NodeFacts()
    facts.firewall = .known(FirewallFacts(droppingForward: [], kubelet: kubelet, ours: ours))
    #expect(Self.verdict("iptables-mode", facts) == verdict)
  }

  @Test(arguments: [(29, Verdict.ok), (30, .warning)])
  func podLimitOfTheInstanceTypeWithoutAnAgent(_ maxPods: Int, _ verdict: Verdict) throws {
    var facts = NodeFacts()
    facts.settings.settings = try Settings(environment: [:])
    var metadata = MetadataFacts()
    metadata.instanceType = "m5.large"
    facts.metadata = .known(metadata)
    facts.host.maxPods = .known(maxPods)
    #expect(Self.verdict("pod-limit", facts) == verdict)
  }

  @Test(
    arguments: [
      (Duration.milliseconds(10), 0, nil, Verdict.ok), (.milliseconds(1500), 0, nil, .warning),
      (.milliseconds(10), 3, nil, .warning), (.milliseconds(10), 0, 30, .warning), (.milliseconds(10), 2, 24, .ok),
    ] as [(Duration, Int, Int?, Verdict)])
  func probesAndWhatMakesThemTight(_ after: Duration, _ restarts: Int, _ throttled: Int?, _ verdict: Verdict) {
    var facts = NodeFacts()
    facts.agent = .known(AgentFacts(serves: true, said: "SERVING", after: after))
    facts.host.restarts = .known(restarts)
    facts.host.throttledPercent = throttled
    #expect(Self.verdict("probes", facts) == verdict)
  }

  @Test(
    arguments: [
      ("a", "a", Verdict.ok), ("a", "b", .warning), ("unknown", "b", .ok), (nil, "b", .warning),
    ] as [(String?, String, Verdict)])
  func versions(_ plugin: String?, _ agent: String, _ verdict: Verdict) {
    var facts = NodeFacts()
    var status = AgentStatus()
    status.agent.commit = agent
    facts.status = .known(status)
    facts.host.plugin = .known(HostFacts.PluginFile(path: "/opt/cni/bin/aws-cni", commit: plugin))
    #expect(Self.verdict("version-skew", facts) == verdict)
  }

  @Test func exitStatusIsTheWorst() {
    let answer = { (finding: Finding) in Answer(check: Check.all[0], finding: finding) }
    let warning = answer(.warning("w", remedy: "r"))
    #expect(DoctorText(answers: [answer(.ok("o")), answer(.unknown("u"))]).status == 0)
    #expect(DoctorText(answers: [answer(.ok("o")), warning]).status == 1)
    #expect(DoctorText(answers: [warning, answer(.broken("b", remedy: "r"))]).status == 2)
    let hostile = DoctorText(answers: [answer(.broken("a\u{1b}[2Jb\nc", remedy: "d\u{9b}2J"))])
    let harmless = hostile.text(isColoured: false, isWhole: false)
    #expect(harmless.contains(#"a\u001b[2Jb\u000ac"#) && harmless.contains(#"d\u009b2J"#))
    #expect(harmless.visibleLines == harmless)
    let text = DoctorText(answers: [warning]).text(isColoured: false, isWhole: false)
    #expect(text.hasPrefix("warning         agent-serves  w\n") && text.contains("remedy     r\n"))
  }
}
