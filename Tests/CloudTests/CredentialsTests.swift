// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCCloud
import VPCModel
import VPCTransport

@Suite struct CredentialsTests {
  private static let noSTS: @Sendable () async throws(CredentialsError) -> STSClient = {
    () async throws(CredentialsError) in
    throw CredentialsError(.notFound, source: "test", detail: "no STS")
  }

  private func failure<Value>(_ body: () async throws(CredentialsError) -> Value) async -> CredentialsError? {
    do throws(CredentialsError) {
      _ = try await body()
      Issue.record("no error")
      return nil
    } catch {
      return error
    }
  }

  @Test func secretsStayOutOfEveryText() {
    let credentials = Credentials(
      accessKeyID: "AKIDEXAMPLE", secretAccessKey: "s3cr3t", sessionToken: "t0k3n",
      expiration: UTCTime(seconds: 0), source: "test")
    var dumped = ""
    dump(credentials, to: &dumped)
    dump([credentials], to: &dumped)
    for text in [
      "\(credentials)", String(reflecting: credentials), dumped, "\([credentials])", "\(Optional(credentials) as Any)",
    ] {
      #expect(!text.contains("s3cr3t") && !text.contains("t0k3n") && !text.contains("AKIDEXAMPLE"), "\(text)")
      #expect(text.contains("AKID…"))
    }
  }

  @Test func environment() async throws {
    func fetch(_ variables: [String: String]) async throws(CredentialsError) -> Credentials? {
      try await EnvironmentSource(environment: CloudEnvironment(variables)).fetch()
    }
    #expect(try await fetch([:]) == nil)
    let found = try await fetch(["AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"])
    #expect(found?.accessKeyID == "a" && found?.secretAccessKey == "b" && found?.sessionToken == "c")
    let half = await failure { () async throws(CredentialsError) in try await fetch(["AWS_ACCESS_KEY_ID": "a"]) }
    #expect(half.map { "\($0)" }?.contains("AWS_SECRET_ACCESS_KEY is not set") == true)
  }

  @Test(arguments: [
    (
      "[default]\naws_access_key_id = A\naws_secret_access_key=B\n", "default",
      ["aws_access_key_id": "A", "aws_secret_access_key": "B"]
    ),
    ("[default]\r\nA=1 # c\r\nb = x#y ; z\r\n", "default", ["a": "1", "b": "x#y"]),
    ("a=0\n[profile p]\n# no\n; no\na = 1\na = 2\n  nested = 3\nbroken\n= 4\n[sso-session s]\na=5", "p", ["a": "2"]),
    ("[ default ]\na==1=", "default", ["a": "=1="]),
    ("[profile  p ]\na=1\n[default\nb=2", "p", ["a": "1"]),
  ])
  func configFiles(_ text: String, _ profile: String, _ expected: [String: String]) {
    #expect(ProfileFile(Array(text.utf8), kind: .config).profiles[profile] == expected)
  }

  @Test func credentialsFileNamesProfilesPlainly() {
    let file = ProfileFile(Array("[p]\na=1\n[profile q]\na=2".utf8), kind: .credentials)
    #expect(file.profiles["p"] == ["a": "1"])
    #expect(file.profiles["profile q"] == ["a": "2"])
    let config = ProfileFile(Array("[profile p]\na=0\nb=3".utf8), kind: .config)
    #expect(file.merged(over: config).profiles["p"] == ["a": "1", "b": "3"])
  }

  @Test func profiles() async throws {
    let folder = TemporaryFolder()
    try folder.write(
      "config",
      "[profile sso]\nsso_start_url=x\n[profile loop]\nrole_arn=r\nsource_profile=loop2\n[profile loop2]\nrole_arn=r\nsource_profile=loop\n[profile bare]\nrole_arn=r"
    )
    try folder.write(
      "credentials",
      "[default]\naws_access_key_id=A\naws_secret_access_key=B\n[other]\naws_access_key_id=C\naws_secret_access_key=D\n[half]\naws_access_key_id=E"
    )
    func fetch(_ profile: String?) async throws(CredentialsError) -> Credentials? {
      var variables = [
        "AWS_CONFIG_FILE": folder.path("config"), "AWS_SHARED_CREDENTIALS_FILE": folder.path("credentials"),
      ]
      variables["AWS_PROFILE"] = profile
      let environment = CloudEnvironment(variables)
      let keys = EnvironmentSource(environment: environment)
      return try await ProfileSource(
        environment: environment, sources: .init(environment: keys, container: keys, instance: keys), sts: Self.noSTS
      ).fetch()
    }
    #expect(try await fetch(nil)?.accessKeyID == "A")
    #expect(try await fetch("other")?.accessKeyID == "C")
    for bad in ["half", "sso", "loop", "bare", "missing"] {
      let error = await failure { () async throws(CredentialsError) in try await fetch(bad) }
      #expect(error?.attempt.hasPrefix("get AWS credentials from profile ") == true, "\(bad)")
    }
    let home = CloudEnvironment(["HOME": "/nonexistent"])
    let keys = EnvironmentSource(environment: home)
    let none = ProfileSource(
      environment: home, sources: .init(environment: keys, container: keys, instance: keys), sts: Self.noSTS)
    #expect(try await none.fetch() == nil)
  }

  private static let stsAnswer = """
    <AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
    <Credentials><SessionToken>TOKEN</SessionToken><SecretAccessKey>SECRET</SecretAccessKey>
    <Expiration>2030-01-01T00:00:00Z</Expiration><AccessKeyId>ASIA1</AccessKeyId></Credentials>
    </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>
    """

