// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VPCCloud
import VPCModel
import VPCTransport

@Suite struct IMDSClientTests {
  private static let quick = RetryPolicy(attempts: 3, base: .milliseconds(1), cap: .milliseconds(2))

  /// `attemptTimeout` is long if every request is answered: the limits are real time, and the machine may be busy.
  private func client(
    _ server: LoopbackServer, time: TimeSource = .system, attemptTimeout: Duration = .seconds(60),
    v1Disabled: Bool = false
  ) -> IMDSClient {
    IMDSClient(
      transport: CurlTransport(),
      settings: .init(
        endpoint: server.url, deadline: .seconds(600), attemptTimeout: attemptTimeout, retry: Self.quick,
        isVersion1Disabled: v1Disabled),
      time: time)
  }

  private func failure(_ body: () async throws(IMDSError) -> Void) async -> IMDSError? {
    do throws(IMDSError) {
      try await body()
      Issue.record("no error")
      return nil
    } catch {
      return error
    }
  }

  /// A service that hands out the tokens t1, t2, … and accepts only the newest one.
  private func service(
    _ tokens: Counter, lifetime: Int = 21_600, _ documents: [String: String]
  ) -> @Sendable (LoopbackServer.Request) -> LoopbackServer.Reply {
    { request in
      if request.path == "/latest/api/token" {
        guard request.method == "PUT", request.headers["x-aws-ec2-metadata-token-ttl-seconds"] != nil else {
          return .answer(400)
        }
        return .answer(200, ["X-aws-ec2-metadata-token-ttl-seconds": "\(lifetime)"], body: "t\(tokens.next())")
      }
      guard request.headers["x-aws-ec2-metadata-token"] == "t\(tokens.value)" else { return .answer(401) }
      return documents[request.path].map { .text($0) } ?? .answer(404)
    }
  }

