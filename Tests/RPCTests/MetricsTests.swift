// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing
import VPCModel
import VPCSystem

@testable import VPCObserve

@Suite struct MetricsTests {
  private let loopback = ListenAddress.tcp(host: IPAddress(ipv4: 0x7f00_0001), port: 0)

  private func filled() -> MetricRegistry {
    let registry = MetricRegistry()
    let counter = registry.counter("awscni_ec2api_req_count", "requests by \"action\"\nand \\", labels: ["fn"])
    counter.increment("Attach\"ENI\"\n\\")
    counter.increment(by: 2, "DetachENI")
    counter.increment(by: -5, "DetachENI")
    registry.gauge("awscni_eni_max", "limit").set(4)
    let perENI = registry.gauge("awscni_assigned_ip_per_eni", "assigned", labels: ["eni"])
    perENI.set(7, "eni-1")
    perENI.set(3.5, "eni-2")
    perENI.remove("eni-1")
    let start = registry.histogram("startup_seconds", "start", labels: ["success"], buckets: [0.1, 1])
    for value in [0.05, 0.1, 0.5, 3] { start.observe(value, "true") }
    let latency = registry.summary("awscni_aws_api_latency_ms", "latency", labels: ["api", "error", "status"])
    latency.observe(12, "DescribeInstances", "false", "200")
    let quantiles = registry.summary("q", "quantiles", quantiles: [0.5, 0.99])
    for value in 1...100 { quantiles.observe(Double(value)) }
    _ = registry.counter("unused", "never incremented", labels: ["a"])
    return registry
  }

  @Test func theTextIsTheFormats() {
    let text = filled().text()
    for line in [
      "# HELP awscni_ec2api_req_count requests by \"action\"\\nand \\\\", "# TYPE awscni_ec2api_req_count counter",
      "awscni_ec2api_req_count{fn=\"Attach\\\"ENI\\\"\\n\\\\\"} 1", "awscni_ec2api_req_count{fn=\"DetachENI\"} 2",
      "awscni_eni_max 4", "awscni_assigned_ip_per_eni{eni=\"eni-2\"} 3.5",
      "startup_seconds_bucket{success=\"true\",le=\"0.1\"} 2", "startup_seconds_bucket{success=\"true\",le=\"1\"} 3",
      "startup_seconds_bucket{success=\"true\",le=\"+Inf\"} 4", "startup_seconds_count{success=\"true\"} 4",
      "awscni_aws_api_latency_ms_sum{api=\"DescribeInstances\",error=\"false\",status=\"200\"} 12",
      "q{quantile=\"0.5\"} 50", "q{quantile=\"0.99\"} 99", "q_count 100",
    ] {
      #expect(text.split(separator: "\n").contains { $0 == line }, "\(line)")
    }
    #expect(!text.contains("eni-1") && !text.contains("unused"))
  }

  @Test func seriesAreBounded() {
    let registry = MetricRegistry()
    let counter = registry.counter("errors", "errors", labels: ["fn", "error"])
    for index in 0..<5_000 { counter.increment("f", "error \(index)") }
    let text = registry.text()
    #expect(text.split(separator: "\n").count == MetricRegistry.seriesLimit + 3)
    #expect(text.contains("errors{fn=\"overflow\",error=\"overflow\"} 4000"))
  }

