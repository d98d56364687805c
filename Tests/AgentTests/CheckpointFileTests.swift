// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VPCModel
import VPCSystem

@testable import AgentMode

@Suite struct CheckpointFileTests {
  let folder: TemporaryFolder
  let file: CheckpointFile

  init() throws {
    folder = try TemporaryFolder()
    file = CheckpointFile(path: "\(folder.path)/ipam.json")
  }

  static let entry = CheckpointAllocation(
    key: PoolFixture.key("c1"), address: IPAddress(ipv4: 0x0a00_0014), unixNanoseconds: 5,
    pod: PodName(namespace: "default", name: "web-0"))

  static let now = PoolTime(instant: PoolInstant(nanoseconds: 7), unixNanoseconds: 8)

  static func write(_ checkpoint: Checkpoint, to file: CheckpointFile) throws {
    var document = CheckpointDocument()
    for entry in checkpoint.allocations { document.set(entry) }
    try file.write(&document, cooldowns: checkpoint.cooldowns, returns: checkpoint.returns, time: Self.now)
  }

  @Test func roundTrip() throws {
    let file = file
    let eni = try #require(ENIID("eni-3"))
    let checkpoint = Checkpoint(
      allocations: [Self.entry],
      cooldowns: [CheckpointCooldown(address: IPAddress(ipv4: 0x0a00_0015), untilUnixNanoseconds: 9)],
      returns: [
        CheckpointReturn(.eni(try #require(ENIID("eni-1")))),
        CheckpointReturn(.eni(try #require(ENIID("eni-2"))), untilUnixNanoseconds: 10),
        CheckpointReturn(.cidr(try #require(IPPrefix("10.0.1.0/28")), of: eni)),
        CheckpointReturn(.cidr(try #require(IPPrefix("10.0.0.22/32")), of: nil), untilUnixNanoseconds: 11),
      ], clock: CheckpointClock(bootID: file.bootID, time: Self.now))
    #expect(file.bootID.count == 36, "the kernel's boot_id")
    try Self.write(checkpoint, to: file)
    try Self.write(checkpoint, to: file)
    let (read, findings) = file.read()
    #expect(read == checkpoint && findings == [])
    #expect(folder.names == ["ipam.json"], "no temporary file is left")
  }

  /// An agent that is killed between writing and renaming leaves its temporary file, and the next start removes it. A
  /// file that was written just now may belong to an agent that still runs, and files with other names are not the
  /// agent's: both stay.
  @Test func leftoversOfKilledAgentsAreRemoved() throws {
    let file = file
    try Self.write(Checkpoint(allocations: [Self.entry]), to: file)
    for name in ["ipam.json.tmp7", "ipam.json.tmp123", "ipam.json.tmp", "ipam.json.tmp7x", "other.tmp7"] {
      try AtomicFile.write([1], to: "\(folder.path)/\(name)")
    }
    for name in folder.names where name != "ipam.json.tmp123" {
      var times = [timespec(tv_sec: time(nil) - 120, tv_nsec: 0), timespec(tv_sec: time(nil) - 120, tv_nsec: 0)]
      try #require(utimensat(AT_FDCWD, "\(folder.path)/\(name)", &times, 0) == 0)
    }
    #expect(file.read().checkpoint.allocations == [Self.entry])
    #expect(
      Set(folder.names) == ["ipam.json", "ipam.json.tmp123", "ipam.json.tmp", "ipam.json.tmp7x", "other.tmp7"])
  }

  private func mode(_ name: String) -> UInt32 {
    var info = stat()
    return lstat("\(folder.path)/\(name)", &info) == 0 ? info.st_mode & 0o7777 : 0
  }

  /// The file holds what a forged DEL needs, so only root may read it, as in amazon-vpc-cni-k8s. The agent also
  /// restricts the files of an earlier release.
  @Test func forRootAlone() throws {
    let file = file
    try Self.write(Checkpoint(allocations: [Self.entry]), to: file)
    #expect(mode("ipam.json") == 0o600)
    for name in ["ipam.json", "ipam.json.damaged", "ipam.json.tmp7", "other.json"] {
      try AtomicFile.write([1], to: "\(folder.path)/\(name)")
      #expect(mode(name) == 0o644)
    }
    #expect(!file.read().findings.isEmpty)
    #expect(["ipam.json", "ipam.json.damaged", "ipam.json.tmp7"].map(mode) == [0o600, 0o600, 0o600])
    #expect(mode("other.json") == 0o644)
  }

  @Test func missingIsEmptyAndSound() {
    let (read, findings) = file.read()
    #expect(read == Checkpoint() && findings == [] && folder.names == [])
  }

  @Test(arguments: ["", "{", "[]", #"{"version":"vpc-cni-ipam/2","allocations":[]}"#, "\u{0}\u{0}\u{0}"])
  func damagedIsKeptForPeople(content: String) throws {
    let file = file
    try AtomicFile.write(Array(content.utf8), to: file.path)
    let (read, findings) = file.read()
    #expect(read == Checkpoint() && !findings.isEmpty)
    #expect(folder.names == ["ipam.json", "ipam.json.damaged"])
    #expect(file.read().findings == findings, "an agent killed before its first write finds what this one found")
    try Self.write(Checkpoint(), to: file)
    #expect(file.read().findings == [], "the next file is sound")
    #expect(try BoundedFile.read("\(file.path).damaged", limit: 1000) == Array(content.utf8))
  }

  @Test func soundPartIsUsed() throws {
    let text = String(decoding: Checkpoint(allocations: [Self.entry]).encoded(), as: UTF8.self)
      .replacing(#""allocations":["#, with: #""allocations":[{"networkName":7},"#)
    try AtomicFile.write(Array(text.utf8), to: file.path)
    let (read, findings) = file.read()
    #expect(read.allocations == [Self.entry] && findings.count == 1)
  }

  @Test func hugeIsNotRead() throws {
    try AtomicFile.write(Array(repeating: UInt8(ascii: " "), count: (16 << 20) + 1), to: file.path)
    let (read, findings) = file.read()
    #expect(read == Checkpoint() && findings.count == 1 && findings[0].contains("larger than"))
  }

  @Test(arguments: ["folder", "fifo", "device"])
  func notAFile(kind: String) throws {
    switch kind {
    case "folder": mkdir(file.path, 0o755)
    case "fifo": mkfifo(file.path, 0o644)
    default: symlink("/dev/zero", file.path)
    }
    let (read, findings) = file.read()
    #expect(read == Checkpoint() && findings.count == 1, "told, and neither waited for nor read without end")
    rmdir(file.path)
  }

  @Test func aFailedWriteLeavesTheDocumentAsItWas() throws {
    let lost = CheckpointFile(path: "\(folder.path)/none/ipam.json")
    var document = CheckpointDocument()
    document.set(Self.entry)
    let before = document.withBytes(cooldowns: []) { $0 }
    #expect(throws: FileError.self) { try lost.write(&document, cooldowns: [], time: Self.now) }
    #expect(document.withBytes(cooldowns: []) { $0 } == before)
    let file = file
    try file.write(&document, cooldowns: [], time: Self.now)
    #expect(file.read().checkpoint.allocations == [Self.entry])
  }

  @Test func unwritableIsTold() throws {
    let lost = CheckpointFile(path: "\(folder.path)/none/ipam.json")
    let error = #expect(throws: FileError.self) { try Self.write(Checkpoint(), to: lost) }
    #expect(error?.description.contains("no such file") == true)
  }
}
