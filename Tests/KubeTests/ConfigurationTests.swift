// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCModel
import VPCTransport

@testable import VPCKube

@Suite struct ConfigurationTests {
  private func account(token: String? = "abc\n") throws -> TemporaryFolder {
    let folder = TemporaryFolder()
    if let token { try folder.write("token", token) }
    try folder.write("ca.crt", "-----BEGIN CERTIFICATE-----\n")
    try folder.write("namespace", "kube-system")
    return folder
  }

  @Test(
    arguments: [
      (["KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"], "", "https://10.0.0.1:443"),
      (["KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"], "", "https://[fd00::1]:6443"),
      (["KUBERNETES_SERVICE_HOST": "10.0.0.1"], "https://abc.eks.amazonaws.com/", "https://abc.eks.amazonaws.com"),
      ([:], "abc.eks.amazonaws.com:8443", "https://abc.eks.amazonaws.com:8443"),
      ([:], "fd00::2", "https://[fd00::2]"), ([:], "[fd00::2]:8443", "https://[fd00::2]:8443"),
    ] as [([String: String], String, String)])
  func serviceAccount(_ environment: [String: String], _ endpoint: String, _ server: String) throws {
    let folder = try account()
    let found = try KubeConfiguration.read(environment: environment, endpoint: endpoint, serviceAccount: folder.path)
    #expect(found?.server == server)
    #expect(found?.namespace == "kube-system")
    #expect(found?.credential == .tokenFile(folder.path("token")))
    #expect(found?.authorities == .file(folder.path("ca.crt")))
  }

  @Test func nothingNamesAServer() throws {
    #expect(try KubeConfiguration.read(environment: [:]) == nil)
  }

