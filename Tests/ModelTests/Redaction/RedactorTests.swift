// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VPCModel

@Suite struct RedactorTests {
  /// A text, and the part of it that must not be in the result.
  struct Plant: Sendable, CustomTestStringConvertible {
    let kind: String
    let text: String
    let secret: String
    var testDescription: String { kind }

    init(_ kind: String, _ text: String, _ secret: String) {
      self.kind = kind
      self.text = text.replacing("SECRET", with: secret)
      self.secret = secret
    }
  }

  static let secretKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLE12"
  static let webToken =
    "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJrdWJlcm5ldGVzIiwic3ViIjoic3lzdGVtIn0.c2lnbmF0dXJl-_abc"
  static let sessionToken =
    "IQoJb3JpZ2luX2VjEBYaCXVzLXdlc3QtMiJHMEUCIQDpx7N3" + String(repeating: "aB3/xY9+", count: 30)
  static let keyBody = "MIIEpAIBAAKCAQEA7Zq3Pq1nT0n0m1mQ8Jb2kq0c5s8o9a7r6t5y4u3i2o1p0"

  static let plants: [Plant] = [
    Plant("a key id of AWS", "using SECRET for the call", "AKIAIOSFODNN7EXAMPLE"),
    Plant("a key id of a session", "[SECRET]", "ASIAIOSFODNN7EXAMPLE"),
    Plant("a secret key without a name", "key SECRET.", secretKey),
    Plant("a secret key in a credentials file", "aws_secret_access_key = SECRET", secretKey),
    Plant("a secret key that begins with a slash", "got /SECRET", "JalrXUtnFEMI7K7MDENG+bPxRfiCYzEXAMPLE12"),
    Plant("a session token without a name", "with SECRET sent", sessionToken),
    Plant("a session token in a variable", "AWS_SESSION_TOKEN=SECRET", sessionToken),
    Plant("a service account's token", "token is SECRET!", webToken),
    Plant("a web token whose signature is missing", "jwt SECRET", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9"),
    Plant("a bearer header", "Authorization: Bearer SECRET", "opaque-token-0123"),
    Plant("a bearer in running text", "sent bearer SECRET to it", "opaque.token.0123"),
    Plant("basic authentication", "Authorization: Basic SECRET", "dXNlcjpodW50ZXIy"),
    Plant("basic authentication in running text", "with Basic SECRET==", "dXNlcjpodW50ZXIyMg"),
    Plant(
      "a header within quotes", #"curl -H "Authorization: SECRET" https://x"#, "AWS4-HMAC-SHA256 Credential=abc/de"),
    Plant(
      "a private key in lines", "a\n-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----\nb", keyBody),
    Plant(
      "a private key in a string", #"{"k":"-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n"}"#,
      "MIIEabc+/1"),
    Plant("the rest of a private key", "SECRET\n-----END RSA PRIVATE KEY-----", keyBody),
    Plant("kubeconfig's key", "    client-key-data: SECRET", "LS0tLS1CRUdJTiBS"),
    Plant("kubeconfig's token", "    token: SECRET", "abc.def"),
    Plant("kubeconfig's password", "    password: SECRET", "correct horse battery"),
    Plant("docker's auths", #"{"auths":{"r.example":{"auth":"SECRET"}}}"#, "dXNlcjpwYXNz"),
    Plant("containerd's registry", "  identitytoken = \"SECRET\"", "q1w2e3"),
    Plant("a user in a URL", "proxy http://SECRET@proxy.example:3128/", "user:pa?ss".replacing("?", with: "-")),
    Plant("a token in a URL's user", "clone https://SECRET@git.example/x", "oauth2-abcdef"),
    Plant("an environment's variable", "DB_PASSWORD=SECRET", "hunter2 and more"),
    Plant("a variable in a list of JSON", #""env": ["A=b", "DB_PASSWORD=SECRET", "C=d"]"#, "hunter2 with, commas"),
    Plant("an exported variable", "export API_KEY=SECRET", "k3y"),
    Plant("a field of JSON", #"{"user":"a","password":"SECRET","x":1}"#, #"hun\"ter2"#),
    Plant("a number of JSON", #"{"password": SECRET, "x": 1}"#, "8172635"),
    Plant("JSON within JSON", #"{"msg":"{\"clientSecret\":\"SECRET\",\"x\":1}"}"#, "s3cr3t"),
    Plant("a list of JSON", #"{"tokens":["SECRET","b"]}"#, "tok1"),
    Plant("a list over lines", "\"tokens\": [\n  \"SECRET\",\n  \"b\"\n],\n\"x\": 1", "tok-2-3"),
    Plant("a block of YAML", "secretKey: |\n  SECRET\n  more\nnext: 1", "line of it"),
    Plant("a pair of a pod's manifest", "- name: DB_PASSWORD\n  value: SECRET\n- name: A", "hunter2"),
    Plant("a pair of JSON", #"{"name":"DB_PASSWORD","value":"SECRET"}"#, "hunter2"),
    Plant("kubelet's bootstrap token", "join with SECRET now", "abcdef.0123456789abcdef"),
    Plant("an option with =", "/usr/bin/kubelet --bootstrap-token=SECRET --v=2", "a1b2"),
    Plant("an option with a space", "tool --password SECRET --verbose", "hunter2"),
    Plant("an option of a list", #"["--token", "SECRET", "--v"]"#, "a1b2c3"),
    Plant("a presigned URL's signature", "GET https://s/o?X-Amz-Date=1&X-Amz-Signature=SECRET&x=1", "0123456789abcdef"),
    Plant("a presigned URL's token", "GET https://s/o?X-Amz-Security-Token=SECRET&x=1", "IQoJ%2Fabc%3D"),
    Plant("GitHub", "remote: SECRET", "ghp_0123456789abcdefABCDEF0123456789abcd"),
    Plant("Slack", "hook SECRET", "xoxb-123456789012-abcdefABCDEF"),
    Plant("GitLab", "SECRET", "glpat-0123456789abcdefABCD"),
    Plant("curl's -u", "curl -u SECRET https://x", "admin:hunter2"),
    Plant("netrc", "machine x login me password SECRET", "hunter2"),
    Plant("a cookie", "Set-Cookie: SECRET", "session=abc; Path=/"),
    Plant("IMDS's token", "X-aws-ec2-metadata-token: SECRET", "AQAEAJ12=="),
    Plant("user data", "userData: SECRET", "IyEvYmluL2Jhc2gK"),
    Plant("a WireGuard key", "PrivateKey = SECRET", "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="),
    Plant("a mount's password", "//s/x /x cifs username=a,password=SECRET 0 0", "hunter2"),
    Plant("an ODBC string", "Server=h;UID=sa;PWD=SECRET;x", "hunter2"),
    Plant("a connection string", "AccountName=a;AccountKey=SECRET", "abc123=="),
  ]

  @Test(arguments: plants) func nothingOfAPlantIsLeft(_ plant: Plant) {
    let text = "before\n\(plant.text)\nafter\n"
    let result = Redactor.redacted(text)
    #expect(!result.contains(plant.secret), "\(result)")
    // A half of it is as good as the whole.
    #expect(!result.contains(plant.secret.suffix(max(plant.secret.count / 2, 3))), "\(result)")
    #expect(result.hasPrefix("before\n") && result.hasSuffix("\nafter\n"), "\(result)")
    #expect(result.contains("[redacted ") || plant.kind == "the rest of a private key", "\(result)")
  }

  @Test(arguments: [
    "plain words of a log line",
    #"{"level":"info","ts":"2026-11-24T10:00:00.000Z","caller":"ipamd/ipamd.go:1","msg":"assigned 10.0.1.7 to default/web-6d4cf56db6-x7k2p"}"#,
    "automountServiceAccountToken: true",
    "secretName: aws-node-tls",
    "AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
    "eni-0123456789abcdef0 i-0abc arn:aws:iam::123456789012:role/node AROAIOSFODNN7EXAMPLEX",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "commit 3eeafde0123456789abcdef0123456789abcdef0",
    "/var/log/pods/kube-system_aws-node-x7k2p_0f4d2c5e-1b2a-4c3d-9e8f-7a6b5c4d3e2f/aws-vpc-cni-init/0.log",
    "-A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment \"AWS SNAT CHAIN\" -j RETURN",
    "net.ipv4.tcp_syncookies = 1",
    "PWD=/app\nOLDPWD=/root",
    "HttpTokens: required",
    "the basic information of a bearer certificate",
    "http://169.254.169.254/latest/meta-data/ and https://example.com/@scope/x",
    "awscni_ec2api_error_count{fn=\"AssignPrivateIpAddresses\"} 3",
    "pod-identity-webhook.kube-system.svc.cluster.local:443",
    "0: from all lookup local\n512: from all lookup 20512",
  ])
  func whatIsNoSecretStays(_ text: String) {
    #expect(Redactor.redacted(text) == text)
  }

  @Test func theResultDoesNotDependOnThePieces() {
    let text = Array(Self.plants.map(\.text).joined(separator: "\n").utf8)
    let whole = Redactor.redacted(String(decoding: text, as: UTF8.self))
    for size in [1, 2, 3, 7, 64, 1000] {
      var redactor = Redactor()
      var output: [UInt8] = []
      for start in stride(from: 0, to: text.count, by: size) {
        redactor.take(text[start..<min(start + size, text.count)], into: &output)
      }
      redactor.finish(into: &output)
      #expect(String(decoding: output, as: UTF8.self) == whole, "pieces of \(size)")
    }
  }

  @Test func aSecondPassChangesNothing() {
    for plant in Self.plants {
      let once = Redactor.redacted(plant.text)
      #expect(Redactor.redacted(once) == once, "\(plant.kind)")
    }
  }

  /// 100 MB without a line feed, a secret at each place where a cut could fall.
  @Test func aLineOf100MegabytesKeepsItsBoundAndItsSecrets() {
    var redactor = Redactor()
    var output: [UInt8] = []
    var piece: [UInt8] = []
    while piece.count < 1 << 20 { piece += Array("x=1 DB_PASSWORD=hunter2 \(Self.secretKey) ".utf8) }
    for _ in 0..<100 { redactor.take(piece, into: &output) }
    #expect(output.isEmpty)
    redactor.take(Array("\nnext line\n".utf8), into: &output)
    redactor.finish(into: &output)
    let text = String(decoding: output, as: UTF8.self)
    #expect(output.count < 2 * Redactor.lineLimit && redactor.cutLines == 1)
    #expect(!text.contains("hunter") && !text.contains("wJalr"))
    #expect(text.contains("bytes of this line left out]\nnext line\n"))
    #expect(text.hasPrefix("x=1 DB_PASSWORD=[redacted field] [redacted key-material] x=1"))
  }

  /// A secret of which the bound takes the end is not half shown.
  @Test func aSecretAtTheCutIsLeftOutWhole() {
    for before in (Redactor.lineLimit - 60)...(Redactor.lineLimit + 2) {
      let text = String(repeating: "y ", count: before / 2) + Self.secretKey + String(repeating: " z", count: 100)
      #expect(!Redactor.redacted(text).contains("wJalr"), "\(before)")
    }
  }

  @Test func aKeyWithoutAnEndTakesNoMoreThanItsShare() {
    let lines = (0..<400).map { "line \($0)" }.joined(separator: "\n")
    let text = Redactor.redacted("-----BEGIN PRIVATE KEY-----\n\(lines)\n")
    #expect(!text.contains("line 100\n") && text.contains("line 399\n"))
  }

  @Test func itCountsByKind() {
    var redactor = Redactor()
    var output: [UInt8] = []
    redactor.take(Array("AKIAIOSFODNN7EXAMPLE password=x token: y\n".utf8), into: &output)
    #expect(redactor.found == [.awsKeyID: 1, .field: 2])
  }

  /// Seeded noise around every plant: never a trap, and nothing of it is shown.
  @Test func noiseAroundASecretDoesNotHideIt() {
    var random = SplitMix64(seed: 36)
    for plant in Self.plants where !plant.text.contains("\n") {
      for _ in 0..<40 {
        let noise = (0..<Int(random.next() % 40)).map { _ in UInt8(truncatingIfNeeded: random.next() % 94 + 33) }
        let lines =
          String(decoding: noise, as: UTF8.self) + "\n" + plant.text + "\n" + String(decoding: noise, as: UTF8.self)
        // A name in front of the noise may make more of it a secret, not less.
        #expect(!Redactor.redacted(lines).contains(plant.secret), "seed 36: \(plant.kind) \(noise)")
      }
    }
  }
}
