// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// Readers of untrusted input, with a seeded mutator and a limited number of rounds. No input may trap, hang or produce
/// output that is larger than the input.
@Suite struct FuzzTests {
  static let seeds: [[UInt8]] = [
    #"{"version":"vpc-cni-ipam/1","allocations":[{"networkName":"aws-cni","containerID":"c1","ifName":"eth0","#
      + #""ipv4":"10.0.1.5","allocationTimestamp":1700000000123456789,"metadata":{"k8sPodName":"a","interfacesCount":1}}],"#
      + #""cooldowns":[{"ip":"10.0.0.6","until":5}]}"#,
    #"[1,-0.5e+10,"a\u00e9\ud83d\ude00\\n",true,false,null,{"a":{"b":[[[]]]}},""]"#,
    #"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/32","interface":1}],"dns":{}}"#,
    "  {}  ", "[[[[[[[[[[[[[[[[[[[[[[[[", "\"\\ud800\"", "{\"a\":1,\"a\":2}",
  ].map { Array($0.utf8) }

  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    let tokens = [
      "{", "}", "[", "]", "\"", ":", ",", "\\u", "1e999", "null", "\0", "\u{fffd}", "-", "18446744073709551616",
    ]
    for _ in 0..<Int.random(in: 1...6, using: &random) {
      let place = Int.random(in: 0...bytes.count, using: &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0 where place < bytes.count: bytes[place] = UInt8.random(in: 0...255, using: &random)
      case 1 where place < bytes.count: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 2: bytes.insert(contentsOf: Array((tokens.randomElement(using: &random) ?? "").utf8), at: place)
      case 3: bytes.removeSubrange(place..<min(place + Int.random(in: 0...8, using: &random), bytes.count))
      case 4:
        let other = seeds.randomElement(using: &random) ?? []
        bytes.insert(contentsOf: other.prefix(Int.random(in: 0...other.count, using: &random)), at: place)
      default: bytes.removeSubrange(place...)
      }
    }
  }

  @Test func jsonParser() throws {
    var random = SplitMix64(seed: 20)
    var accepted = 0
    for _ in 0..<8000 {
      var bytes = Self.seeds.randomElement(using: &random) ?? []
      Self.mutate(&bytes, &random)
      do {
        let value = try JSONParser.parse(bytes, limits: JSONParser.Limits(size: 4096, depth: 20))
        accepted += 1
        let again = try JSONParser.parse(value.bytes, limits: JSONParser.Limits(size: 1 << 16, depth: 20))
        #expect(again == value, "what was read is written so that it reads the same")
        let part = try JSONParser.parse(
          bytes, limits: JSONParser.Limits(size: 4096, depth: 20), keeping: ["allocations": ["ipv4": .all], "a": .all])
        #expect(part.bytes.count <= value.bytes.count, "a selection is no more than the whole")
      } catch {
        #expect(error.offset <= max(bytes.count, 4096))
      }
    }
    #expect(accepted > 100)
  }

  @Test func checkpointReader() {
    var random = SplitMix64(seed: 21)
    var used = 0
    for _ in 0..<8000 {
      var bytes = Self.seeds[0]
      Self.mutate(&bytes, &random)
      let result = CheckpointReader.read(bytes)
      used += result.checkpoint.allocations.count
      #expect(result.findings.count <= CheckpointReader.maximumFindings)
      let again = CheckpointReader.read(result.checkpoint.encoded())
      #expect(again.checkpoint == result.checkpoint)
      #expect(again.findings.isEmpty)
    }
    #expect(used > 100)
  }

  @Test func texts() {
    var random = SplitMix64(seed: 22)
    let texts = [
      "10.0.0.1", "2600:1f13::5", "10.0.0.0/28", "02:00:00:aa:bb:cc", "eni-0123abcd", "0x80", "::ffff:1.2.3.4/128",
    ]
    for _ in 0..<8000 {
      var bytes = Array((texts.randomElement(using: &random) ?? "").utf8)
      Self.mutate(&bytes, &random)
      let text = String(decoding: bytes, as: UTF8.self)
      if let address = IPAddress(text) { #expect(IPAddress(address.description) == address) }
      if let prefix = IPPrefix(text) { #expect(IPPrefix(prefix.description) == prefix) }
      if let mac = MACAddress(text) { #expect(MACAddress(mac.description) == mac) }
      _ = ENIID(text)
      _ = SubnetID(text)
      _ = InstanceLimits(instanceType: text)
      _ = try? Settings(environment: ["AWS_VPC_K8S_CNI_CONNMARK": text, "ADDITIONAL_ENI_TAGS": text, "MAX_ENI": text])
    }
  }
}
