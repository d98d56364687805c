// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCModel
internal import VPCSystem

/// The checkpoint on disk. Source: contract of amazon-vpc-cni-k8s v1.23, checkpoint file.
struct CheckpointFile: Sendable {
  let path: String
  /// The boot ID: relates the clocks of an earlier agent to this one.
  let bootID: String

  /// 737 pods take about 200 kB; more than this is not a checkpoint.
  private static let limit = 16 << 20
  /// Readable only for root, as with amazon-vpc-cni-k8s: the file contains the keys that a DEL must name.
  private static let mode: UInt32 = 0o600

  private var damagedPath: String { path + ".damaged" }

  init(path: String) {
    self.path = path
    // Without it (no /proc) cooldowns of an earlier agent start over.
    let bytes = (try? BoundedFile.read("/proc/sys/kernel/random/boot_id", limit: 64)) ?? []
    bootID = String(decoding: bytes.prefix { $0 > 0x20 }, as: UTF8.self)
  }

  /// Creates the folder (mode 0755) if it is missing: /run is empty after a boot.
  func makeFolder() throws(FileError) {
    guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return }
    let folder = String(path[..<slash])
    guard mkdir(folder, 0o755) == 0 || errno == EEXIST else {
      throw FileError(verb: "make", path: folder, errno: errno)
    }
  }

  /// False if no agent has run since boot, or if somebody removed the file under running pods.
  var exists: Bool { access(path, F_OK) == 0 }

  /// Replaces the file; returns after it is synced.
  ///
  /// - Parameters:
  ///   - document: the allocations; unchanged when this returns.
  ///   - time: the current time, which a later agent uses to interpret the file's times.
  func write(
    _ document: inout CheckpointDocument, cooldowns: [CheckpointCooldown], returns: [CheckpointReturn] = [],
    time: PoolTime
  ) throws(FileError) {
    let clock = CheckpointClock(bootID: bootID, time: time)
    try document.withBytes(cooldowns: cooldowns, returns: returns, clock: clock) { content throws(FileError) in
      try AtomicFile.write(content, to: path, mode: CheckpointFile.mode)
    }
  }

  /// Reads the valid entries of the file; a missing file is an empty checkpoint. Removes temporary files of agents that
  /// were killed while writing.
  ///
  /// A damaged file gets a second name, `.damaged`, under which it stays for inspection after a new one is written. It
  /// keeps its own name until then: an agent killed before that reads it again.
  ///
  /// - Returns: the valid entries, and one line per finding.
  func read() -> (checkpoint: Checkpoint, findings: [String]) {
    AtomicFile.removeLeftovers(of: path, tightening: CheckpointFile.mode)
    // Earlier releases made them world-readable.
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
      // Best effort: the findings describe the content too.
      unlink(damagedPath)
      link(path, damagedPath)
    }
    return (result.checkpoint, findings)
  }
}
