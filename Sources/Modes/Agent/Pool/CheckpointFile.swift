// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCLinux
internal import VPCModel

/// The checkpoint on disk. Source: contract of amazon-vpc-cni-k8s v1.23, checkpoint file.
struct CheckpointFile: Sendable {
  let path: String
  /// Which start of the machine this is; tells how the clocks of an earlier agent compare.
  let bootID: String

  /// 737 pods take about 200 kB; more than this is not a checkpoint.
  private static let limit = 16 << 20
  /// For root alone, as amazon-vpc-cni-k8s has it: the file names what a DEL must name.
  private static let mode: UInt32 = 0o600

  private var damagedPath: String { path + ".damaged" }

  init(path: String) {
    self.path = path
    // Without it (no /proc) cooldowns of an earlier agent rest their whole time.
    let bytes = (try? BoundedFile.read("/proc/sys/kernel/random/boot_id", limit: 64)) ?? []
    bootID = String(decoding: bytes.prefix { $0 > 0x20 }, as: UTF8.self)
  }

  /// Makes the folder (mode 0755) where it is missing: /run is empty after a boot.
  func makeFolder() throws(FileError) {
    guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return }
    let folder = String(path[..<slash])
    guard mkdir(folder, 0o755) == 0 || errno == EEXIST else {
      throw FileError(verb: "make", path: folder, errno: errno)
    }
  }

  /// False on a node that was never served since its boot, and where somebody removed the file under running pods.
  var exists: Bool { access(path, F_OK) == 0 }

  /// Replaces the file; returns when it is on the disk.
  ///
  /// - Parameters:
  ///   - document: the allocations; as it was when this returns.
  ///   - time: now, by which a later agent judges the file's times.
  func write(
    _ document: inout CheckpointDocument, cooldowns: [CheckpointCooldown], returns: [CheckpointReturn] = [],
    time: PoolTime
  ) throws(FileError) {
    let clock = CheckpointClock(bootID: bootID, time: time)
    try document.withBytes(cooldowns: cooldowns, returns: returns, clock: clock) { content throws(FileError) in
      try AtomicFile.write(content, to: path, mode: CheckpointFile.mode)
    }
  }

  /// Reads what is sound in the file; a missing one is an empty checkpoint. What agents that were killed while they wrote
  /// have left beside it is removed.
  ///
  /// A file with findings gets a second name, `.damaged`, under which it stays for people once a new one has been written.
  /// Until then it keeps its own: an agent that is killed before that reads it again.
  ///
  /// - Returns: what is sound, and a line of text for each thing that is not.
  func read() -> (checkpoint: Checkpoint, findings: [String]) {
    AtomicFile.removeLeftovers(of: path, tightening: CheckpointFile.mode)
    // Earlier releases made them readable for everybody.
    for file in [path, damagedPath] { AtomicFile.tighten(file, to: CheckpointFile.mode) }
    let bytes: [UInt8]
    do {
      bytes = try BoundedFile.read(path, limit: CheckpointFile.limit)
    } catch {
      return error.isNotFound ? (Checkpoint(), []) : (Checkpoint(), ["\(error)"])
    }
    let result = CheckpointReader.read(bytes)
    let findings = result.findings.map { "\($0)" }
    if !findings.isEmpty {
      // Best effort: the content is told in the findings too.
      unlink(damagedPath)
      link(path, damagedPath)
    }
    return (result.checkpoint, findings)
  }
}
