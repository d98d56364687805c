// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VPCCloud
import VPCModel
import VPCTransport

@Suite struct EC2RequestTests {
  private static let eni = ENIID("eni-1")

  /// The calls that make the requests of BotocoreVectors.requests, in the same order.
  private static let calls: [@Sendable (EC2Client, ENIID) async throws -> Void] = [
    { ec2, eni in _ = try await ec2.describeNetworkInterfaces([eni, #require(ENIID("eni-2"))]) },
    { ec2, _ in _ = try await ec2.describeNetworkInterfaces(instanceID: "i-1") },
    { ec2, _ in
      _ = try await ec2.createNetworkInterface(
        .init(
          subnetID: "subnet-1", securityGroupIDs: ["sg-1", "sg-2"], demand: .addresses(14),
          description: "aws-K8S-i-1", tags: ["node.k8s.amazonaws.com/instance_id": "i-1", "a b": "ü&="],
          connectionTracking: .init(tcpEstablishedSeconds: 350, udpStreamSeconds: 60, udpSeconds: 30),
          clientToken: "token"))
    },
    { ec2, _ in
      _ = try await ec2.createNetworkInterface(
        .init(
          subnetID: "subnet-1", securityGroupIDs: ["sg-1"], demand: .prefixes(2), ipv6AddressCount: 1, description: "d",
          clientToken: "t"))
    },
    { ec2, eni in _ = try await ec2.attachNetworkInterface(eni, instanceID: "i-1", deviceIndex: 2, networkCard: 1) },
    { ec2, _ in _ = try await ec2.detachNetworkInterface(attachmentID: "eni-attach-1", force: true) },
    { ec2, eni in _ = try await ec2.deleteNetworkInterface(eni) },
    { ec2, eni in try await ec2.setDeleteOnTermination(true, interface: eni, attachmentID: "eni-attach-1") },
    { ec2, eni in try await ec2.setSecurityGroups(["sg-1", "sg-2"], interface: eni) },
    { ec2, eni in _ = try await ec2.assignAddresses(.addresses(3), to: eni) },
    { ec2, eni in _ = try await ec2.assignAddresses(.prefixes(1), to: eni) },
    { ec2, eni in
      let addresses = ["10.0.0.5/32", "10.0.1.16/28", "10.0.0.6/32"].compactMap { IPPrefix($0) }
      try await ec2.unassignAddresses(addresses, from: eni)
    },
    { ec2, eni in _ = try await ec2.assignAddresses(.addresses(2), .ipv6, to: eni) },
    { ec2, eni in _ = try await ec2.assignAddresses(.prefixes(1), .ipv6, to: eni) },
    { ec2, eni in
      try await ec2.unassignAddresses(["2001:db8::5/128", "2001:db8:0:1::/80"].compactMap { IPPrefix($0) }, from: eni)
    },
    { ec2, eni in try await ec2.createTags(["k": "v"], interface: eni) },
    { ec2, _ in _ = try await ec2.describeInstance("i-1") },
    { ec2, _ in _ = try await ec2.describeInstanceType("m5.large") },
    { ec2, _ in _ = try await ec2.describeSubnet("subnet-1") },
    { ec2, _ in _ = try await ec2.describeSecurityGroups(filters: [EC2Filter("vpc-id", ["vpc-1"])]) },
    { ec2, _ in _ = try await ec2.instanceTags("i-1", keys: ["eks:cluster-name", "Name"]) },
  ]

  @Test func fieldsAreThoseOfBotocore() async throws {
    try #require(Self.calls.count == BotocoreVectors.requests.count)
    let eni = try #require(Self.eni)
    for (call, expected) in zip(Self.calls, BotocoreVectors.requests) {
      let harness = EC2Harness { _ in HTTPResponse(400, EC2Harness.error("Stop", "here")) }
      await #expect(throws: EC2Error.self) { try await call(harness.client, eni) }
      let request = try #require(harness.transport.requests.first)
      #expect(request.url == "https://ec2.eu-west-1.amazonaws.com/" && request.method == .post)
      #expect(request.headers["User-Agent"] == "amazon-vpc-cni-k8s/v1")
      #expect(request.headers["Authorization"]?.contains("/eu-west-1/ec2/aws4_request") == true)
      #expect(EC2Harness.fields(request) == expected)
      let isOnce = [
        "AttachNetworkInterface", "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses", "AssignIpv6Addresses",
        "UnassignIpv6Addresses",
      ].contains(expected["Action"])
      #expect(request.isRepeatable != isOnce)
    }
  }

  @Test func clientTokensDiffer() {
    #expect(Set((0..<1000).map { _ in EC2Client.clientToken() }).count == 1000)
    #expect(EC2Client.clientToken().utf8.count == 32)
  }
}

/// A client with a transport that answers from a closure, which gets the number of the request.
final class EC2Harness: Sendable {
  let transport: FakeTransport
  let client: EC2Client
  let time = ManualTime()

  private final class Log: Sendable {
    let entries = Mutex<[EC2Client.Observation]>([])
  }
  private let log: Log

  var observed: [EC2Client.Observation] { log.entries.withLock { $0 } }

  convenience init(
    sources: [any CredentialsSource] = [EC2Harness.keys],
    _ answer: @escaping @Sendable (Int) throws(HTTPError) -> HTTPResponse
  ) {
    let counter = Counter()
    self.init(
      sources: sources, transport: FakeTransport { (_) async throws(HTTPError) in try answer(counter.next()) })
  }

  init(sources: [any CredentialsSource] = [EC2Harness.keys], transport: FakeTransport) {
    let log = Log()
    let time = time
    self.log = log
    self.transport = transport
    guard let url = EndpointURL("https://ec2.eu-west-1.amazonaws.com") else { preconditionFailure("not a URL") }
    client = EC2Client(
      transport: transport,
      endpoint: ServiceEndpoint(service: .ec2, region: "eu-west-1", url: url),
      credentials: CredentialsProvider(sources: sources, time: time.source, wallClock: time.wallClock),
      userAgent: "amazon-vpc-cni-k8s/v1", time: time.source, wallClock: time.wallClock
    ) { observation in log.entries.withLock { $0.append(observation) } }
  }

  static let keys = EnvironmentSource(
    environment: CloudEnvironment(["AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"]))

  static func error(_ code: String, _ message: String) -> String {
    "<?xml version=\"1.0\"?><Response><Errors><Error><Code>\(code)</Code><Message>\(message)</Message></Error></Errors>"
      + "<RequestID>ea966190-f9aa-478e-9ede-example</RequestID></Response>"
  }

  static func fields(_ request: HTTPRequest) -> [String: String] {
    var fields: [String: String] = [:]
    for pair in String(decoding: request.body, as: UTF8.self).replacing("+", with: " ").split(separator: "&") {
      let parts = pair.split(separator: "=", omittingEmptySubsequences: false)
      fields[PercentEncoding.decode(parts[0])] = PercentEncoding.decode(parts[1])
    }
    return fields
  }
}

@Suite struct EC2ErrorTests {
  private func failure<Value>(_ body: () async throws(EC2Error) -> Value) async -> EC2Error? {
    do throws(EC2Error) {
      _ = try await body()
      Issue.record("no error")
      return nil
    } catch {
      return error
    }
  }

  private let eni: ENIID

  init() throws { eni = try #require(ENIID("eni-1")) }

  @Test func serviceErrorIsRead() async {
    let harness = EC2Harness { _ in
      HTTPResponse(
        403,
        EC2Harness.error(
          "UnauthorizedOperation",
          "You are not authorized to perform this operation. Encoded authorization failure message: 4GIOH"))
    }
    let error = await failure { () async throws(EC2Error) in
      try await harness.client.attachNetworkInterface(eni, instanceID: "i-1", deviceIndex: 1)
    }
    #expect(error?.isMissingPermission == true && error?.isTransient == false && error?.status == 403)
    #expect(
      error.map { "\($0)" }
        == "AttachNetworkInterface: UnauthorizedOperation: You are not authorized to perform this operation. (request ea966190-f9aa-478e-9ede-example), encoded authorization message: 4GIOH"
    )
    #expect(error?.brief.contains("4GIOH") == false && error?.brief.contains("request ea96") == true)
    #expect(harness.observed.map(\.error?.text) == ["UnauthorizedOperation"])
    #expect(error?.words == "You are not authorized to perform this operation.")
    #expect(harness.observed.first?.action == "AttachNetworkInterface")
  }

  /// The log gets EC2's whole message, but a pod's event only a bounded part. The encoded message may begin after
  /// kilobytes of text.
  @Test func longWordsAreCutWherePeopleReadThem() {
    let words = String(repeating: "policy ", count: 300)
    let code = String(repeating: "4GIOH", count: 400)
    let error = EC2Error(
      action: "CreateNetworkInterface", code: .unauthorizedOperation,
      message: "\(words)Encoded authorization failure message: \(code)", status: 403)
    #expect(error.encodedAuthorization == code && error.message.utf8.count <= 1024)
    #expect(error.words.utf8.count == 400 && error.brief.utf8.count < 1200)
    #expect("\(error)".hasSuffix(code))
    let endless = EC2Error(
      action: "A", code: .unauthorizedOperation,
      message: "no. Encoded authorization failure message: \(code)\(words)\n",
      status: 403)
    #expect(endless.message == "no." && (endless.encodedAuthorization?.utf8.count ?? 0) <= 8192)
  }

  @Test(arguments: [
    ("InsufficientFreeAddressesInSubnet", "x", true, false), ("InsufficientCidrBlocks", "x", true, true),
    ("InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes", true, false),
    ("InvalidParameterValue", "Invalid value for the device index", false, false),
    ("PrivateIpAddressLimitExceeded", "x", false, false),
  ])
  func addressExhaustion(_ code: String, _ message: String, _ isInsufficient: Bool, _ isFragmented: Bool) async {
    let harness = EC2Harness { _ in HTTPResponse(400, EC2Harness.error(code, message)) }
    let error = await failure { () async throws(EC2Error) in
      try await harness.client.assignAddresses(.prefixes(1), to: eni)
    }
    #expect(error?.isInsufficientAddresses == isInsufficient)
    #expect(error?.isFragmented == isFragmented)
    #expect(harness.transport.requests.count == 1)
  }

  @Test func whatIsTriedAgain() async {
    enum Call: CaseIterable { case describe, modify, assign }
    func attempts(_ call: Call, _ answer: @escaping @Sendable (Int) throws(HTTPError) -> HTTPResponse) async -> Int {
      let harness = EC2Harness(answer)
      _ = await failure { () async throws(EC2Error) in
        switch call {
        case .describe: _ = try await harness.client.describeNetworkInterfaces([eni])
        case .modify: try await harness.client.setSecurityGroups(["sg-1"], interface: eni)
        case .assign: _ = try await harness.client.assignAddresses(.addresses(1), to: eni)
        }
      }
      #expect(harness.observed.count == harness.transport.requests.count)
      return harness.transport.requests.count
    }
    func table(_ answer: @escaping @Sendable (Int) throws(HTTPError) -> HTTPResponse) async -> [Int] {
      var counts: [Int] = []
      for call in Call.allCases { counts.append(await attempts(call, answer)) }
      return counts
    }
    #expect(await table { _ in HTTPResponse(503, EC2Harness.error("RequestLimitExceeded", "slow")) } == [6, 1, 1])
    #expect(await table { _ in HTTPResponse(500, EC2Harness.error("InternalError", "x")) } == [6, 3, 1])
    #expect(await table { _ in HTTPResponse(502, "<html>bad gateway") } == [6, 3, 1])
    #expect(await table { _ in HTTPResponse(200, "<DescribeXResponse/>") } == [6, 3, 1])
    #expect(await table { _ in HTTPResponse(400, EC2Harness.error("InvalidParameterValue", "x")) } == [1, 1, 1])
    #expect(
      await table { (_) throws(HTTPError) in
        throw HTTPError(.interrupted, url: "https://x/", detail: "x", isTransient: true, isUnsent: false)
      } == [6, 3, 1])
    #expect(
      await table { (_) throws(HTTPError) in
        throw HTTPError(.unconnected, url: "https://x/", detail: "x", isTransient: true, isUnsent: true)
      } == [6, 3, 3])
  }

  @Test func goneIsAResult() async throws {
    let gone = EC2Harness { _ in HTTPResponse(400, EC2Harness.error("InvalidNetworkInterfaceID.NotFound", "x")) }
    #expect(try await gone.client.deleteNetworkInterface(eni) == .alreadyGone)
    let detached = EC2Harness { _ in HTTPResponse(400, EC2Harness.error("InvalidAttachmentID.NotFound", "x")) }
    #expect(try await detached.client.detachNetworkInterface(attachmentID: "eni-attach-1") == .alreadyGone)
    let busy = EC2Harness { _ in HTTPResponse(400, EC2Harness.error("InvalidNetworkInterface.InUse", "x")) }
    let failure3 = await failure { () async throws(EC2Error) in try await busy.client.deleteNetworkInterface(eni) }
    #expect(failure3?.code == .interfaceInUse)
  }

  @Test func clockIsCorrectedOnce() async throws {
    let ok = "<DeleteNetworkInterfaceResponse><return>true</return></DeleteNetworkInterfaceResponse>"
    // The harness's clock starts at 2023-11-14T22:13:20Z; EC2's is an hour ahead.
    let harness = EC2Harness { number in
      number == 1
        ? HTTPResponse(400, EC2Harness.error("RequestExpired", "x"), headers: ["Date": "Tue, 14 Nov 2023 23:13:20 GMT"])
        : HTTPResponse(200, ok)
    }
    #expect(try await harness.client.deleteNetworkInterface(eni) == .removed)
    #expect(try await harness.client.deleteNetworkInterface(eni) == .removed)
    #expect(
      harness.transport.requests.map { $0.headers["X-Amz-Date"] } == [
        "20231114T221320Z", "20231114T231320Z", "20231114T231320Z",
      ])
    let stubborn = EC2Harness { _ in
      HTTPResponse(400, EC2Harness.error("RequestExpired", "x"), headers: ["Date": "Tue, 14 Nov 2023 23:13:20 GMT"])
    }
    let failure4 = await failure { () async throws(EC2Error) in try await stubborn.client.deleteNetworkInterface(eni) }
    #expect(failure4?.code.text == "RequestExpired")
    #expect(stubborn.transport.requests.count == 2)
  }

