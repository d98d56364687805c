// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing
import VPCLinux
import VPCModel
import VPCObserve
import VPCSystem

@testable import AgentMode
@testable import VPCCloud

/// What the agent counts, and the names and labels of the metrics.
@Suite struct AgentMetricsTests {
  let fixture: PoolFixture
  let enis = FakeENIs(addresses: 2)
  let metrics = AgentMetrics()

  init() async throws { fixture = try PoolFixture(enis, metrics: metrics) }

  /// The samples of a scrape: `name{labels}` and its value.
  private func scrape(_ subnets: [SubnetUse] = []) async -> [String: String] {
    let text = metrics.text(of: await fixture.pool.snapshot(), subnets: subnets)
    let lines = text.split(separator: "\n").filter { !$0.hasPrefix("#") }
    return Dictionary(
      lines.map { line in
        let space = line.lastIndex(of: " ") ?? line.endIndex
        return (String(line[..<space]), String(line[line.index(after: space)...]))
      }
    ) { _, last in last }
  }

  /// Dashboards and alerts for amazon-vpc-cni-k8s use these. Source: contract of amazon-vpc-cni-k8s v1.23, metrics of
  /// the agent.
  static let contract: [(type: String, names: [(name: String, labels: [String])])] = [
    (
      "counter",
      [
        ("ipamd_error_count", ["fn"]), ("reconcile_count", ["fn"]), ("add_ip_req_count", []),
        ("del_ip_req_count", ["reason"]), ("pod_eni_error_count", ["fn"]), ("aws_api_error_count", ["api", "error"]),
        ("aws_utils_error_count", ["fn", "error"]), ("ec2api_req_count", ["fn"]), ("ec2api_error_count", ["fn"]),
        ("no_available_ip_addresses", []), ("force_removed_enis", []), ("force_removed_ips", []),
        ("connmark_reconcile_total", ["result"]),
      ]
    ),
    (
      "gauge",
      [
        ("ipamd_action_inprogress", ["fn"]), ("eni_max", []), ("ip_max", []), ("eni_allocated", []),
        ("total_ip_addresses", []), ("assigned_ip_addresses", []), ("total_ipv4_prefixes", []),
        ("assigned_ip_per_cidr", ["cidr"]), ("assigned_ip_per_eni", ["eni"]), ("connmark_backend", ["backend"]),
        ("build_info", ["version", "goversion"]),
      ]
    ),
    ("summary", [("aws_api_latency_ms", ["api", "error", "status"])]),
    (
      "histogram",
      [
        ("ipamd_startup_duration_seconds", ["success", "with_api_server", "failure_reason"]),
        ("ipamd_node_initialization_duration_seconds", ["success"]),
      ]
    ),
  ]

  @Test func everySeriesOfTheContractIsThere() throws {
    let known = Dictionary(uniqueKeysWithValues: metrics.registry.descriptions.map { ($0.name, $0) })
    for (type, names) in Self.contract {
      for (name, labels) in names {
        let series = try #require(known["awscni_" + name], "\(name)")
        #expect(series.type == type && series.labels == labels, "\(name) is a \(series.type) by \(series.labels)")
      }
    }
  }