  @Test func podWithoutAnAccountIsTold() throws {
    let folder = try account(token: nil)
    let environment = ["KUBERNETES_SERVICE_HOST": "10.0.0.1"]
    let error = #expect(throws: KubeConfigurationError.self) {
      try KubeConfiguration.read(environment: environment, serviceAccount: folder.path)
    }
    #expect(error.map { CauseChain.text($0) }?.contains("\(folder.path)/token: no such file") == true)
  }

  @Test(arguments: ["http://u:p@h", "h?x", "a b", "ftp://h", "https://", "h:0", "h:70000", "h:x", "[::1"])
  func wrongEndpointsAreRefused(_ endpoint: String) throws {
    let folder = try account()
    let error = #expect(throws: KubeConfigurationError.self) {
      try KubeConfiguration.read(environment: [:], endpoint: endpoint, serviceAccount: folder.path)
    }
    #expect(error?.field == "CLUSTER_ENDPOINT")
  }

  private static let kubeconfig = """
    apiVersion: v1
    kind: Config
    current-context: "main"   # the one in use
    preferences: {}
    clusters:
    - name: other
      cluster: {}
    - cluster:
        certificate-authority-data: LS0tLS1CRUdJTiBY
        server: 'https://api.example:6443'
      name: c
    contexts:
      - name: main
        context:
          cluster: c
          user: u
          namespace: kube-system
    users:
    - name: u
      user:
        USER
    """

  private func read(_ user: String, _ change: (String) -> String = { $0 }) throws -> KubeConfiguration? {
    let folder = TemporaryFolder()
    try folder.write("ca.crt", "-----BEGIN")
    try folder.write("config", change(Self.kubeconfig.replacing("USER", with: user)))
    return try KubeConfiguration.read(environment: ["KUBECONFIG": folder.path("config")])
  }

  @Test func kubeconfigWithToken() throws {
    let found = try #require(try read("token: abc"))
    #expect(found.server == "https://api.example:6443")
    #expect(found.credential == .token(KubeSecret("abc")))
    #expect(found.authorities == .bytes(Array("-----BEGIN X".utf8)))
    #expect(found.namespace == "kube-system")
    var dumped = ""
    dump(found, to: &dumped)
    #expect(!"\(found)".contains("abc") && !String(reflecting: found).contains("abc") && !dumped.contains("abc"))
  }

  @Test func kubeconfigPathsAreRelativeToIt() throws {
    let found = try #require(try read("tokenFile: sub/token"))
    guard case .tokenFile(let path) = found.credential else { return #expect(Bool(false)) }
    #expect(path.hasPrefix("/tmp/") && path.hasSuffix("/sub/token"))
  }

  @Test func kubeconfigWithClientCertificate() throws {
    let found = try read("client-certificate-data: LS0tLS1CRUdJTiBY\n    client-key-data: LS0tLS1CRUdJTiBZ")
    let identity = HTTPTLS.Identity(
      certificate: .bytes(Array("-----BEGIN X".utf8)), key: .bytes(Array("-----BEGIN Y".utf8)))
    #expect(found?.credential == .certificate(identity))
    var dumped = ""
    dump(found, to: &dumped)
    // The bytes of the key, as a description or a dump would show them.
    for text in ["\(String(describing: found))", "\(String(reflecting: found))", dumped] {
      #expect(!text.contains("45, 45, 45") && !text.contains("BEGIN Y") && !text.contains("- 45"), "\(text)")
    }
  }

  @Test func insecureOnlyWhereItSaysSo() throws {
    let authority = "certificate-authority-data: LS0tLS1CRUdJTiBY"
    let insecure = try read("token: a") { $0.replacing(authority, with: "insecure-skip-tls-verify: true") }
    #expect(insecure?.verifiesServer == false)
    #expect(try read("token: a")?.verifiesServer == true)
    let both = #expect(throws: KubeConfigurationError.self) {
      try read("token: a") { $0.replacing(authority, with: authority + "\n    insecure-skip-tls-verify: true") }
    }
    #expect(both?.field == "clusters[c].cluster.insecure-skip-tls-verify")
  }

  @Test func json() throws {
    let text = """
      {"current-context":"x","contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],
       "clusters":[{"name":"c","cluster":{"server":"http://127.0.0.1:80"}}],"users":[{"name":"u","user":{}}]}
      """
    #expect(try read("") { _ in text }?.server == "http://127.0.0.1:80")
    let error = #expect(throws: KubeConfigurationError.self) {
      try read("") { _ in text.replacing("\"user\":{}", with: "\"user\":{\"token\":\"t\"}") }
    }
    #expect("\(error.map { "\($0)" } ?? "")".contains("is not https"))
  }

  @Test(arguments: [
    ("exec:\n      command: aws", "users[u].user.exec"), ("username: a", "users[u].user.username"),
    ("client-certificate-data: LS0tLS1CRUdJTiBY", "users[u].user.client-key"),
    ("client-certificate-data: '!'", "users[u].user.client-certificate-data"),
    ("client-certificate: nothing.crt", "users[u].user.client-certificate"), ("token: \"a b\"", "users[u].user.token"),
  ])
  func wrongUsersNameTheField(_ user: String, _ field: String) throws {
    let error = #expect(throws: KubeConfigurationError.self) { try read(user) }
    #expect(error?.field == field)
    #expect(error?.source.hasSuffix("/config") == true)
  }

  @Test(arguments: [
    ("current-context: \"main\"", "current-context: \"\"", "current-context"),
    ("cluster: c", "cluster: d", "clusters[d]"),
    ("server:", "sorver:", "clusters[c].cluster.server"), ("https://api", "ftp://api", "clusters[c].cluster.server"),
    ("users:", "user:", "users"),
    ("    server:", "    proxy-url: http://p\n    server:", "clusters[c].cluster.proxy-url"),
  ])
  func wrongFilesNameTheField(_ old: String, _ new: String, _ field: String) throws {
    let error = #expect(throws: KubeConfigurationError.self) { try read("token: a") { $0.replacing(old, with: new) } }
    #expect(error?.field == field)
  }
}

@Suite struct YAMLReaderTests {
  private func parse(_ text: String) throws -> String { try YAMLReader.parse(Array(text.utf8)).text }

