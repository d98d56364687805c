// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCModel
import VPCTransport

@testable import VPCCloud

@Suite struct CloudWatchClientTests {
  private static let success =
    "<PutMetricDataResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\"><ResponseMetadata>"
    + "<RequestId>r</RequestId></ResponseMetadata></PutMetricDataResponse>"

  private static func error(_ code: String, _ message: String = "m") -> String {
    "<ErrorResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\"><Error><Type>Sender</Type><Code>\(code)"
      + "</Code><Message>\(message)</Message></Error><RequestId>r-1</RequestId></ErrorResponse>"
  }

  /// A client with a transport that answers from a closure, which gets the number of the request.
  private struct Harness {
    let transport: FakeTransport
    let client: CloudWatchClient
    let time = ManualTime()

    init(_ answer: @escaping @Sendable (Int) throws(HTTPError) -> HTTPResponse) throws {
      let counter = Counter()
      transport = FakeTransport { (_) async throws(HTTPError) in try answer(counter.next()) }
      let url = try #require(EndpointURL("https://monitoring.eu-west-1.amazonaws.com"))
      client = CloudWatchClient(
        transport: transport, endpoint: ServiceEndpoint(service: .cloudWatch, region: "eu-west-1", url: url),
        credentials: CredentialsProvider(
          sources: [EC2Harness.keys], time: time.source, wallClock: time.wallClock), userAgent: "amazon-vpc-cni-k8s/v1",
        time: time.source, wallClock: time.wallClock)
    }

    func put(_ count: Int = 1) async -> CloudWatchError? {
      do throws(CloudWatchError) {
        try await client.putMetricData(Array(repeating: CloudWatchClientTests.datum, count: count), namespace: "N")
        return nil
      } catch {
        return error
      }
    }
  }

  private static let datum = MetricDatum(
    name: "m", dimensions: ["D": "v"], value: 1, unit: .count, time: UTCTime(seconds: 1_700_000_000))

  @Test func fieldsAreThoseOfBotocore() async throws {
    let harness = try Harness { _ in HTTPResponse(200, Self.success) }
    let data = [
      MetricDatum(
        name: "addReqCount", dimensions: ["CLUSTER_ID": "a b"], value: 12.5, unit: .count,
        time: UTCTime(seconds: 1_795_518_007)),
      MetricDatum(
        name: "awsAPILatency", dimensions: ["B": "2", "A": "1"], value: 1_500_000, unit: .milliseconds,
        time: UTCTime(seconds: 0)),
    ]
    try await harness.client.putMetricData(data, namespace: "Kubernetes")
    let request = try #require(harness.transport.requests.first)
    #expect(request.url == "https://monitoring.eu-west-1.amazonaws.com/" && request.method == .post)
    #expect(request.headers["Authorization"]?.contains("/eu-west-1/monitoring/aws4_request") == true)
    #expect(EC2Harness.fields(request) == BotocoreVectors.metricData)
  }

  @Test func whatMayPassIsTriedAgain() async throws {
    let harness = try Harness { count throws(HTTPError) in
      switch count {
      case 1: throw HTTPError(.timedOut, url: "u", detail: "late", isTransient: true, isUnsent: false)
      case 2: HTTPResponse(400, Self.error("Throttling", "Rate exceeded"))
      default: HTTPResponse(200, Self.success)
      }
    }
    #expect(await harness.put() == nil)
    #expect(harness.transport.requests.count == 3 && harness.time.sleeps.count == 2)
  }

  @Test func threeTriesAreAll() async throws {
    let harness = try Harness { _ in HTTPResponse(503, "<html>busy</html>") }
    let error = try #require(await harness.put())
    #expect(error.code == "HTTP503" && error.isTransient && !error.isAboutTheData)
    #expect(harness.transport.requests.count == 3)
  }

  @Test(arguments: [
    (400, "InvalidParameterValue", true, false), (400, "MissingParameter", true, false),
    (400, "ValidationError", true, false), (413, "RequestEntityTooLarge", true, false),
    (403, "AccessDenied", false, true), (400, "SomethingNew", false, false), (429, "TooMany", false, false),
  ])
  func codesSayWhatToDo(status: Int, code: String, isAboutTheData: Bool, isMissingPermission: Bool) async throws {
    let harness = try Harness { _ in HTTPResponse(status, Self.error(code, "a\nb")) }
    let error = try #require(await harness.put())
    #expect(error.isAboutTheData == isAboutTheData && error.isMissingPermission == isMissingPermission)
    #expect("\(error)" == "PutMetricData: \(code): a b (request r-1)")
    #expect(harness.transport.requests.count == (error.isTransient ? 3 : 1))
  }

  @Test func aWrongClockIsPutRight() async throws {
    let harness = try Harness { count in
      count == 1
        ? HTTPResponse(
          403, Self.error("SignatureDoesNotMatch"), headers: ["Date": "Tue, 24 Nov 2026 11:00:07 GMT"])
        : HTTPResponse(200, Self.success)
    }
    #expect(await harness.put() == nil)
    #expect(harness.transport.requests.last?.headers["X-Amz-Date"]?.hasPrefix("20261124T1100") == true)
  }

  @Test func aCallThatIsTooLargeIsNotMade() async throws {
    let harness = try Harness { _ in HTTPResponse(200, Self.success) }
    #expect(await harness.put(21)?.isAboutTheData == true)
    #expect(await harness.put(0) == nil && harness.transport.requests.isEmpty)
    #expect(await harness.put(20) == nil)
  }

  @Test func mutatedAnswersDoNoHarm() async throws {
    var random = SplitMix64(seed: 11)
    for _ in 0..<500 {
      let body = random.mutate(Array((Bool.random(using: &random) ? Self.success : Self.error("A")).utf8))
      let harness = try Harness { _ in HTTPResponse(status: 200, body: body) }
      _ = await harness.put()
    }
  }
}
