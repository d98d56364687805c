// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import StatusMode

/// The status as people read it, and its conversion to JSON and back.
@Suite struct StatusTextTests {
  /// Any program may answer on the port: no number crashes the tool, and no text controls the terminal.
  @Test(arguments: ["-9223372036854775808", "9223372036854775807", "-1", "9223372036854775808", "1e99"])
  func extremeNumbersAreShown(_ number: String) throws {
    var text = StatusTextTests.example.json.text
    // All numbers except the schema's.
    text = text.replacing(/:(\d+)/) { _ in ":\(number)" }.replacing("\"schema\":\(number)", with: "\"schema\":1")
    let status = try #require(AgentStatus(json: try JSONParser.parse(Array(text.utf8))))
    #expect(!StatusText(status, podLimit: 10).text.isEmpty)
    #expect(status.enis.allSatisfy { $0.free >= 0 })
    #expect(AgentStatus(json: status.json) == status)
  }

  @Test func textsDoNotActOnTheTerminal() throws {
    var status = StatusTextTests.example
    let hostile = "\u{1b}]0;title\u{7}\u{9b}2J\r\nline\u{7f}\u{202e}"
    let shown = #"\u001b]0;title\u0007\u009b2J\u000d\u000aline\u007f\u202e"#
    status.agent.instance = hostile
    status.pods[0].name = hostile
    status.pool.blockedText = hostile
    status.settings.warnings = [hostile]
    status.cluster?.node = hostile
    let read = try #require(AgentStatus(json: try JSONParser.parse(status.json.bytes)))
    let text = StatusText(read, podLimit: 10).text
    #expect(text.visibleLines == text)
    for line in ["node       \(shown)", "shop/\(shown)", "blocked: \(shown)", "setting    \(shown)", "node \(shown):"] {
      #expect(text.contains(line))
    }
    #expect("plain äöü 日本 🙂".visible == "plain äöü 日本 🙂")
    #expect("a\nb\u{1b}".visibleLines == "a\nb\\u001b")
  }

  static var example: AgentStatus {
    var status = AgentStatus()
    status.agent.version = "v9.9"
    status.agent.commit = "abc"
    status.agent.pid = 7
    status.agent.upSeconds = 3700
    status.agent.instance = "i-1"
    status.agent.instanceType = "m5.large"
    status.agent.zone = "eu-west-1a"
    status.pool.total = 9
    status.pool.assigned = 4
    status.pool.free = 3
    status.pool.cooling = 2
    status.pool.pending = 1
    status.pool.waiting = 1
    status.pool.eniLimit = 3
    status.pool.addressesPerENI = 9
    status.pool.maxPods = 29
    status.pool.blockedCause = "subnet_full"
    status.pool.blockedText = "subnet subnet-1 is full, next try in 2 s"
    status.targets.warmENI = 1
    status.targets.shortage = 6
    var eni = AgentStatus.ENI()
    eni.id = "eni-1"
    eni.subnet = "subnet-1"
    eni.address = "10.0.0.5"
    eni.mac = "02:00:00:00:00:01"
    eni.table = 254
    (eni.total, eni.assigned, eni.cooling) = (9, 4, 2)
    var second = eni
    second.id = "eni-2"
    second.device = 1
    second.table = 2
    second.isOpen = false
    second.prefixes = ["10.0.1.0/28"]
    status.enis = [eni, second]
    var pod = AgentStatus.Pod()
    (pod.namespace, pod.name, pod.address, pod.eni, pod.ageSeconds) = ("shop", "web-0", "10.0.0.6", "eni-1", 61)
    status.pods = [pod]
    var waiter = AgentStatus.Waiter()
    (waiter.namespace, waiter.name, waiter.waitedSeconds, waiter.leftSeconds) = ("shop", "web-1", 3, 17)
    status.waiters = [waiter]
    status.actions = ["attach an ENI with 9 addresses in subnet-1"]
    var subnet = AgentStatus.Subnet()
    (subnet.id, subnet.free, subnet.freeSeconds, subnet.isPaused) = ("subnet-1", 0, 130, true)
    status.subnets = [subnet]
    var call = AgentStatus.EC2.Call()
    (call.action, call.count, call.failed, call.throttled) = ("CreateNetworkInterface", 5, 2, 1)
    (call.lastError, call.lastSeconds) = ("InsufficientFreeAddressesInSubnet", 4)
    status.ec2.calls = [call]
    var hold = AgentStatus.EC2.Hold()
    (hold.work, hold.because, hold.urgentSeconds, hold.patientSeconds) = ("attach", "the subnet is full", 2, 4)
    status.ec2.held = [hold]
    status.ec2.reconciledSeconds = 30
    status.kernel.scheme = "constant"
    status.kernel.iptables = "iptables-nft"
    status.kernel.differences = ["no rule 512: lookup 20512"]
    status.kernel.repairs = 2
    status.kernel.lastRepairSeconds = 5
    status.kernel.lastRepair = "rule 512, by systemd-networkd"
    var cluster = AgentStatus.Cluster()
    (cluster.server, cluster.node, cluster.isNodeKnown) = ("https://10.100.0.1:443", "n1", true)
    (cluster.podCapacity, cluster.isCordoned, cluster.eniConfig) = (58, true, "eu-west-1a")
    var fault = AgentStatus.Cluster.Fault()
    (fault.subject, fault.error, fault.seconds) = ("events", "POST /apis: 403 no", 61)
    fault.permission = "create events.events.k8s.io"
    cluster.faults = [fault]
    status.cluster = cluster
    status.settings.warnings = ["WARM_ENI_TARGET is \"x\""]
    status.settings.vethPrefix = "eni"
    status.settings.eniMTU = 9001
    status.settings.podMTU = 9001
    status.settings.checkpoint = "/var/run/aws-node/ipam.json"
    return status
  }