  /// Two calls go out together with a clock that is an hour off, and EC2 refuses both. Each is retried, whichever of
  /// them corrects the clock.
  @Test func twoCallsWithAWrongClockAreBothTriedAgain() async throws {
    let ok = "<DeleteNetworkInterfaceResponse><return>true</return></DeleteNetworkInterfaceResponse>"
    let transport = FakeTransport { (request) async throws(HTTPError) in
      request.headers["X-Amz-Date"] == "20231114T221320Z"
        ? HTTPResponse(400, EC2Harness.error("RequestExpired", "x"), headers: ["Date": "Tue, 14 Nov 2023 23:13:20 GMT"])
        : HTTPResponse(200, ok)
    }
    let harness = EC2Harness(transport: transport)
    harness.transport.holdUntil(requests: 2)
    async let first = harness.client.deleteNetworkInterface(eni)
    async let second = harness.client.deleteNetworkInterface(eni)
    #expect(try await [first, second] == [.removed, .removed])
    #expect(
      harness.transport.requests.compactMap { $0.headers["X-Amz-Date"] }.sorted() == [
        "20231114T221320Z", "20231114T221320Z", "20231114T231320Z", "20231114T231320Z",
      ])
  }

  /// Any answer shows EC2's time, so that nodes whose clocks differ by minutes agree. Signatures use the node's own
  /// clock until EC2 refuses one.
  @Test func serviceTimeIsByEC2sAnswers() async throws {
    let harness = EC2Harness { _ in
      HTTPResponse(
        200, "<DeleteNetworkInterfaceResponse><return>true</return></DeleteNetworkInterfaceResponse>",
        headers: ["Date": "Tue, 14 Nov 2023 22:17:20 GMT"])
    }
    #expect(harness.client.serviceTime == harness.time.wallClock())
    #expect(try await harness.client.deleteNetworkInterface(eni) == .removed)
    #expect(harness.client.serviceTime.seconds(since: harness.time.wallClock()) == 240)
    #expect(try await harness.client.deleteNetworkInterface(eni) == .removed)
    #expect(harness.transport.requests.map { $0.headers["X-Amz-Date"] } == ["20231114T221320Z", "20231114T221320Z"])
  }

  @Test func refusedCredentialsAreReplacedOnce() async throws {
    final class Rotating: CredentialsSource {
      let counter = Counter()
      func fetch() async throws(CredentialsError) -> Credentials? {
        Credentials(accessKeyID: "KEY\(counter.next())", secretAccessKey: "s", source: "test")
      }
    }
    let ok = "<DeleteNetworkInterfaceResponse><return>true</return></DeleteNetworkInterfaceResponse>"
    let harness = EC2Harness(sources: [Rotating()]) { number in
      number == 1 ? HTTPResponse(400, EC2Harness.error("ExpiredToken", "x")) : HTTPResponse(200, ok)
    }
    #expect(try await harness.client.deleteNetworkInterface(eni) == .removed)
    let used = harness.transport.requests.map { $0.headers["Authorization"]?.contains("KEY2") }
    #expect(used == [false, true])
    // The same keys again: no second request.
    let fixed = EC2Harness { _ in HTTPResponse(401, EC2Harness.error("AuthFailure", "x")) }
    let failure5 = await failure { () async throws(EC2Error) in try await fixed.client.deleteNetworkInterface(eni) }
    #expect(failure5 != nil)
    #expect(fixed.transport.requests.count == 1)
    let none = EC2Harness(sources: []) { _ in HTTPResponse(200, ok) }
    let failure6 = await failure { () async throws(EC2Error) in try await none.client.deleteNetworkInterface(eni) }
    #expect(failure6?.code == .noCredentials)
  }
}