  @Test func readsWithOneToken() async throws {
    let tokens = Counter()
    try await withServer(service(tokens, ["/latest/meta-data/mac": "0e:00:00:00:00:01"])) { (server) async throws in
      let imds = client(server)
      try await withThrowingTaskGroup(of: MACAddress.self) { (group) async throws in
        for _ in 0..<20 { group.addTask { try await imds.mac() } }
        for try await mac in group { #expect("\(mac)" == "0e:00:00:00:00:01") }
      }
      #expect(try await imds.read("meta-data/none") == nil)
      #expect(tokens.value == 1)
    }
  }

  @Test func tokenIsRenewedBeforeItEnds() async throws {
    let tokens = Counter()
    try await withServer(service(tokens, lifetime: 100, ["/latest/a": "x"])) { (server) async throws in
      let time = ManualTime()
      let imds = client(server, time: time.source)
      _ = try await imds.read("a")
      time.advance(.seconds(94))
      _ = try await imds.read("a")
      #expect(tokens.value == 1)
      time.advance(.seconds(2))
      _ = try await imds.read("a")
      #expect(tokens.value == 2)
    }
  }

  @Test func forgottenTokenIsRenewedOnce() async throws {
    let tokens = Counter()
    try await withServer(service(tokens, ["/latest/a": "x"])) { (server) async throws in
      let imds = client(server)
      _ = try await imds.read("a")
      tokens.next()
      #expect(try await imds.read("a") == Array("x".utf8))
      #expect(tokens.value == 3)
    }
    // A service that refuses every token.
    try await withServer {
      $0.method == "PUT" ? .text("token") : .answer(401)
    } _: { (server) async throws in
      let imds = client(server)
      let error = await failure { () async throws(IMDSError) in _ = try await imds.read("a") }
      #expect(error?.code == .tokenRefused)
      #expect(server.requests.count == 4)
    }
  }

  @Test(arguments: [403, 404, 405])
  func version1WhereThereIsNoToken(_ status: Int) async throws {
    try await withServer {
      $0.method == "PUT" ? .answer(status) : $0.headers["x-aws-ec2-metadata-token"] == nil ? .text("v1") : .answer(400)
    } _: { (server) async throws in
      let imds = client(server)
      for _ in 0..<3 { #expect(try await imds.read("a") == Array("v1".utf8)) }
      #expect(server.requests.filter { $0.method == "PUT" }.count == 1)
      let strict = client(server, v1Disabled: true)
      let failure7 = await failure { () async throws(IMDSError) in _ = try await strict.read("a") }
      #expect(failure7?.code == .status)
    }
  }

  @Test func version1WhereTheTokenIsLost() async throws {
    try await withServer {
      $0.method == "PUT" ? .silence : .text("v1")
    } _: { (server) async throws in
      let time = ManualTime()
      let imds = client(server, time: time.source, attemptTimeout: .seconds(1))
      for _ in 0..<3 { #expect(try await imds.read("a") == Array("v1".utf8)) }
      #expect(server.requests.filter { $0.method == "PUT" }.count == 1)
      time.advance(.seconds(301))
      #expect(try await imds.read("a") == Array("v1".utf8))
      #expect(server.requests.filter { $0.method == "PUT" }.count == 2)
    }
  }

  @Test func lostTokenWhereItIsRequiredNamesTheHopLimit() async throws {
    try await withServer {
      $0.method == "PUT" ? .silence : .answer(401)
    } _: { (server) async throws in
      let imds = client(server, attemptTimeout: .seconds(1))
      let error = await failure { () async throws(IMDSError) in _ = try await imds.read("meta-data/mac") }
      #expect(error?.code == .tokenRefused)
      let text = error.map { CauseChain.text($0) } ?? ""
      #expect(text.contains("HttpPutResponseHopLimit") && text.contains("meta-data/mac"))
    }
  }

  @Test func troubleIsRetriedThenTold() async throws {
    let tries = Counter()
    try await withServer { request in
      request.method == "PUT" ? .text("t") : tries.next() < 3 ? .answer(503) : .text("x")
    } _: { (server) async throws in
      #expect(try await client(server).read("a") == Array("x".utf8))
      #expect(tries.value == 3)
    }
    for reply in [LoopbackServer.Reply.answer(500), .raw([]), .raw(Array("junk".utf8)), .silence] {
      try await withServer {
        $0.method == "PUT" ? .text("t") : reply
      } _: { (server) async throws in
        let imds = client(server, attemptTimeout: .seconds(1))
        let error = await failure { () async throws(IMDSError) in _ = try await imds.read("a") }
        #expect(error?.isTransient == true)
        // libcurl itself retries a GET if its kept-alive connection was closed.
        #expect((4...5).contains(server.requests.count))
      }
    }
  }

  @Test func hugeAndTruncatedAnswers() async throws {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n0e:00"
    try await withServer {
      $0.method == "PUT"
        ? .text("t")
        : $0.path.hasSuffix("mac")
          ? .raw(Array(cut.utf8))
          : .text(String(repeating: "x", count: 1 << 20))
    } _: { (server) async throws in
      let imds = client(server)
      let short = await failure { () async throws(IMDSError) in _ = try await imds.mac() }
      #expect(short?.code == .unreachable)
      let huge = await failure { () async throws(IMDSError) in _ = try await imds.localIPv4() }
      #expect((huge?.cause as? HTTPError)?.code == .bodyTooLarge)
    }
  }

  @Test func interfaces() async throws {
    let mac = "0e:00:00:00:00:02"
    let base = "/latest/meta-data/network/interfaces/macs/"
    var documents = [base: "\(mac)/\n0e:00:00:00:00:03/"]
    for (name, value) in [
      ("interface-id", "eni-0a"), ("device-number", "1"), ("subnet-id", "subnet-0b"), ("vpc-id", "vpc-0c"),
      ("security-group-ids", "sg-1\nsg-2"), ("local-ipv4s", "10.0.0.4\n10.0.0.9\n"), ("ipv4-prefix", "10.0.1.16/28"),
      ("subnet-ipv4-cidr-block", "10.0.0.0/20"), ("vpc-ipv4-cidr-blocks", "10.0.0.0/16\n100.64.0.0/16"),
    ] { documents["\(base)\(mac)/\(name)"] = value }
    try await withServer(service(Counter(), documents)) { (server) async throws in
      let found = try await client(server).interfaces()
      // The second one is listed but no longer has documents: it is being detached.
      #expect(found.count == 1)
      let interface = try #require(found.first)
      #expect(interface.id == ENIID("eni-0a"))
      #expect(interface.deviceNumber == 1 && interface.networkCard == 0)
      #expect(interface.ipv4Addresses.map(\.description) == ["10.0.0.4", "10.0.0.9"])
      #expect(interface.ipv4Prefixes.map(\.description) == ["10.0.1.16/28"])
      #expect(interface.ipv6Addresses.isEmpty && interface.ipv6Prefixes.isEmpty)
      #expect(interface.vpcIPv4CIDRs.count == 2)
      #expect(interface.securityGroupIDs == ["sg-1", "sg-2"])
      #expect(interface.subnetIPv4CIDR == IPPrefix("10.0.0.0/20"))
    }
  }

  @Test(arguments: [
    ("local-ipv4s", "10.0.0.300"), ("ipv4-prefix", "10.0.1.17/28"), ("interface-id", "<html>"), ("device-number", "-1"),
    ("subnet-id", "subnet-../.."), ("local-ipv4s", "fd00::1"), ("vpc-ipv4-cidr-blocks", "\u{1b}[31m"),
  ])
  func valuesAreChecked(_ name: String, _ value: String) async throws {
    let mac = MACAddress(bits: 2)
    let path = "meta-data/network/interfaces/macs/\(mac)/"
    var documents = [
      "interface-id": "eni-0a", "device-number": "1", "subnet-id": "subnet-0b", "vpc-id": "vpc-0c",
    ]
    documents[name] = value
    let byPath = Dictionary(uniqueKeysWithValues: documents.map { ("/latest/\(path)\($0.key)", $0.value) })
    try await withServer(service(Counter(), byPath)) { (server) async throws in
      let imds = client(server)
      let error = await failure { () async throws(IMDSError) in _ = try await imds.interface(mac) }
      #expect(error?.code == .malformed)
      #expect(error?.path == path + name)
    }
  }

  @Test func identity() async throws {
    let path = "/latest/dynamic/instance-identity/document"
    let good = """
      {"accountId":"1","region":"eu-west-1","availabilityZone":"eu-west-1a","instanceId":"i-0a1","instanceType":"m5.large"}
      """
    try await withServer(service(Counter(), [path: good])) { (server) async throws in
      let identity = try await client(server).instanceIdentity()
      #expect(identity.region == "eu-west-1" && identity.instanceID == "i-0a1" && identity.instanceType == "m5.large")
    }
    for bad in [
      "", "[]", "{", "{\"region\":7}", good.replacing("i-0a1", with: "x-1"),
      good.replacing("eu-west-1\"", with: "a/b\""),
    ] {
      try await withServer(service(Counter(), [path: bad])) { (server) async throws in
        let imds = client(server)
        let failure8 = await failure { () async throws(IMDSError) in _ = try await imds.instanceIdentity() }
        #expect(failure8?.code == .malformed)
      }
    }
  }

  @Test func settings() throws {
    func settings(_ variables: [String: String]) throws(InvalidSetting) -> IMDSClient.Settings {
      try IMDSClient.Settings(environment: CloudEnvironment(variables))
    }
    #expect(try settings([:]).endpoint == "http://169.254.169.254")
    #expect(try settings(["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"]).endpoint == "http://[fd00:ec2::254]")
    #expect(
      try settings(["AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:81/"]).endpoint == "http://127.0.0.1:81")
    #expect(try settings(["AWS_EC2_METADATA_DISABLED": "TRUE"]).isDisabled)
    for bad in [
      ["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "v6"], ["AWS_EC2_METADATA_SERVICE_ENDPOINT": "file:///"],
      ["AWS_EC2_METADATA_DISABLED": "maybe"],
    ] {
      let error = #expect(throws: InvalidSetting.self) { try settings(bad) }
      #expect(error?.name == bad.keys.first)
    }
  }
}
