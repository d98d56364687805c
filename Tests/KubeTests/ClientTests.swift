// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCKube
import VPCModel
import VPCTransport

@Suite(.requiresKubeServer) struct ClientTests {
  private func failure(_ body: () async throws(KubeError) -> Void) async -> KubeError? {
    do throws(KubeError) {
      try await body()
      return nil
    } catch {
      return error
    }
  }

  @Test func getListPatchAndCreateOverHTTP2() async throws {
    let server = try await KubeServer.start()
    try server.put("nodes", KubeServer.node("n1", pods: 17))
    for number in 0..<7 { try server.put("pods", KubeServer.pod("p\(number)", node: number < 5 ? "n1" : "n2")) }
    var limits = KubeClient.Limits()
    limits.pageSize = 2
    let client = server.client(limits: limits)
    #expect(try await client.get(KubeNode.self, "n1").podCapacity == 17)
    let mine = try await client.list(KubePod.self, .onNode("n1"))
    #expect(mine.objects.map(\.metadata.name) == ["p0", "p1", "p2", "p3", "p4"])
    let patched = try await client.mergePatch(
      KubePod.self, "p0", in: "default", ["metadata": ["annotations": ["a": "b"]]])
    #expect(patched.metadata.annotations == ["a": "b"])
    let stale = await failure { () async throws(KubeError) in
      _ = try await client.mergePatch(
        KubePod.self, "p0", in: "default", ["metadata": ["annotations": ["a": "c"]]],
        version: mine.objects[0].metadata.resourceVersion)
    }
    #expect(stale?.code == .conflict)
    let subject = KubeEvent.Subject(
      kind: "Pod", metadata: KubeMetadata(name: "p0", namespace: "default", uid: "1"))
    let event = KubeEvent(
      subject: subject, isWarning: true, reason: "MissingIAMPermissions", action: "ec2:X",
      note: String(repeating: "ä", count: 900),
      controller: "aws-node", instance: "aws-node-x")
    try await client.create(
      .events, in: "default", event.json(name: "p0.1", time: "2026-01-01T00:00:00.000000Z"))
    let requests = try server.requests()
    #expect(requests.allSatisfy { $0["version"] == "2" && $0["headers"]?["user-agent"] == "vpc-cni-test" })
    let lists = requests.filter { $0["verb"] == "list" }
    #expect(lists.count == 3)
    #expect(lists.allSatisfy { $0["query"]?["fieldSelector"] == "spec.nodeName=n1" && $0["query"]?["limit"] == "2" })
  }

  /// Reads an endpoint of many pods through the API server, all at once and on one connection.
  @Test func manyPodsAreReadThroughTheProxy() async throws {
    let server = try await KubeServer.start()
    for number in 0..<40 { try server.put("pods", KubeServer.pod("p\(number)", node: "n1", in: "kube-system")) }
    try server.ask("pod_answers", ["pattern": "*:61678/metrics", "text": "metrics of {pod}\n"])
    let client = server.client()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<40 {
        group.addTask {
          let answer = try await client.openThroughPod(
            "p\(number)", in: "kube-system", port: 61678, path: "/metrics", timeout: .seconds(30))
          #expect(String(decoding: await answer.rest(upTo: 4096), as: UTF8.self) == "metrics of p\(number)\n")
        }
      }
      try await group.waitForAll()
    }
    let absent = await failure { () async throws(KubeError) in
      _ = try await client.openThroughPod("p1", in: "kube-system", port: 1, path: "/metrics", timeout: .seconds(30))
    }
    #expect(absent?.status == 503)
  }

  /// 401: the client reads the token file again and retries the request once. A second refusal is an error.
  @Test func refusedTokenIsReadAgain() async throws {
    let server = try await KubeServer.start()
    try server.put("nodes", KubeServer.node("n1"))
    let client = server.client()
    _ = try await client.get(KubeNode.self, "n1")
    try server.ask("tokens", ["accept": .array(["token-2"])])
    let refused = await failure { () async throws(KubeError) in _ = try await client.get(KubeNode.self, "n1") }
    #expect(refused?.code == .unauthorized)
    try server.folder.write("token", "token-2\n")
    _ = try await client.get(KubeNode.self, "n1")
    let statuses = try server.requests().map { $0["status"]?.int }
    #expect(statuses == [200, 401, 401, 401, 200])
    #expect(!"\(String(describing: refused))".contains("token-1"))
  }

  @Test func serverWithAnIPv6Address() async throws {
    let server = try await KubeServer.start("--address", "::1")
    try server.put("nodes", KubeServer.node("n1"))
    #expect(try await server.client().get(KubeNode.self, "n1").metadata.name == "n1")
  }

  @Test func wrongAuthorityIsRefusedAndNamed() async throws {
    let server = try await KubeServer.start()
    let client = server.client(ca: "other-ca.crt")
    let refused = await failure { () async throws(KubeError) in _ = try await client.get(KubeNode.self, "n1") }
    #expect(refused?.code == .unreachable)
    #expect((refused?.cause as? HTTPError)?.code == .untrusted)
    #expect(refused.map { CauseChain.text($0) }?.contains("certificate") == true)
    #expect(try server.requests().isEmpty)
  }

  @Test func clientCertificateProvesWhoAsks() async throws {
    let server = try await KubeServer.start("--client-certificates")
    try server.ask("tokens", ["accept": .array([])])
    try server.put("nodes", KubeServer.node("n1"))
    let identity = HTTPTLS.Identity(
      certificate: .file(server.folder.path("client.crt")), key: .file(server.folder.path("client.key")))
    _ = try await server.client(credential: .certificate(identity)).get(KubeNode.self, "n1")
    let inMemory = HTTPTLS.Identity(
      certificate: .bytes(Array(try server.folder.text("client.crt").utf8)),
      key: .bytes(Array(try server.folder.text("client.key").utf8)))
    _ = try await server.client(credential: .certificate(inMemory)).get(KubeNode.self, "n1")
    let unproven = await failure { () async throws(KubeError) in
      _ = try await server.client(credential: KubeCredential.none).get(KubeNode.self, "n1")
    }
    #expect(unproven?.code == .unreachable)
  }

  @Test(arguments: [
    (JSONValue.object(["status": 429, "retry_after": 7]), KubeError.Code.tooManyRequests),
    (.object(["status": 403]), .forbidden), (.object(["status": 500]), .serverFault),
    (.object(["status": 200, "text": "<html>a proxy's page</html>"]), .badAnswer),
    (.object(["status": 200, "text": "{\"metadata\":{}}"]), .badAnswer),
  ])
  func badAnswersAreTold(_ fault: JSONValue, _ code: KubeError.Code) async throws {
    let server = try await KubeServer.start("--http1")
    try server.ask("fault", fault.object ?? [:])
    let client = server.client()
    let error = await failure { () async throws(KubeError) in _ = try await client.get(KubeNode.self, "n1") }
    #expect(error?.code == code)
    #expect(error?.isTransient == (code != .forbidden))
    if code == .tooManyRequests { #expect(error?.retryAfter == .seconds(7)) }
  }

  @Test(arguments: ["", "..", "a/b", "a?b", "a b", "a%2fb"])
  func namesThatLeadElsewhereAreRefused(_ name: String) async throws {
    let client = KubeClient(
      configuration: KubeConfiguration(server: "http://127.0.0.1:1"), transport: CurlTransport(), userAgent: "t")
    let error = await failure { () async throws(KubeError) in _ = try await client.get(KubeNode.self, name) }
    #expect(error?.code == .configuration)
  }
}
