// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import Testing
import VPCModel
import VPCTransport

@testable import MetricsHelperMode
@testable import VPCCloud

/// A CloudWatch that accepts or refuses calls as a closure says, and keeps what it accepted.
private final class ScriptedCloudWatch: HTTPTransport {
  private struct State {
    var calls = 0
    var taken: [[String: String]] = []
  }
  private let state = Mutex(State())
  private let status: @Sendable (_ call: Int) -> (Int, String)

  init(_ status: @escaping @Sendable (Int) -> (Int, String)) { self.status = status }

  var calls: Int { state.withLock { $0.calls } }
  /// The fields of each accepted call.
  var taken: [[String: String]] { state.withLock { $0.taken } }

  func send(_ request: HTTPRequest) async throws(HTTPError) -> HTTPResponse {
    let call = state.withLock { state in
      state.calls += 1
      return state.calls
    }
    let (status, code) = status(call)
    guard status == 200 else {
      let text = "<ErrorResponse><Error><Code>\(code)</Code><Message>m</Message></Error></ErrorResponse>"
      return HTTPResponse(status: status, body: Array(text.utf8))
    }
    var fields: [String: String] = [:]
    for pair in String(decoding: request.body, as: UTF8.self).replacing("+", with: " ").split(separator: "&") {
      let parts = pair.split(separator: "=", omittingEmptySubsequences: false)
      fields[PercentEncoding.decode(parts[0])] = PercentEncoding.decode(parts[1])
    }
    state.withLock { $0.taken.append(fields) }
    return HTTPResponse(status: 200, body: Array("<PutMetricDataResponse/>".utf8))
  }
}

@Suite struct PublisherTests {
  private struct Refusal: Error {}

  private let metrics = HelperMetrics()
  /// Time stands still, so that a busy machine reaches no deadline.
  private let time = TimeSource(now: { [start = ContinuousClock.now] in start }, sleep: { _ in }, random: { 0.5 })

  private func publisher(
    _ cloudWatch: ScriptedCloudWatch, limit: Int = 1_000, connect failures: Int = 0
  ) throws -> CloudWatchPublisher {
    let url = try #require(EndpointURL("http://127.0.0.1:1"))
    let keys = CloudEnvironment(["AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"])
    let client = CloudWatchClient(
      transport: cloudWatch, endpoint: ServiceEndpoint(service: .cloudWatch, region: "r", url: url),
      credentials: CredentialsProvider(sources: [EnvironmentSource(environment: keys)]), userAgent: "u", time: time)
    let attempts = Mutex(0)
    return CloudWatchPublisher(
      interval: .seconds(30), metrics: metrics, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
      time: time, queue: PublishQueue(limit: limit)
    ) {
      let attempt = attempts.withLock { attempts in
        attempts += 1
        return attempts
      }
      if attempt <= failures { throw Refusal() }
      return CloudWatchConnection(client: client, clusterID: "c 1")
    }
  }

  private static func round(_ addresses: Double, silent: Int = 0) -> ScrapeRound.Result {
    var result = ScrapeRound.Result()
    result.values =
      AgentReading([
        "totalIPAddresses": addresses, "awsAPILatency": 120, "addReqCount": 0,
      ]).values
    result.answered = 1
    result.silent = ScrapeRoundTests.pods(silent).map { ($0, AgentFailure(.timedOut, "late")) }
    return result
  }

  private func shown(_ line: String) -> Bool { metrics.text().split(separator: "\n").contains { $0 == line } }