  @Test func gaugesAreThePools() async throws {
    _ = await fixture.started()
    for name in ["a", "b", "c"] { #expect(await fixture.add(name).address != nil) }
    let samples = await scrape()
    let addresses = enis.addresses.count
    for (name, value) in [
      ("awscni_assigned_ip_addresses", 3), ("awscni_total_ip_addresses", addresses), ("awscni_eni_max", 3),
      ("awscni_ip_max", 12), ("awscni_eni_allocated", enis.enis.count), ("awscni_waiting_adds", 0),
      ("awscni_free_ip_addresses", addresses - 3), ("awscni_total_ipv4_prefixes", 0), ("awscni_force_removed_enis", 0),
      ("awscni_force_removed_ips", 0), ("awscni_no_available_ip_addresses", 0),
      ("awscni_ipamd_action_inprogress{fn=\"nodeInit\"}", 0),
      ("awscni_ipamd_action_inprogress{fn=\"increaseDatastorePool\"}", 0),
    ] {
      #expect(samples[name] == "\(value)", "\(name)")
    }
    let perENI = samples.filter { $0.key.hasPrefix("awscni_assigned_ip_per_eni{") }.values.compactMap { Int($0) }
    let perCIDR = samples.filter { $0.key.hasPrefix("awscni_assigned_ip_per_cidr{") }.values.compactMap { Int($0) }
    #expect(perENI.reduce(0, +) == 3 && perENI.count == enis.enis.count)
    #expect(perCIDR.reduce(0, +) == 3 && perCIDR.count == addresses)
    #expect(Double(samples["process_resident_memory_bytes"] ?? "") ?? 0 > 1_000_000)
    #expect(Int(samples["process_open_fds"] ?? "") ?? 0 > 2)
    let started = try #require(Double(samples["process_start_time_seconds"] ?? ""))
    let now = Double(UTCTime.now.milliseconds) / 1_000
    #expect(started > now - 86_400 && started <= now + 1)
    #expect(Double(samples["process_cpu_seconds_total"] ?? "") ?? 0 > 0)
    #expect(!samples.keys.contains { $0.hasPrefix("go_") })
  }

  @Test func seriesGoWithTheirObject() async throws {
    let second = FakeENIs.observation("eni-b", device: 1, addresses: ["10.0.9.1", "10.0.9.2"])
    _ = await fixture.started()
    let first = enis.observations
    await fixture.pool.tell(.observed(listing(first + [second])))
    var samples = await scrape()
    #expect(samples["awscni_assigned_ip_per_eni{eni=\"eni-b\"}"] == "0")
    #expect(samples["awscni_assigned_ip_per_cidr{cidr=\"10.0.9.1/32\"}"] == "0")
    #expect(samples["awscni_reconcile_count{fn=\"eniReconcileAdd\"}"] == "1")
    #expect(samples["awscni_reconcile_count{fn=\"eniReconcileDel\"}"] == nil)
    // A listing requested less than a minute after the change might lack existing addresses.
    await fixture.pool.tell(.observed(listing(first, after: .seconds(61))))
    samples = await scrape()
    #expect(!samples.keys.contains { $0.contains("eni-b") || $0.contains("10.0.9.") })
    #expect(samples["awscni_reconcile_count{fn=\"eniReconcileDel\"}"] == "1")
  }

  private func listing(_ enis: [ENIObservation], after wait: Duration = .zero) -> ENIListing {
    ENIListing(enis: enis, askedAt: PoolClock.now().instant + wait, isAuthoritative: true)
  }

  @Test func requestsToEC2() async throws {
    for _ in 0..<99 { metrics.ec2(observation("AttachNetworkInterface", .milliseconds(10), nil, 200)) }
    metrics.ec2(observation("AttachNetworkInterface", .milliseconds(900), nil, 200))
    metrics.ec2(observation("AttachNetworkInterface", .milliseconds(5), "RequestLimitExceeded", 503))
    metrics.ec2(observation("CreateNetworkInterface", .milliseconds(5), "UnauthorizedOperation", 403))
    metrics.ec2(observation("CreateNetworkInterface", .seconds(10), "NoAnswer", nil))
    metrics.ec2(observation("CreateNetworkInterface", .zero, "a \"whole\" message with 10.0.0.1 in it", 400))
    let samples = await scrape()
    let good = "{api=\"AttachNetworkInterface\",error=\"false\",status=\"200\""
    for (name, value) in [
      ("awscni_aws_api_latency_ms\(good),quantile=\"0.5\"}", "10"),
      ("awscni_aws_api_latency_ms\(good),quantile=\"0.99\"}", "10"),
      ("awscni_aws_api_latency_ms_count\(good)}", "100"), ("awscni_aws_api_latency_ms_sum\(good)}", "1890"),
      ("awscni_aws_api_latency_ms_count{api=\"CreateNetworkInterface\",error=\"true\",status=\"\"}", "1"),
      ("awscni_ec2api_req_count{fn=\"AttachNetworkInterface\"}", "101"),
      ("awscni_ec2api_error_count{fn=\"AttachNetworkInterface\"}", "1"),
      ("awscni_ec2api_error_count{fn=\"CreateNetworkInterface\"}", "3"),
      ("awscni_ec2api_throttled_count{fn=\"AttachNetworkInterface\"}", "1"),
      ("awscni_aws_api_error_count{api=\"CreateNetworkInterface\",error=\"UnauthorizedOperation\"}", "1"),
      ("awscni_aws_api_error_count{api=\"CreateNetworkInterface\",error=\"other\"}", "1"),
    ] {
      #expect(samples[name] == value, "\(name) is \(samples[name] ?? "absent")")
    }
    #expect(samples["awscni_ec2api_throttled_count{fn=\"CreateNetworkInterface\"}"] == nil)
  }

  private func observation(_ action: String, _ took: Duration, _ code: String?, _ status: Int?) -> EC2Client.Observation
  {
    EC2Client.Observation(action: action, duration: took, error: code.map { EC2Error.Code($0) }, status: status)
  }

  @Test func answersAndCauses() async throws {
    for cause: FailureCause in [
      .subnetFull(FakeENIs.subnet, retryIn: .seconds(3)), .badRequest("x"), .cancelled,
      .onlyCooling(count: 1, freeIn: .zero),
    ] {
      metrics.addAnswered(.failed(cause), after: .milliseconds(1_500))
    }
    for reason in ["PodDeleted", "SetupNSFailed", "", "web-0 with a name of its own"] {
      metrics.deleteAsked(reason: reason)
    }
    let samples = await scrape()
    for (name, value) in [
      ("awscni_add_failed_count{cause=\"subnet_full\"}", "1"), ("awscni_add_failed_count{cause=\"bad_request\"}", "1"),
      ("awscni_no_available_ip_addresses", "2"), ("awscni_add_wait_seconds_count{success=\"false\"}", "4"),
      ("awscni_add_wait_seconds_bucket{success=\"false\",le=\"1\"}", "0"),
      ("awscni_add_wait_seconds_bucket{success=\"false\",le=\"2.5\"}", "4"),
      ("awscni_del_ip_req_count{reason=\"other\"}", "2"), ("awscni_del_ip_req_count{reason=\"PodDeleted\"}", "1"),
    ] {
      #expect(samples[name] == value, "\(name) is \(samples[name] ?? "absent")")
    }
  }

  @Test func actionsThatRunAndFail() async throws {
    enis.fail(.attach, ActionFailure(.other("no")))
    enis.hold(.assign)
    _ = await fixture.started()
    async let waiting: [AddAnswer] = [fixture.add("a"), fixture.add("b"), fixture.add("c")]
    await enis.arrival(of: .assign)
    var samples = await scrape()
    #expect(samples["awscni_ipamd_action_inprogress{fn=\"increaseDatastorePool\"}"] == "1")
    #expect(samples["awscni_waiting_adds"] == "1")
    #expect(samples["awscni_pending_ip_addresses"].flatMap { Int($0) } ?? 0 >= 1)
    enis.letGo(.assign)
    _ = await waiting
    for name in ["d", "e"] { _ = await fixture.add(name) }
    samples = await scrape()
    #expect(samples["awscni_ipamd_action_inprogress{fn=\"increaseDatastorePool\"}"] == "0")
    #expect(samples["awscni_ipamd_error_count{fn=\"increaseIPPoolAllocENI\"}"] == "1")
    // Two ENIs were wired: the primary, which nobody waited for, and the ENI that was attached.
    let waits = samples.filter { $0.key.hasPrefix("awscni_aws_api_latency_ms_count{api=\"waitForENIAndIPsAttached\"") }
    #expect(
      waits == [
        "awscni_aws_api_latency_ms_count{api=\"waitForENIAndIPsAttached\",error=\"false\",status=\"200\"}": "1"
      ])
  }

