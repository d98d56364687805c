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

  /// Dry runs and the agent's own calls together; two actions have no dry run.
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
    let text = DoctorText(answers: [warning]).text(isColoured: false, isWhole: false)
    #expect(text.hasPrefix("warning         agent-serves  w\n") && text.contains("remedy     r\n"))
  }
}
