// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import MetricsHelperMode

@Suite struct AgentReadingTests {
  private static func read(_ text: String, size: Int = .max) throws(AgentFailure) -> AgentReading {
    var reader = AgentTextReader()
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      try reader.read(Array(rest.prefix(size)))
      rest = rest.dropFirst(size)
    }
    return try reader.finish()
  }

  private static func value(_ reading: AgentReading, _ name: String) -> Double? {
    reading.values[ClusterMetric.index(name)]
  }

  @Test func familiesAreAddedUpOverTheirLabels() throws {
    let reading = try Self.read(
      """
      # TYPE awscni_ec2api_req_count counter
      awscni_ec2api_req_count{fn="AttachNetworkInterface"} 3
      awscni_ec2api_req_count{fn="CreateNetworkInterface"} 4
      awscni_assigned_ip_addresses 7
      awscni_assigned_ip_per_cidr{cidr="10.0.0.5/32"} 1
      awscni_assigned_ip_per_cidr{cidr="10.0.0.6/32"} 1
      process_start_time_seconds 1.7e9

      """, size: 13)
    #expect(Self.value(reading, "ec2ApiReqCount") == 7 && Self.value(reading, "assignIPAddresses") == 7)
    #expect(Self.value(reading, "totalAssignedIPv4sPerCidr") == 2 && Self.value(reading, "eniAllocated") == nil)
    #expect(reading.processStart == 1.7e9 && reading.skippedLines == 0 && reading.duplicates == 0)
  }

  @Test func latencyIsTheHighestQuantileOfACall() throws {
    let reading = try Self.read(
      """
      awscni_aws_api_latency_ms{api="A",error="false",status="200",quantile="0.5"} 900
      awscni_aws_api_latency_ms{api="A",error="false",status="200",quantile="0.99"} 120
      awscni_aws_api_latency_ms{api="B",error="true",status="503",quantile="0.99"} 140.5
      awscni_aws_api_latency_ms{api="C",error="false",status="200",quantile="0.99"} NaN
      awscni_aws_api_latency_ms{api="waitForENIAndIPsAttached",error="false",status="",quantile="0.99"} 9000
      awscni_aws_api_latency_ms_sum{api="A",error="false",status="200"} 5000
      awscni_aws_api_latency_ms_count{api="A",error="false",status="200"} 7

      """)
    #expect(Self.value(reading, "awsAPILatency") == 140.5)
  }

  @Test func withoutQuantilesThereIsNoLatency() throws {
    // Agents of amazon-vpc-cni-k8s report this.
    let reading = try Self.read(
      "awscni_aws_api_latency_ms_sum{api=\"A\"} 5\nawscni_aws_api_latency_ms_count{api=\"A\"} 1\n")
    #expect(Self.value(reading, "awsAPILatency") == nil)
  }

  @Test func aDuplicateCountsOnce() throws {
    let reading = try Self.read(
      """
      awscni_ipamd_error_count{fn="a",x="1"} 3
      awscni_ipamd_error_count{fn="a",x="1"} 3
      awscni_ipamd_error_count{x="1",fn="a"} 5
      awscni_ipamd_error_count{fn="1",x="a"} 1
      awscni_eni_max 4
      awscni_eni_max 4

      """)
    #expect(Self.value(reading, "ipamdErr") == 4 && Self.value(reading, "eniMaxAvailable") == 4)
    #expect(reading.duplicates == 3)
  }

  @Test func valuesThatCannotBeAreLeftOut() throws {
    let reading = try Self.read(
      """
      awscni_add_ip_req_count -5
      awscni_eni_max +Inf
      awscni_ip_max NaN
      awscni_eni_allocated 2
      not a sample

      """)
    #expect(Self.value(reading, "addReqCount") == nil && Self.value(reading, "eniMaxAvailable") == nil)
    #expect(Self.value(reading, "maxIPAddresses") == nil && Self.value(reading, "eniAllocated") == 2)
    #expect(reading.skippedLines == 1)
  }

  @Test(arguments: [
    ("<html><body>503</body></html>\n", AgentFault.notMetrics),
    ("awscni_eni_max 4\nawscni_ip_max 1", .truncated),
    ("", .notMetrics),
  ])
  func aTextThatCannotBeUsedSaysWhy(text: String, cause: AgentFault) {
    let error = #expect(throws: AgentFailure.self) { try Self.read(text, size: 65_536) }
    #expect(error?.code == cause)
  }

  @Test func tooMuchTextIsRefused() {
    let text = String(repeating: "# comment\n", count: 900_000)
    let error = #expect(throws: AgentFailure.self) { try Self.read(text, size: 65_536) }
    #expect(error?.code == .tooLarge)
  }

  @Test func tooManySeriesAreRefused() {
    var text = ""
    for index in 0...AgentTextReader.sampleLimit { text += "awscni_eni_max{x=\"\(index)\"} 1\n" }
    let error = #expect(throws: AgentFailure.self) { try Self.read(text, size: 65_536) }
    #expect(error?.code == .tooLarge)
  }

  /// The table has the contract's rows: 20 metrics, each series and each name once.
  @Test func theTableIsWhole() {
    #expect(ClusterMetric.all.count == 20)
    #expect(Set(ClusterMetric.all.map(\.series)).count == 20 && Set(ClusterMetric.all.map(\.name)).count == 20)
    #expect(
      Set(ClusterMetric.all.filter(\.isServedPlain).map(\.series)) == [
        "awscni_eni_max", "awscni_ip_max", "awscni_eni_allocated", "awscni_total_ip_addresses",
        "awscni_assigned_ip_addresses", "awscni_total_ipv4_prefixes",
      ])
  }

  @Test(arguments: [UInt64(1), 2, 3])
  func mutatedTextsDoNoHarm(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let text = Array(
      """
      # TYPE awscni_aws_api_latency_ms summary
      awscni_aws_api_latency_ms{api="A",quantile="0.99"} 120
      awscni_ipamd_error_count{fn="a"} 3
      process_start_time_seconds 1.7e9

      """.utf8)
    for _ in 0..<2_000 {
      var bytes = text
      for _ in 0..<Int.random(in: 1...6, using: &random) where !bytes.isEmpty {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      guard let reading = try? Self.read(String(decoding: bytes, as: UTF8.self)) else { continue }
      #expect(reading.values.allSatisfy { $0?.isFinite ?? true }, "seed \(seed)")
    }
  }
}