  @Test func endpointAnswers() async throws {
    let registry = filled()
    var limits = HTTPEndpoint.Limits()
    limits.timeout = .seconds(60)
    let server = try await HTTPEndpoint.start(at: loopback, limits: limits) { path in
      if path == "/metrics" { return HTTPAnswer(metrics: registry.text()) }
      if path == "/fail" { throw CancellationError() }
      return HTTPAnswer(status: path == "/" ? 200 : 404, body: Array("{\"path\":\"\(path)\"}".utf8))
    }
    let port = server.port
    func ask(_ request: String) async throws -> String {
      try await onThread { String(decoding: try tcp(port, request), as: UTF8.self) }
    }
    let metrics = try await ask("GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(metrics.hasPrefix("HTTP/1.1 200 OK\r\n") && metrics.contains("text/plain; version=0.0.4"))
    #expect(metrics.hasSuffix(registry.text()))
    #expect(try await ask("GET / HTTP/1.0\r\n\r\n").hasSuffix("{\"path\":\"/\"}"))
    #expect(try await ask("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").hasPrefix("HTTP/1.1 404"))
    #expect(try await ask("GET /fail HTTP/1.1\r\nHost: a\r\n\r\n").hasPrefix("HTTP/1.1 500"))
    #expect(try await ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").hasPrefix("HTTP/1.1 405"))
    let head = try await ask("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(head.hasPrefix("HTTP/1.1 200") && head.hasSuffix("\r\n\r\n"))
    #expect(try await ask("garbage\r\n\r\n").hasPrefix("HTTP/1.1 400"))
    await server.shutdown()
  }

  @Test func silentAndExcessConnectionsAreClosed() async throws {
    var limits = HTTPEndpoint.Limits()
    limits.timeout = .milliseconds(200)
    limits.connections = 3
    let server = try await HTTPEndpoint.start(at: loopback, limits: limits) { _ in
      try await untilCancelled()
      return HTTPAnswer(body: [])
    }
    let port = server.port
    for request in ["", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
      #expect(try await onThread { try tcp(port, request).isEmpty })
    }
    let sockets = try await onThread { try (0..<6).map { _ in try connectTCP(port) } }
    let closed = try await onThread { sockets.map { $0.drain(seconds: 60).closed } }
    #expect(closed.allSatisfy { $0 })
    await server.shutdown()
  }

  /// More silent connections than allowed, none of which would end by itself within the test.
  @Test(arguments: ["", "GET /metrics HTTP/1.1\r\n"])
  func connectionsThatWaitBlockNobody(_ half: String) async throws {
    var limits = HTTPEndpoint.Limits()
    limits.timeout = .seconds(600)
    limits.connections = 3
    let server = try await HTTPEndpoint.start(at: loopback, limits: limits) { _ in HTTPAnswer(body: Array("{}".utf8)) }
    let port = server.port
    let sockets = try await onThread {
      try (0..<6).map { _ in
        let socket = try connectTCP(port)
        socket.send(Array(half.utf8))
        return socket
      }
    }
    for _ in 0..<3 {
      let answer = try await onThread { String(decoding: try tcp(port, "GET / HTTP/1.0\r\n\r\n"), as: UTF8.self) }
      #expect(answer.hasPrefix("HTTP/1.1 200"))
    }
    withExtendedLifetime(sockets) {}
    await server.shutdown()
  }

  @Test(.enabled(if: python != nil || TestNeeds.mustRun, "VPC_CNI_TEST_PYTHON names no Python with prometheus_client"))
  func anotherParserReadsTheText() async throws {
    let folder = TemporaryFolder()
    let path = try folder.write("metrics.txt", filled().text())
    let output = try await onThread { try peer("metrics.py", path).rest() }
    let families = try #require(try foreignJSON(output) as? [String: [String: Any]])
    #expect(families["startup_seconds"]?["type"] as? String == "histogram")
    #expect(families["q"]?["type"] as? String == "summary")
    #expect(families["awscni_ec2api_req_count"]?["labels"] as? [String] == ["Attach\"ENI\"\n\\", "DetachENI"])
    #expect(families["awscni_ec2api_req_count"]?["help"] as? String == "requests by \"action\"\nand \\")
  }
}

func connectTCP(_ port: Int) throws -> RawSocket {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  let address = SocketAddress(IPAddress(ipv4: 0x7f00_0001), port: UInt16(port))
  try #require(address.withPointer { connect(descriptor, $0, $1) } == 0)
  return RawSocket(owning: descriptor)
}

func tcp(_ port: Int, _ request: String) throws -> [UInt8] {
  let socket = try connectTCP(port)
  socket.send(Array(request.utf8))
  return socket.drain(seconds: 60).bytes
}
