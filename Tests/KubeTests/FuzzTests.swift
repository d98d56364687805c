// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import VPCKube

/// Readers of untrusted input, with a seeded mutator. No input may trap or hang.
@Suite struct KubeFuzzTests {
  private static func mutate(_ seed: [UInt8], _ tokens: [String], _ random: inout SplitMix64) -> [UInt8] {
    var bytes = seed
    for _ in 0..<Int.random(in: 1...6, using: &random) {
      let place = Int.random(in: 0...bytes.count, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0 where place < bytes.count: bytes[place] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes.insert(contentsOf: Array((tokens.randomElement(using: &random) ?? "").utf8), at: place)
      case 2: bytes.removeSubrange(place..<min(place + Int.random(in: 0...8, using: &random), bytes.count))
      default: bytes.insert(contentsOf: bytes.suffix(from: place).prefix(24), at: place)
      }
    }
    return bytes
  }

  @Test func yamlReader() {
    let seed = Array("a: 1\nb:\n- c: 'x'\n  d: |\n    t\n     u\n-\n  - e\nf: \"g\\n\" # r\nh: {}\n".utf8)
    let tokens = [
      "\n", "- ", ": ", "  ", "|", "'", "\"", "#", "---", "&a ", "*a", "{", "}", "[", "]", ", ", "? ", "!!", "\\", "\t",
      "é",
      "\r\n", "-\n", ">", "%YAML", "...", "<<",
    ]
    var random = SplitMix64(seed: 7)
    var accepted = 0
    for _ in 0..<20_000 {
      let bytes = Self.mutate(seed, tokens, &random)
      if let value = try? YAMLReader.parse(bytes) {
        accepted += 1
        // An alias repeats the value of its anchor.
        #expect(value.bytes.count <= 64 * bytes.count + 64)
      }
    }
    #expect(accepted > 1000)
  }

  @Test func objects() throws {
    let seed = Array(
      (#"{"metadata":{"name":"n","namespace":"d","uid":"u","resourceVersion":"1","labels":{"a":"b"},"annotations":{"c":"d"}},"#
        + #""spec":{"taints":[{"key":"k","effect":"NoSchedule"}],"subnet":"subnet-1","securityGroups":["sg-1"],"#
        + #""features":[{"name":"x","value":"y"}],"nodeName":"n"},"status":{"capacity":{"pods":"58"},"podIP":"10.0.0.1"}}"#)
        .utf8)
    let tokens = ["null", "{}", "[]", "\"\"", "-1", "1e9", ",", ":", "\"name\":", "\\u0000"]
    var random = SplitMix64(seed: 8)
    var read = 0
    for _ in 0..<20_000 {
      guard let json = try? JSONParser.parse(Self.mutate(seed, tokens, &random)) else { continue }
      if let node = try? KubeNode(json) {
        read += 1
        #expect(!node.metadata.name.isEmpty && (node.podCapacity ?? 0) >= 0)
      }
      if let config = try? ENIConfig(json) { #expect(config.securityGroups.allSatisfy { $0.hasPrefix("sg-") }) }
      _ = try? KubePod(json)
      if let features = try? CNINode(json) { _ = features.patch(adding: [CNINode.Feature(name: "x", value: "z")]) }
    }
    #expect(read > 100)
  }

  @Test func endpoints() {
    let tokens = ["https://", "http://", ":", "/", "[", "]", "::", "@", "?", "#", "%", " ", "65536", "é"]
    var random = SplitMix64(seed: 9)
    for seed in ["https://api.example:6443/x", "[fd00::1]:443", "10.0.0.1"] {
      for _ in 0..<5000 {
        let text = String(decoding: Self.mutate(Array(seed.utf8), tokens, &random), as: UTF8.self)
        guard let server = try? KubeConfiguration.server(text, of: "x") else { continue }
        #expect(server.hasPrefix("http") && !server.hasSuffix("/"), "\(text)")
        #expect(!server.contains("@") && !server.contains("?") && !server.contains(" "), "\(text)")
      }
    }
  }
}
