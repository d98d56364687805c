// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@Suite struct CheckpointTests {
  static let entry = CheckpointAllocation(
    key: AttachmentKey(networkName: "aws-cni", containerID: "c1", ifName: "eth0"),
    address: IPAddress(ipv4: 0x0a00_0105),
    unixNanoseconds: 1_700_000_000_123_456_789, pod: PodName(namespace: "default", name: "web-0"))

  static func read(_ text: String) -> CheckpointReader.Result { CheckpointReader.read(Array(text.utf8)) }

  @Test func writtenAsTheReferenceWritesIt() {
    let text = String(decoding: Checkpoint(allocations: [Self.entry]).encoded(), as: UTF8.self)
    let expected =
      #"{"version":"vpc-cni-ipam/1","allocations":[{"networkName":"aws-cni","containerID":"c1","ifName":"eth0","#
      + #""ipv4":"10.0.1.5","allocationTimestamp":1700000000123456789,"#
      + #""metadata":{"k8sPodNamespace":"default","k8sPodName":"web-0","interfacesCount":1}}]}"# + "\n"
    #expect(text == expected)
  }

  @Test func emptyFieldsAreLeftOut() {
    var entry = Self.entry
    entry.pod = PodName(namespace: "", name: "")
    entry.interfacesCount = 0
    let text = String(decoding: Checkpoint(allocations: [entry]).encoded(), as: UTF8.self)
    #expect(text.contains(#""metadata":{}}]"#))
    #expect(
      String(decoding: Checkpoint().encoded(), as: UTF8.self) == #"{"version":"vpc-cni-ipam/1","allocations":[]}"#
        + "\n")
  }

  @Test func readsWhatItWrites() throws {
    var checkpoint = Checkpoint()
    var random = SplitMix64(seed: 4)
    for index in 0..<737 {
      var entry = Self.entry
      entry.key = AttachmentKey(networkName: "aws-cni", containerID: "c\(index)", ifName: "eth0")
      entry.address =
        index % 2 == 0 ? IPAddress(ipv4: 0x0a00_0000 + UInt32(index)) : IPAddress(ipv6: 0xfd << 120 | UInt128(index))
      entry.pod = PodName(namespace: "ns \"\(index)\"", name: "pod\\\n\u{1}é\(random.next())")
      checkpoint.allocations.append(entry)
    }
    checkpoint.cooldowns = [
      CheckpointCooldown(address: IPAddress(ipv4: 0xff00_0005 & 0x7fff_ffff), untilUnixNanoseconds: 17)
    ]
    let result = CheckpointReader.read(checkpoint.encoded())
    #expect(result.findings == [])
    #expect(result.checkpoint == checkpoint)
  }

  @Test func aDocumentOfManyChangesSaysWhatAWholeEncodingSays() {
    var document = CheckpointDocument()
    var random = SplitMix64(seed: 5)
    var checkpoint = Checkpoint()
    for round in 0..<600 {
      let place = Int(random.next() % 40)
      // Long runs of removals, so that the document also becomes empty.
      let isShrinking = round % 150 > 100
      switch random.next() % 4 {
      case 0 where place < checkpoint.allocations.count, 1 where isShrinking && !checkpoint.allocations.isEmpty:
        document.remove(checkpoint.allocations.remove(at: place % checkpoint.allocations.count).key)
      case 2 where place < checkpoint.allocations.count:
        var entry = checkpoint.allocations.remove(at: place)
        entry.pod = PodName(namespace: "default", name: "renamed \(round)")
        entry.unixNanoseconds -= Int64(random.next() % 3) * entry.unixNanoseconds
        checkpoint.allocations.append(entry)
        document.set(entry)
      case _ where isShrinking: document.remove(Self.entry.key)
      default:
        var entry = Self.entry
        entry.key = AttachmentKey(networkName: "aws-cni", containerID: "c-\(round)", ifName: "eth0")
        entry.address = IPAddress(ipv4: 0x0a00_0000 + UInt32(round))
        checkpoint.allocations.append(entry)
        document.set(entry)
      }
      checkpoint.cooldowns = (0..<random.next() % 3).map {
        CheckpointCooldown(address: IPAddress(ipv4: 0x0a01_0000 + UInt32($0)), untilUnixNanoseconds: Int64(round))
      }
      #expect(document.withBytes(cooldowns: checkpoint.cooldowns) { $0 } == checkpoint.encoded())
      #expect(document.count == checkpoint.allocations.count)
    }
  }

  @Test(arguments: [Int64.min, -1, 0, 9, 10, 1_700_000_000_123_456_789, Int64.max])
  func everyTimestampIsWrittenInDigits(_ timestamp: Int64) {
    var entry = Self.entry
    entry.unixNanoseconds = timestamp
    let cooldown = CheckpointCooldown(address: IPAddress(ipv4: 0x0a00_00ff), untilUnixNanoseconds: timestamp)
    let text = String(decoding: Checkpoint(allocations: [entry], cooldowns: [cooldown]).encoded(), as: UTF8.self)
    #expect(text.contains("\"allocationTimestamp\":\(timestamp),"))
    #expect(text.hasSuffix("\"cooldowns\":[{\"ip\":\"10.0.0.255\",\"until\":\(timestamp)}]}\n"))
  }

  @Test func theReferencesOwnFileIsRead() {
    let result = Self.read(
      """
      {"version":"vpc-cni-ipam/1","allocations":[
        {"networkName":"aws-cni","containerID":"old","ifName":"eth0","ipv4":"10.0.1.9",
         "allocationTimestamp":1600000000000000000,"metadata":{"k8sPodNamespace":"a","k8sPodName":"b"}},
        {"networkName":"_migrated-from-cri","containerID":"older","ifName":"unknown","ipv4":"10.0.1.8",
         "allocationTimestamp":1500000000000000000,"metadata":{}},
        {"networkName":"aws-cni","containerID":"six","ifName":"eth0","ipv6":"2600:1f13::5",
         "allocationTimestamp":1,"metadata":{"interfacesCount":2}}]}
      """)
    #expect(result.findings == [])
    #expect(result.checkpoint.allocations.map(\.interfacesCount) == [1, 1, 2])
    #expect(result.checkpoint.allocations[1].key == .migrated(containerID: "older"))
    #expect(result.checkpoint.allocations[2].address == IPAddress("2600:1f13::5"))
  }

  struct Damage: Sendable, CustomTestStringConvertible {
    let name: String
    let text: String
    /// Container identifiers that remain.
    let left: [String]
    let finding: String
    var testDescription: String { name }
  }

  static func entry(_ container: String, _ address: String, at time: String = "1") -> String {
    #"{"networkName":"aws-cni","containerID":"\#(container)","ifName":"eth0","ipv4":"\#(address)","#
      + #""allocationTimestamp":\#(time),"metadata":{}}"#
  }

  static func file(_ entries: String...) -> String {
    #"{"version":"vpc-cni-ipam/1","allocations":[\#(entries.joined(separator: ","))]}"#
  }

  static let damages: [Damage] = [
    Damage(name: "empty", text: "", left: [], finding: "cannot be read"),
    Damage(name: "zeros", text: "\0\0\0\0", left: [], finding: "cannot be read"),
    Damage(name: "cut", text: String(file(entry("a", "10.0.0.5")).dropLast(5)), left: [], finding: "cannot be read"),
    Damage(name: "array", text: "[]", left: [], finding: "it is an array"),
    Damage(
      name: "other version", text: #"{"version":"vpc-cni-ipam/9","allocations":[\#(entry("a", "10.0.0.5"))]}"#,
      left: ["a"], finding: "vpc-cni-ipam/9"),
    Damage(
      name: "no list", text: #"{"version":"vpc-cni-ipam/1","allocations":7}"#, left: [],
      finding: "allocations is a number"),
    Damage(name: "bad entry", text: file("7", entry("a", "10.0.0.5")), left: ["a"], finding: "allocation 0"),
    Damage(
      name: "bad address", text: file(entry("a", "10.0.0"), entry("b", "10.0.0.5")), left: ["b"],
      finding: "allocation 0"),
    Damage(name: "loopback", text: file(entry("a", "127.0.0.1")), left: [], finding: "allocation 0"),
    Damage(name: "empty key", text: file(entry("", "10.0.0.5")), left: [], finding: "is empty"),
    Damage(
      name: "address twice, later first", text: file(entry("a", "10.0.0.5", at: "9"), entry("b", "10.0.0.5", at: "3")),
      left: ["a"], finding: "10.0.0.5 appears twice"),
    Damage(
      name: "address twice, later last", text: file(entry("a", "10.0.0.5", at: "3"), entry("b", "10.0.0.5", at: "9")),
      left: ["b"], finding: "10.0.0.5 appears twice"),
    Damage(
      name: "address twice, same time", text: file(entry("a", "10.0.0.5"), entry("b", "10.0.0.5")), left: ["b"],
      finding: "10.0.0.5 appears twice"),
    Damage(
      name: "attachment twice", text: file(entry("a", "10.0.0.5", at: "3"), entry("a", "10.0.0.6", at: "9")),
      left: ["a"],
      finding: "container a appears twice"),
    Damage(
      name: "timestamp no number", text: file(entry("a", "10.0.0.5", at: #""x""#)), left: ["a"], finding: ""),
  ]

  @Test(arguments: damages) func damageIsToldAndTheRestUsed(_ damage: Damage) {
    let result = Self.read(damage.text)
    #expect(result.checkpoint.allocations.map(\.key.containerID) == damage.left)
    #expect(damage.finding.isEmpty == result.findings.isEmpty)
    #expect(result.findings.contains { "\($0)".contains(damage.finding) } || damage.finding.isEmpty)
  }

  @Test func findingsAreBounded() {
    let entries = (0..<1000).map { _ in "7" }
    let result = Self.read(#"{"version":"vpc-cni-ipam/1","allocations":[\#(entries.joined(separator: ","))]}"#)
    #expect(result.findings.count == CheckpointReader.maximumFindings)
  }

  @Test func cooldownOfAnAddressInUseIsPassedOver() {
    let result = Self.read(
      #"{"version":"vpc-cni-ipam/1","allocations":[\#(Self.entry("a", "10.0.0.5"))],"#
        + #""cooldowns":[{"ip":"10.0.0.5","until":5},{"ip":"10.0.0.6","until":5},{"ip":6}]}"#)
    #expect(result.checkpoint.cooldowns.map(\.address) == [IPAddress(ipv4: 0x0a00_0006)])
    #expect(result.findings.count == 2)
  }
}