  private func sts(_ transport: any HTTPTransport) throws -> STSClient {
    let endpoint = try ServiceEndpoint.resolve(.sts, region: "us-east-1", environment: CloudEnvironment([:]))
    return STSClient(transport: transport, endpoint: endpoint, userAgent: "x", time: ManualTime().source)
  }

  @Test func webIdentity() async throws {
    let folder = TemporaryFolder()
    try folder.write("token", "jwt.text\n")
    let transport = FakeTransport { (_) async throws(HTTPError) in HTTPResponse(200, Self.stsAnswer) }
    let client = try sts(transport)
    let environment = CloudEnvironment([
      "AWS_WEB_IDENTITY_TOKEN_FILE": folder.path("token"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/r",
      "AWS_ROLE_SESSION_NAME": "session",
    ])
    let found = try await WebIdentitySource(environment: environment) { () async throws(CredentialsError) in client }
      .fetch()
    #expect(found?.accessKeyID == "ASIA1" && found?.sessionToken == "TOKEN")
    #expect(found?.expiration == UTCTime(iso8601: "2030-01-01T00:00:00Z"))
    let request = try #require(transport.requests.first)
    #expect(request.url == "https://sts.us-east-1.amazonaws.com/")
    #expect(request.headers["Authorization"] == nil)
    let body = String(decoding: request.body, as: UTF8.self)
    #expect(body.contains("WebIdentityToken=jwt.text") && body.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"))
  }

  @Test func stsErrors() async throws {
    let denied = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    let refusing = try sts(FakeTransport { (_) async throws(HTTPError) in HTTPResponse(403, denied) })
    let error = await failure { () async throws(CredentialsError) in
      try await refusing.assumeRole("r", webIdentityToken: "secret-token", sessionName: "s")
    }
    #expect(error?.code == .refused)
    #expect(error.map { "\($0)" }?.contains("AccessDenied: no") == true)
    let broken = FakeTransport { (_) async throws(HTTPError) in HTTPResponse(200, "<html>") }
    let client = try sts(broken)
    let other = await failure { () async throws(CredentialsError) in
      try await client.assumeRole("r", webIdentityToken: "secret-token", sessionName: "s")
    }
    #expect(other?.isTransient == true && broken.requests.count == 4)
    #expect(other.map { "\($0)" }?.contains("secret") == false)
  }

  private static let document =
    #"{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"B","Token":"C","Expiration":"2030-01-01T00:00:00Z"}"#

  @Test func containerEndpoint() async throws {
    let folder = TemporaryFolder()
    try folder.write("token", "from-file\n")
    try await withServer { request in
      request.headers["authorization"] == "from-file" && request.path == "/v1/credentials?x=1"
        ? .text(Self.document) : .answer(401)
    } _: { (server) async throws in
      let source = ContainerSource(
        environment: CloudEnvironment([
          "AWS_CONTAINER_CREDENTIALS_FULL_URI": "\(server.url)/v1/credentials?x=1",
          "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": folder.path("token"),
        ]), transport: PatientTransport())
      #expect(try await source.fetch()?.accessKeyID == "A")
    }
  }

  @Test(arguments: [
    ("http://169.254.170.2/a", true), ("http://169.254.170.23/v1/credentials", true),
    ("http://[fd00:ec2::23]/v1", true),
    ("http://127.9.9.9:80/", true), ("http://localhost/", true), ("http://[::1]:8080/", true),
    ("https://example.com/x", true),
    ("http://example.com/", false), ("http://169.254.169.254/", false), ("http://127.0.0.1.example.com/", false),
    ("http://user@127.0.0.1@example.com/", false), ("ftp://127.0.0.1/", false), ("http://[::2]/", false),
  ])
  func containerHosts(_ url: String, _ isAllowed: Bool) async throws {
    let transport = FakeTransport { (_) async throws(HTTPError) in HTTPResponse(200, Self.document) }
    let source = ContainerSource(
      environment: CloudEnvironment([
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "t",
      ]),
      transport: transport)
    if isAllowed {
      #expect(try await source.fetch() != nil)
    } else {
      let failure1 = await failure { () async throws(CredentialsError) in try await source.fetch() }
      #expect(failure1?.code == .invalid)
      #expect(transport.requests.isEmpty)
    }
  }

  @Test func instanceProfile() async throws {
    func source(_ role: String, _ document: String) -> InstanceProfileSource {
      InstanceProfileSource(
        imds: IMDSClient(
          transport: FakeTransport { (request) async throws(HTTPError) in
            if request.method == .put { return HTTPResponse(200, "token") }
            if request.url.hasSuffix("/security-credentials/") { return HTTPResponse(200, role) }
            return request.url.hasSuffix("/node-role") ? HTTPResponse(200, document) : HTTPResponse(status: 404)
          }, time: ManualTime().source))
    }
    let found = try await source("node-role", Self.document).fetch()
    #expect(found?.source == "instance profile node-role")
    for (role, document) in [
      ("node-role", "{}"), ("node-role", #"{"Code":"AssumeRoleUnauthorizedAccess"}"#), ("../x", Self.document),
      ("node-role", #"{"AccessKeyId":"A","SecretAccessKey":"B","Expiration":"never"}"#),
    ] {
      let failure2 = await failure { () async throws(CredentialsError) in try await source(role, document).fetch() }
      #expect(failure2 != nil)
    }
  }
}