  @Test func twoRoundsAreSentAsTheContractHasIt() async throws {
    let cloudWatch = ScriptedCloudWatch { _ in (200, "") }
    let publisher = try publisher(cloudWatch)
    await publisher.add(Self.round(10), at: UTCTime(seconds: 1_700_000_000))
    await publisher.add(Self.round(12, silent: 2), at: UTCTime(seconds: 1_700_000_030))
    await publisher.flush()
    let fields = try #require(cloudWatch.taken.first)
    #expect(cloudWatch.calls == 1 && fields["Namespace"] == "Kubernetes")
    let prefixes = (1...8).map { "MetricData.member.\($0)" }
    #expect(fields["MetricData.member.9.Value"] == nil)
    #expect(prefixes.allSatisfy { fields["\($0).Dimensions.member.1.Name"] == "CLUSTER_ID" })
    #expect(prefixes.allSatisfy { fields["\($0).Dimensions.member.1.Value"] == "c 1" })
    let lines = prefixes.map { prefix in
      [".MetricName", ".Value", ".Unit", ".Timestamp"].map { fields[prefix + $0] ?? "" }.joined(separator: " ")
    }
    #expect(
      Set(lines) == [
        "totalIPAddresses 10.0 Count 2023-11-14T22:13:20Z", "awsAPILatency 120.0 Milliseconds 2023-11-14T22:13:20Z",
        "addReqCount 0.0 Count 2023-11-14T22:13:20Z", "silentAgents 0.0 Count 2023-11-14T22:13:20Z",
        "totalIPAddresses 12.0 Count 2023-11-14T22:13:50Z", "awsAPILatency 120.0 Milliseconds 2023-11-14T22:13:50Z",
        "addReqCount 0.0 Count 2023-11-14T22:13:50Z", "silentAgents 2.0 Count 2023-11-14T22:13:50Z",
      ])
    #expect(shown("cni_metrics_helper_cloudwatch_values_total 8") && shown("cni_metrics_helper_cloudwatch_waiting 0"))
  }

  @Test func aCallHasAtMostTwentyValues() async throws {
    let cloudWatch = ScriptedCloudWatch { _ in (200, "") }
    let publisher = try publisher(cloudWatch)
    for index in 0..<12 { await publisher.add(Self.round(Double(index)), at: UTCTime(seconds: 0)) }
    await publisher.flush()
    let sizes = cloudWatch.taken.map { fields in fields.keys.filter { $0.hasSuffix(".MetricName") }.count }
    #expect(sizes == [20, 20, 8])
  }

  @Test func whatCouldNotBeSentIsSentLater() async throws {
    // Three attempts of one flush and one attempt of the next one fail.
    let cloudWatch = ScriptedCloudWatch { call in call <= 4 ? (503, "Unavailable") : (200, "") }
    let publisher = try publisher(cloudWatch)
    await publisher.add(Self.round(1), at: UTCTime(seconds: 0))
    await publisher.flush()
    #expect(cloudWatch.taken.isEmpty && shown("cni_metrics_helper_cloudwatch_waiting 4"))
    await publisher.add(Self.round(2), at: UTCTime(seconds: 30))
    await publisher.flush()
    #expect(cloudWatch.taken.count == 1 && cloudWatch.taken.first?["MetricData.member.8.Value"] != nil)
    // Oldest first.
    #expect(cloudWatch.taken.first?["MetricData.member.1.Timestamp"] == "1970-01-01T00:00:00Z")
    #expect(shown("cni_metrics_helper_cloudwatch_failures_total{code=\"Unavailable\"} 1"))
  }

  @Test func aMissingPermissionKeepsTheValues() async throws {
    let cloudWatch = ScriptedCloudWatch { call in call == 1 ? (403, "AccessDenied") : (200, "") }
    let publisher = try publisher(cloudWatch)
    await publisher.add(Self.round(1), at: UTCTime(seconds: 0))
    await publisher.flush()
    #expect(cloudWatch.calls == 1)
    await publisher.flush()
    #expect(cloudWatch.taken.count == 1)
  }

  @Test func whatCloudWatchRefusesIsDroppedAndTheRestGoesOn() async throws {
    let cloudWatch = ScriptedCloudWatch { call in call == 1 ? (400, "InvalidParameterValue") : (200, "") }
    let publisher = try publisher(cloudWatch)
    for index in 0..<6 { await publisher.add(Self.round(Double(index)), at: UTCTime(seconds: 0)) }
    await publisher.flush()
    #expect(cloudWatch.taken.count == 1)
    #expect(shown("cni_metrics_helper_cloudwatch_dropped_total{reason=\"refused\"} 20"))
    #expect(shown("cni_metrics_helper_cloudwatch_values_total 4"))
  }

  @Test func memoryIsBoundedAndDropsAreCounted() async throws {
    let cloudWatch = ScriptedCloudWatch { _ in (503, "Unavailable") }
    let publisher = try publisher(cloudWatch, limit: 50)
    for index in 0..<100 {
      await publisher.add(Self.round(Double(index)), at: UTCTime(seconds: Int64(index)))
      if index % 10 == 0 { await publisher.flush() }
    }
    #expect(shown("cni_metrics_helper_cloudwatch_waiting 50"))
    #expect(shown("cni_metrics_helper_cloudwatch_dropped_total{reason=\"no_room\"} 350"))
  }

  @Test func valuesWaitUntilThereIsAConnection() async throws {
    let cloudWatch = ScriptedCloudWatch { _ in (200, "") }
    let publisher = try publisher(cloudWatch, connect: 2)
    await publisher.add(Self.round(1), at: UTCTime(seconds: 0))
    await publisher.flush()
    await publisher.flush()
    #expect(cloudWatch.calls == 0)
    await publisher.flush()
    #expect(cloudWatch.taken.count == 1)
  }

  @Test func theQueueKeepsTheNewest() {
    var queue = PublishQueue(limit: 3)
    let data = (0..<5).map {
      MetricDatum(name: "\($0)", dimensions: [:], value: 0, unit: .count, time: UTCTime(seconds: 0))
    }
    queue.add(Array(data[..<2]))
    let batch = queue.take(2)
    queue.add(Array(data[2...]))
    queue.putBack(batch)
    #expect(queue.count == 3 && queue.overflowed == 2)
    #expect(queue.take(10).map(\.name) == ["2", "3", "4"] && queue.take(1).isEmpty)
  }

  @Test func theClusterIsNamedByTheFirstUsableTag() {
    #expect(CloudWatchConnection.choose(["Name": "n", "CLUSTER_ID": "c", "eks:cluster-name": "e"]) == "e")
    #expect(CloudWatchConnection.choose(["Name": "n", "CLUSTER_ID": "c"]) == "c")
    #expect(CloudWatchConnection.choose(["Name": "n", "CLUSTER_ID": "größe"]) == "n")
    #expect(CloudWatchConnection.choose(["Name": ""]) == nil && CloudWatchConnection.choose([:]) == nil)
  }
}
