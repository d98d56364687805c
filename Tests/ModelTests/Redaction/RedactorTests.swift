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
    Plant("a secret key of 40 behind a slash", "s3://bucket/SECRET", secretKey),
    Plant("a secret key that begins with a slash, in 40", "got SECRET now", "/alrXUtnFEMI7K7MDENG+bPxRfiCYzEXAMPLE123"),
    Plant("a secret key in a list of options", "-SECRET", secretKey),
    // Escapes of URLs.
    Plant("a URL's escapes", "url%3Fpassword%3DSECRET%26x%3D1", "hunter2"),
    Plant("a URL's escapes, twice", "url%253Fpassword%253DSECRET%2526x", "hunter2"),
    Plant("JSON in a URL", "q=%7B%22password%22%3A%22SECRET%22%2C%22a%22%3A1%7D", "hunter2"),
    Plant("a signature in an escaped URL", "to=https%3A%2F%2Fs%2Fo%3FX-Amz-Signature%3DSECRET", "0123456789abcdef"),
    Plant("a key id behind an escape", "cred%3DSECRET%2F20261124", "AKIAIOSFODNN7EXAMPLE"),
    Plant("a login in an escaped URL", "next=http%3A%2F%2FSECRET%40proxy%3A3128", "user%3Ahunter2"),
    Plant("a secret key, escaped", "aws=SECRET&x", "wJalrXUtnFEMI%2FK7MDENG%2FbPxRfiCYzEXAMPLE12"),
    // Escapes of JSON, Go, Python, C and systemd.
    Plant("quotes as \\u0022", #"{"m":"{\u0022password\u0022:\u0022SECRET\u0022}"}"#, "hunter2"),
    Plant("quotes as \\u0022, twice", #"{"m":"{\\u0022password\\u0022:\\u0022SECRET\\u0022}"}"#, "hunter2"),
    Plant("an equals sign as \\u003d", #"{"m":"password\u003dSECRET"}"#, "hunter2"),
    Plant("quotes as \\x22", #"b'{\x22password\x22: \x22SECRET\x22}'"#, "hunter2"),
    Plant("an equals sign in octal", #"PASSWORD\075SECRET\040x"#, "hunter2"),
    Plant("backslashes, twice", #"{"a":"{\"b\":\"{\\\"password\\\":\\\"SECRET\\\"}\"}"}"#, "hunter2"),
    Plant("a key id behind a line feed's escape", #"{"log":"key\nSECRET\n"}"#, "AKIAIOSFODNN7EXAMPLE"),
    Plant("a token behind a tab's escape", #"{"log":"key\tSECRET"}"#, "ghp_0123456789abcdefABCDEF0123456789abcd"),
    Plant("lines within JSON", #"{"log":"a\npassword: SECRET\nb: 1"}"#, "correct horse battery"),
    Plant("a block of YAML within JSON", #"{"cfg":"a: 1\nsecretKey: |\n  SECRET\n  more\nnext: 1\n"}"#, "line of it"),
    Plant("slashes as \\/", #"{"u":"https:\/\/SECRET@host\/x"}"#, "user:hunter2"),
    // Entities.
    Plant("quotes as &quot;", "&quot;password&quot;:&quot;SECRET&quot;", "hunter2"),
    Plant("quotes as &#34;", "{&#34;password&#34;:&#x22;SECRET&#x22;}", "hunter2"),
    Plant("an escaped element", "&lt;password&gt;SECRET&lt;/password&gt;", "hunter2"),
    // Colour codes.
    Plant("a colour before the name", "\u{1b}[31mpassword\u{1b}[0m=SECRET", "hunter2"),
    Plant("a colour before the value", "password=\u{1b}[1;32mSECRET\u{1b}[0m", "hunter2"),
    Plant("a colour before a key id", "\u{1b}[31mSECRET\u{1b}[0m", "AKIAIOSFODNN7EXAMPLE"),
    Plant("a colour within JSON", #"{"log":"\u001b[31mSECRET\u001b[0m"}"#, "AKIAIOSFODNN7EXAMPLE"),
    Plant("a colour as rsyslog writes it", "#033[36mpassword#033[0m: SECRET", "hunter2"),
    Plant("a colour as cat -v writes it", "^[[36mpassword^[[0m=SECRET", "hunter2"),
    Plant("a colour in C's octal", #"\033[36mpassword\033[0m=SECRET"#, "hunter2"),
    // XML.
    Plant("an element", "<SecretAccessKey>SECRET</SecretAccessKey>", "short"),
    Plant("an element with a prefix", "<wsse:Password Type='text'>SECRET</wsse:Password>", "pw1"),
    Plant("an element in lines", "<password>\n  SECRET\n</password>", "hunter2"),
    Plant("an element with CDATA", "<password><![CDATA[SECRET]]></password>", "hun<ter2"),
    Plant("an element with CDATA in lines", "<password>\n<![CDATA[SECRET]]>\n</password>", "hunter2"),
    Plant("an element named by an attribute", #"<entry key="password">SECRET</entry>"#, "hunter2"),
    Plant("a pair of elements", "<property><name>db.password</name><value>SECRET</value></property>", "hunter2"),
    Plant("a property list", "<key>Password</key>\n<string>SECRET</string>", "hunter2"),
    // Base64.
    Plant("a field in base64", "data: SECRET==", "cGFzc3dvcmQ9aHVudGVyMg"),
    Plant("JSON in base64", "cfg SECRET", "eyJwYXNzd29yZCI6Imh1bnRlcjIifQ"),
    Plant("a key id in base64", "x=SECRET=", "QUtJQUlPU0ZPRE5ON0VYQU1QTEU"),
  ]

  @Test(arguments: plants) func nothingOfAPlantIsLeft(_ plant: Plant) {
    let text = "before\n\(plant.text)\nafter\n"
    let result = Redactor.redacted(text)
    #expect(!result.contains(plant.secret), "\(result)")
    // Half of the secret must not remain either.
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
    "it needs a <token> and the <password> of the user",
    #"{"log":"first line\\nsecond line\\n","stream":"stdout","time":"2026-11-24T10:00:00Z"}"#,
    "GET /api/v1/nodes?fieldSelector=metadata.name%3Dip-10-0-1-7&watch=true",
    #"path C:\\new\\table 100% of &amp; and &lt;none&gt;"#,
    "<VpcId>vpc-0abc</VpcId><tokenType>none</tokenType><password></password>",
    "kube-system-coredns-7d9f4c5b6-xyzab amazon-k8s-cni-init:v1.23.1 systemd-networkd-wait-online",
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

  /// 100 MB without a line feed, with a secret at each place where a cut could fall.
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

  /// If the limit cuts off the end of a secret, the rest of the secret is not shown.
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

  /// Every plant in every escape of a URL, JSON, C or XML, and escaped twice: nothing of the secret remains.
  @Test func escapesOfEveryPlantHideNothing() {
    let escapes: [(name: String, escape: (String) -> String)] = [
      ("URL", { RedactorTests.escaped($0) { "%" + RedactorTests.hex($0, 2) } }),
      ("URL, twice", { RedactorTests.escaped($0) { "%25" + RedactorTests.hex($0, 2) } }),
      ("JSON", { RedactorTests.escaped($0) { "\\u" + RedactorTests.hex($0, 4) } }),
      ("JSON, twice", { RedactorTests.escaped($0) { "\\\\u" + RedactorTests.hex($0, 4) } }),
      ("C", { RedactorTests.escaped($0) { "\\x" + RedactorTests.hex($0, 2) } }),
      ("XML", { RedactorTests.escaped($0) { "&#x" + RedactorTests.hex($0, 2) + ";" } }),
    ]
    // A plant of several lines becomes one line with escaped line feeds.
    for plant in Self.plants where plant.kind != "the rest of a private key" {
      for escape in escapes {
        let result = Redactor.redacted(escape.escape(plant.text))
        #expect(!result.contains(escape.escape(plant.secret)), "\(escape.name): \(plant.kind): \(result)")
      }
    }
  }

  /// Replaces every character that is neither a letter nor a digit nor a space with another form.
  private static func escaped(_ text: String, _ escape: (UInt8) -> String) -> String {
    text.utf8.reduce(into: "") { result, byte in
      result += Byte.isLetterOrDigit(byte) || byte == 0x20 ? String(UnicodeScalar(byte)) : escape(byte)
    }
  }

  private static func hex(_ byte: UInt8, _ digits: Int) -> String {
    let text = String(byte, radix: 16)
    return String(repeating: "0", count: digits - text.count) + text
  }

  /// Seeded noise around every plant: it never traps, and nothing of the secret is shown.
  @Test func noiseAroundASecretDoesNotHideIt() {
    var random = SplitMix64(seed: 36)
    for plant in Self.plants where !plant.text.contains("\n") {
      for _ in 0..<40 {
        let noise = (0..<Int(random.next() % 40)).map { _ in UInt8(truncatingIfNeeded: random.next() % 94 + 33) }
        let lines =
          String(decoding: noise, as: UTF8.self) + "\n" + plant.text + "\n" + String(decoding: noise, as: UTF8.self)
        // A name before the noise may make more of it a secret, not less.
        #expect(!Redactor.redacted(lines).contains(plant.secret), "seed 36: \(plant.kind) \(noise)")
      }
    }
  }
}