  @Test func subnetsAsTold() async throws {
    let other = try #require(SubnetID("subnet-2"))
    let told = [
      SubnetUse(id: FakeENIs.subnet, freeAddresses: 17, isExcluded: false),
      SubnetUse(id: other, freeAddresses: 3, isExcluded: true),
    ]
    var samples = await scrape(told)
    #expect(samples["awscni_subnet_free_addresses{subnet=\"subnet-1\"}"] == "17")
    #expect(samples["awscni_subnet_free_addresses{subnet=\"subnet-2\"}"] == "3")
    #expect(samples["awscni_subnet_excluded{subnet=\"subnet-2\"}"] == "1")
    samples = await scrape()
    #expect(!samples.keys.contains { $0.hasPrefix("awscni_subnet_") })
  }

  /// All metrics of the agent, read by an independent parser.
  @Test(.enabled(if: python != nil || TestNeeds.mustRun, "VPC_CNI_TEST_PYTHON names no Python with prometheus_client"))
  func anotherParserReadsIt() async throws {
    _ = await fixture.started()
    _ = await fixture.add("a")
    metrics.addAsked()
    metrics.addAnswered(.failed(.cancelled), after: .milliseconds(3))
    metrics.deleteAsked(reason: "PodDeleted")
    metrics.ec2(observation("DescribeSubnets", .milliseconds(3), "InternalError", 500))
    metrics.started(version: "v1 \"quoted\"", knowsNode: false, after: .milliseconds(300))
    let dropping = [ForwardPolicy(chain: "ip filter FORWARD")]
    for _ in 0..<3 {
      metrics.firewallApplied(FirewallReport(backend: .nft, connmark: "nftables", droppingForward: dropping))
    }
    metrics.initializationEnded(isSuccess: true, after: .milliseconds(200))
    let subnets = [SubnetUse(id: FakeENIs.subnet, freeAddresses: 4, isExcluded: false)]
    let text = metrics.text(of: await fixture.pool.snapshot(), subnets: subnets)
    let script = "/" + #filePath.split(separator: "/").dropLast(2).joined(separator: "/") + "/RPCTests/Peers/metrics.py"
    let python = try #require(python)
    let output = try await TestThread.run {
      try CommandResult.run([python, script, "/dev/stdin"], input: text).get()
    }
    let families = try #require(try JSONParser.parse(Array(output.utf8)).object)
    let known = Dictionary(uniqueKeysWithValues: metrics.registry.descriptions.map { ($0.name, $0) })
    #expect(families.members.count > 30)
    for family in families.members {
      // The parser removes `_total` from the name of a counter.
      let description = try #require(known[family.key] ?? known[family.key + "_total"], "\(family.key)")
      #expect(family.value["type"]?.string == description.type, "\(family.key)")
      #expect(family.value["help"]?.string == description.help, "\(family.key)")
    }
    let lines = text.split(separator: "\n")
    #expect(lines.contains(#"awscni_connmark_reconcile_total{result="success"} 1"#), "the first counts, looks do not")
    #expect(lines.contains(#"awscni_connmark_reconcile_total{result="error"} 0"#), "there before anything fails")
    #expect(lines.contains(#"awscni_forward_policy_drop{chain="ip filter FORWARD"} 1"#))
    #expect(lines.contains(#"awscni_firewall_backend{backend="iptables-nft"} 1"#))
    #expect(families["awscni_build_info"]?["labels"]?.array?.contains("v1 \"quoted\"") == true)
  }
}

/// A Python that has the modules of the peers.
private let python: String? = getenv("VPC_CNI_TEST_PYTHON").map { String(cString: $0) }