  @Test(arguments: [
    ("a: 1\nb: x y\nc:\n", #"{"a":1,"b":"x y","c":null}"#), ("---\na: true # r\n", #"{"a":true}"#),
    ("a:\n  b:\n    c: ''\n  d: \"x\\n\\\"\"\n", #"{"a":{"b":{"c":""},"d":"x\n\""}}"#),
    ("a:\n- b\n- c: 1\n  d: 2\n-\n  e: 3\n", #"{"a":["b",{"c":1,"d":2},{"e":3}]}"#),
    ("- - a\n  - b\n- c", #"[["a","b"],"c"]"#),
    ("k: |\n  one\n    two\n\n  three\nl: |-\n  x\n", #"{"k":"one\n  two\n\nthree\n","l":"x"}"#),
    ("a: https://h:1/x#y\nb: 'it''s'\n", #"{"a":"https://h:1/x#y","b":"it's"}"#), ("{}", "{}"),
    ("\"q k\": []", #"{"q k":[]}"#),
    // Flow form, on one line and on several; JSON.
    (
      "clusters: [{name: c, cluster: {server: 'https://h'}}]",
      #"{"clusters":[{"name":"c","cluster":{"server":"https://h"}}]}"#
    ),
    ("a: {\n  b: [1,\n   x],\n}", #"{"a":{"b":[1,"x"]}}"#),
    (#"{"a": [true, null, "x\u0041"]}"#, #"{"a":[true,null,"xA"]}"#),
    // Folded and continued strings, escapes, directives, the end of a document.
    ("a: >\n  b\n  c\n", #"{"a":"b c\n"}"#), ("a: b\n  c", #"{"a":"b c"}"#), (#"a: "\x41\n""#, #"{"a":"A\n"}"#),
    ("%YAML 1.2\n---\na: 1\n...\n", #"{"a":1}"#),
    // An anchor and its aliases.
    ("a: &x {b: 1}\nc: *x\nd: [*x]", #"{"a":{"b":1},"c":{"b":1},"d":[{"b":1}]}"#),
    // Strings that other readers take for something else.
    ("a: yes\nb: on\nc: 1.5\nd: +1\ne: 0x10\nf: '1'", #"{"a":"yes","b":"on","c":"1.5","d":"+1","e":"0x10","f":"1"}"#),
  ])
  func reads(_ text: String, _ json: String) throws { #expect(try parse(text) == json) }

  @Test(arguments: [
    ("", 1, "the text is empty"), ("a: *x", 1, "alias"), ("a: &x [*x]", 1, "alias"), ("a: !t x", 1, "tag"),
    ("\ta: 1", 1, "token"), ("a: 1\na: 2", 2, "appears twice"), ("a: {b: 1, b: 2}", 1, "appears twice"),
    ("a: 1\n  b: 2", 2, ""), ("a: 1\n---\nb: 2", 2, "second document"), ("a: \"x", 1, ""), ("a: b: c", 1, ""),
    ("- a\nb: 1", 2, ""), ("a:\n  <<: {b: 1}", 2, "merge key"), ("[a]: 1", 1, "not a string"), ("a: [1", 2, ""),
    ("a: \u{1}", 1, "control"), ("a: !!binary aGk=", 1, "tag"),
  ])
  func refuses(_ text: String, _ line: Int, _ words: String) {
    let error = #expect(throws: YAMLReader.Failure.self) { try YAMLReader.parse(Array(text.utf8)) }
    #expect(error?.line == line && error?.reason.contains(words) == true, "\(text): \(error?.description ?? "")")
  }

  /// Limits on size, depth and the number of values, also of those that aliases multiply (ten billion here).
  @Test func whatIsTooLargeIsRefusedAtOnce() {
    let deep = (0..<100).map { String(repeating: " ", count: $0) + "a:" }.joined(separator: "\n")
    let flow = String(repeating: "[", count: 500_000)
    let laughs = (1..<10).reduce("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n") { text, level in
      text + "a\(level): &a\(level) [" + (0..<10).map { _ in "*a\(level - 1)" }.joined(separator: ",") + "]\n"
    }
    let many = "a: [" + String(repeating: "1,", count: 200_000) + "]"
    for (text, words) in [(deep, "too deep"), (flow, "too deep"), (laughs, "more than"), (many, "more than")] {
      let error = #expect(throws: YAMLReader.Failure.self) { try YAMLReader.parse(Array(text.utf8)) }
      #expect(error?.reason.contains(words) == true, "\(error?.description ?? "")")
    }
    #expect(throws: YAMLReader.Failure.self) { try YAMLReader.parse([UInt8](repeating: 0x61, count: 1 << 21)) }
    #expect(throws: YAMLReader.Failure.self) { try YAMLReader.parse([0x61, 0xff, 0xfe]) }
  }
}

@Suite struct Base64Tests {
  @Test(arguments: [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9v\nYg", "foob")])
  func decodes(_ text: String, _ plain: String) { #expect(Base64.decode(text) == Array(plain.utf8)) }

  @Test(arguments: ["Z", "Zg=", "Zm9v=", "Z!==", "Zg==Zg=="])
  func refuses(_ text: String) { #expect(Base64.decode(text) == nil) }
}