  @Test func everythingIsShown() {
    #expect(
      StatusText(Self.example, podLimit: 20).text == """
        node       i-1 m5.large eu-west-1a
        agent      v9.9, pid 7, up 1h1m
        cluster    https://10.100.0.1:443, node n1: 58 pods, cordoned, ENIConfig eu-west-1a
                   cannot use events: POST /apis: 403 no; missing permission: create events.events.k8s.io (for 1m1s)

        addresses  4 used, 3 free, 2 cooling, 9 total, 1 requested
        capacity   2 of 3 ENIs, 9 addresses each by secondary addresses; 29 pods
        targets    WARM_ENI_TARGET=1: 6 addresses short
        growth     blocked: subnet subnet-1 is full, next try in 2 s
        running    attach an ENI with 9 addresses in subnet-1

        ENI    DEVICE  SUBNET    ADDRESS   TABLE  USED  FREE  COOLING  PREFIXES
        eni-1  0       subnet-1  10.0.0.5  main   4     3     2        -         primary
        eni-2  1       subnet-1  10.0.0.5  2      4     3     2        1         not ready

        POD         ADDRESS   ENI    AGE
        shop/web-0  10.0.0.6  eni-1  1m1s

        WAITING     SINCE  GIVES UP IN
        shop/web-1  3s     17s

        SUBNET    FREE  EC2 ASKED
        subnet-1  0     2m10s ago  was full, paused

        EC2 CALL                MADE  FAILED  THROTTLED  LAST
        CreateNetworkInterface  5     2       1          InsufficientFreeAddressesInSubnet, 4s ago
        delayed    attach: the subnet is full; for pods in 2s, for warm targets in 4s

        network    constant rules, firewall: iptables-nft, 1 differences from the desired state
                   no rule 512: lookup 20512
        repairs    2, the last 5s ago: rule 512, by systemd-networkd
        reconciled 30s ago

        setting    WARM_ENI_TARGET is "x"

        """)
  }

  /// The header uses the same words and sums as the rows. ENIs of other cards do not count against card 0's limit.
  @Test func whatIsKeptBackAndOutdatedIsShown() {
    var status = Self.example
    status.settings.customNetworking = true
    (status.enis[1].keptBack, status.enis[1].isOpen, status.enis[1].isOutdated) = (3, true, true)
    var far = status.enis[1]
    (far.id, far.card, far.isManaged, far.isOutdated, far.keptBack) = ("eni-3", 1, true, false, 0)
    status.enis.append(far)
    let text = StatusText(status, podLimit: 0).text
    #expect(text.contains("addresses  4 used, 3 free, 2 cooling, 3 kept back, 9 total, 1 requested\n"))
    #expect(text.contains("capacity   2 of 3 ENIs"))
    #expect(text.contains("8 pods run outside ENIConfig's subnet until they end; recycle the node to move them\n"))
    #expect(text.contains("USED  FREE  COOLING  KEPT BACK  PREFIXES"))
    #expect(text.contains("4     0     2        3          1         old subnet"))
    #expect(AgentStatus(json: status.json) == status)
  }

  @Test func listsOfPodsAreCut() {
    #expect(StatusText(Self.example, podLimit: 0).text.contains("1 pods (--pods=COUNT shows them)\n"))
  }

  @Test(
    arguments: [
      ("", [], false, "no API server configured; running without Kubernetes\n"),
      (
        "", ["configuration of the API server"], false,
        "API server configuration not usable\n           cannot use configuration of the API server: why (for 0s)\n"
      ),
      ("https://a", [], false, "https://a, no answer yet\n"),
      ("https://a", ["node n1"], false, "https://a\n           cannot use node n1: why (for 0s)\n"),
    ] as [(String, [String], Bool, String)])
  func theClustersLine(_ server: String, _ faults: [String], _ isKnown: Bool, _ line: String) {
    var status = AgentStatus()
    var cluster = AgentStatus.Cluster()
    (cluster.server, cluster.isNodeKnown) = (server, isKnown)
    cluster.faults = faults.map {
      var fault = AgentStatus.Cluster.Fault()
      (fault.subject, fault.error) = ($0, "why")
      return fault
    }
    status.cluster = cluster
    #expect(StatusText(status, podLimit: 20).text.contains("cluster    \(line)\n"))
  }

  @Test func anEmptyStatusIsShownToo() {
    #expect(StatusText(AgentStatus(), podLimit: 20).text.hasPrefix("node       \n"))
  }

  @Test func jsonKeepsEverything() throws {
    let text = Self.example.json.text
    #expect(AgentStatus(json: try JSONParser.parse(Array(text.utf8))) == Self.example)
  }

  @Test(arguments: ["{}", "[]", "null", #"{"schema":2}"#, #"{"schema":"1"}"#])
  func anotherDocumentIsRefused(_ text: String) throws {
    #expect(AgentStatus(json: try JSONParser.parse(Array(text.utf8))) == nil)
  }

  @Test(arguments: [#"{"schema":1}"#, #"{"schema":1,"pool":7,"enis":{},"pods":[1,null],"kernel":{"differences":3}}"#])
  func whatIsMissingOrOddHasItsDefault(_ text: String) throws {
    let status = try #require(AgentStatus(json: try JSONParser.parse(Array(text.utf8))))
    #expect(status.pool == AgentStatus.Pool() && status.enis.isEmpty)
  }

  @Test(arguments: [(-5, "0s"), (59, "59s"), (61, "1m1s"), (3599, "59m"), (3600, "1h0m"), (180_000, "2d2h")])
  func spans(_ seconds: Int, _ text: String) { #expect(StatusText.span(seconds) == text) }
}
