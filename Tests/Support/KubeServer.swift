// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
package import VPCModel

/// The API server of Tests/Simulator/kubeapi on 127.0.0.1, for one test. Needs the rig's Python environment.
package final class KubeServer: Sendable {
  package struct Failed: Error, CustomStringConvertible {
    package let description: String
  }

  package let url: String
  /// Contains ca.crt, other-ca.crt, client.crt, client.key, and a token in `token`.
  package let folder: TemporaryFolder
  private let process: PeerProcess
  private let turn = Mutex(())

  package static let token = "token-1"

  /// - Parameter options: the options of kubeapi/__main__.py: `--plain`, `--http1`, …
  package static func start(_ options: String...) async throws -> KubeServer {
    // The start takes a second. It runs on a thread of its own, because the tests share few threads.
    try await TestThread.run { try KubeServer(options) }
  }

  /// A Python that can import the server's dependencies; nil if there is none.
  package static let python: String? = {
    let own = "/\(repository)/.build/venv/bin/python"
    let candidates = [getenv("VPC_CNI_TEST_PYTHON").map { String(cString: $0) }, own, "python3"].compactMap { $0 }
    let modules = "import hypercorn, h2, cryptography"
    return candidates.first { (try? PeerProcess([$0, "-c", modules], quiet: true).rest()) != nil }
  }()

  private static let repository = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

  private init(_ options: [String]) throws {
    guard let python = KubeServer.python else {
      throw Failed(description: "no Python with hypercorn: run `make setup`")
    }
    folder = TemporaryFolder()
    process = try PeerProcess(
      ["env", "PYTHONPATH=/\(KubeServer.repository)/Tests/Simulator", python, "-m", "kubeapi", "--folder", folder.path]
        + options)
    let line = try process.line()
    guard line.hasPrefix("ready ") else { throw Failed(description: "the API server did not come up: \(line)") }
    let host = options.contains("::1") ? "[::1]" : "127.0.0.1"
    url = "\(options.contains("--plain") ? "http" : "https")://\(host):\(line.dropFirst(6))"
    try folder.write("token", KubeServer.token + "\n")
    try ask("tokens", ["accept": .array([.string(KubeServer.token)])])
  }

  /// Runs any command of kubeapi's Control.
  @discardableResult
  package func ask(_ command: String, _ arguments: JSONObject = [:]) throws -> JSONValue {
    var line = JSONObject(members: [.init(key: "do", value: .string(command))])
    for member in arguments.members { line[member.key] = member.value }
    let answer = try turn.withLock { _ in
      try process.say(JSONValue.object(line).text)
      return try JSONParser.parse(Array(try process.line().utf8), limits: .init(size: 64 << 20))
    }
    guard let value = answer["ok"] else { throw Failed(description: "\(command): \(answer.text)") }
    return value
  }

  // MARK: objects

  package func put(_ plural: String, _ objects: JSONValue...) throws {
    try ask("put", ["plural": .string(plural), "objects": .array(objects)])
  }

  package func patch(_ plural: String, _ name: String, in namespace: String = "default", _ patch: JSONValue) throws {
    try ask(
      "patch", ["plural": .string(plural), "name": .string(name), "namespace": .string(namespace), "patch": patch])
  }

  package func delete(_ plural: String, _ name: String, in namespace: String = "default") throws {
    try ask("delete", ["plural": .string(plural), "name": .string(name), "namespace": .string(namespace)])
  }

  package func object(_ plural: String, _ name: String, in namespace: String = "default") throws -> JSONValue {
    try ask("get", ["plural": .string(plural), "name": .string(name), "namespace": .string(namespace)])
  }

  /// The requests, in order: verb, plural, namespace, name, query, headers, body, version, status.
  package func requests(_ verb: String = "", clear: Bool = false) throws -> [JSONValue] {
    let all = try ask("requests", ["clear": .bool(clear)]).array ?? []
    return verb.isEmpty ? all : all.filter { $0["verb"]?.string == verb }
  }

  package func watches() throws -> Int { try ask("watches").int ?? -1 }

  package static func pod(_ name: String, node: String, in namespace: String = "default") -> JSONValue {
    [
      "metadata": ["name": .string(name), "namespace": .string(namespace), "labels": ["k8s-app": "aws-node"]],
      "spec": ["nodeName": .string(node)], "status": ["phase": "Running", "podIP": "10.0.0.9"],
    ]
  }

  package static func node(_ name: String, pods: Int = 58) -> JSONValue {
    ["metadata": ["name": .string(name)], "spec": [:], "status": ["capacity": ["pods": .string("\(pods)")]]]
  }
}
