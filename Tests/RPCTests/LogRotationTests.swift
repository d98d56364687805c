// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc
import Synchronization
import TestSupport
import Testing
import VPCModel

@testable import VPCObserve

/// Many processes write, rotate and compress at once: no line is lost, and nothing is compressed twice.
@Suite struct LogRotationTests {
  private let folder = TemporaryFolder()
  private var path: String { folder.path("plugin.log") }
  private static let start: Int64 = 1_795_405_542_000

  private func time(_ second: Int64) -> UTCTime { UTCTime(milliseconds: Self.start + second * 1_000) }

  private func rotation(bytes: Int64, backups: Int = 1_000) -> LogRotation {
    var rotation = LogRotation()
    rotation.bytes = bytes
    rotation.backups = backups
    return rotation
  }

  private func line(_ text: String) -> [UInt8] { Array((text + "\n").utf8) }

  /// Every line of the log and of its backups, compressed or not.
  private func allLines() throws -> [Substring] {
    let files = [path] + LogRotation.backups(of: path)
    return try files.flatMap { file in
      let text =
        file.hasSuffix(".gz")
        ? try CommandResult.run(["gzip", "-dc", file]).get() : try String(contentsOfFile: file, encoding: .utf8)
      return text.split(separator: "\n")
    }
  }

  /// Compresses until no uncompressed backup is left, and returns how many files were compressed. A child that another
  /// test has just started may briefly hold a writer's descriptor, and with it the lock.
  private func compressAll() async -> Int {
    var compressed = 0
    _ = await eventually {
      compressed += await LogCompression().compressBackups(of: path).compressed
      return LogRotation.backups(of: path).allSatisfy { $0.hasSuffix(".gz") }
    }
    return compressed
  }

  @Test(.requires(program: "gzip")) func backupsAreCompressed() async throws {
    let text = String(repeating: "line\n", count: 1_000)
    let backup = try folder.write("ipamd-2026-11-23T03-45-49.000.log", text)
    // A killed compression left these files.
    try folder.write("ipamd-2026-11-23T03-45-49.000.log.partial", "half")
    try folder.write("ipamd-2026-11-22T03-45-49.000.log.partial", "of a backup that is gone")
    let log = folder.path("ipamd.log")
    #expect(await LogCompression().compressBackups(of: log) == .init(compressed: 1))
    #expect(LogRotation.backups(of: log) == [backup + ".gz"])
    #expect(try CommandResult.run(["gzip", "-dc", backup + ".gz"]).get() == text)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).count == 1)
    #expect(await LogCompression().compressBackups(of: log) == .init(compressed: 0))
  }

  /// A process that has not noticed the rotation yet writes to the backup: the backup is not compressed meanwhile.
  @Test(.requires(program: "gzip")) func aLateWriterLosesNothing() async throws {
    let late = LineWriter(.file(path: path), rotation: rotation(bytes: 100))
    late.write(line(String(repeating: "x", count: 200)), at: time(0))
    LineWriter(.file(path: path), rotation: rotation(bytes: 100)).write(line("second"), at: time(1))
    let backup = try #require(LogRotation.backups(of: path).first)
    #expect(await LogCompression().compressBackups(of: path) == .init(compressed: 0))
    late.write(line("late"), at: time(0))
    #expect(try String(contentsOfFile: backup, encoding: .utf8).hasSuffix("late\n"))
    #expect(await LogCompression().compressBackups(of: path) == .init(compressed: 0))
    // Now the process notices the rotation and closes the backup.
    late.write(line("third"), at: time(2))
    #expect(await compressAll() == 1)
    let all = try allLines()
    #expect(all.last == "late" && all.count == 4)
    #expect(try folder.text("plugin.log") == "second\nthird\n")
  }

  @Test func twoRotationsInOneMillisecondKeepBoth() throws {
    for number in 0..<3 {
      let writer = LineWriter(.file(path: path), rotation: rotation(bytes: 1))
      writer.write(line("line \(number)"), at: time(0))
    }
    #expect(LogRotation.backups(of: path).count == 2)
    #expect(try Set(allLines()) == ["line 0", "line 1", "line 2"])
  }

  private final class Counts: Sendable {
    /// The number of writers that have ended.
    let finished = Atomic<Int>(0)
    let compressed = Atomic<Int>(0)
  }

  /// Each writer reopens the file for a few lines, as the plugin's processes do: for the kernel's locks, each
  /// descriptor acts as a process of its own. Compressions run all the while, several at a time.
  @Test(.requires(program: "gzip")) func manyAtOnce() async throws {
    let (writers, rounds, lines) = (8, 200, 4)
    let rotation = rotation(bytes: 20_000)
    let path = path
    let counts = Counts()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for writer in 0..<writers {
        group.addTask {
          try await onThread {
            for round in 0..<rounds {
              let log = LineWriter(.file(path: path), rotation: rotation)
              for line in 0..<lines {
                log.write(Array(("\(writer)-\(round)-\(line) " + String(repeating: "x", count: 80) + "\n").utf8))
              }
            }
          }
          counts.finished.wrappingAdd(1, ordering: .sequentiallyConsistent)
        }
      }
      for _ in 0..<3 {
        group.addTask {
          while counts.finished.load(ordering: .sequentiallyConsistent) < writers {
            let outcome = await LogCompression().compressBackups(of: path)
            counts.compressed.wrappingAdd(outcome.compressed, ordering: .relaxed)
            #expect(outcome.problem == nil)
            await Task.yield()
          }
        }
      }
      try await group.waitForAll()
    }
    let last = await compressAll()
    let backups = LogRotation.backups(of: path)
    #expect(!backups.isEmpty && backups.allSatisfy { $0.hasSuffix(".gz") })
    #expect(counts.compressed.load(ordering: .relaxed) + last == backups.count, "each once")
    let all = try allLines()
    #expect(all.count == writers * rounds * lines && Set(all).count == all.count)
    #expect(all.allSatisfy { $0.hasSuffix("xxxx") })
  }

  @Test func withoutGzipBackupsStay() async throws {
    let backup = try folder.write("plugin-2026-11-23T03-45-49.000.log", "line\n")
    let none = await LogCompression(gzip: nil).compressBackups(of: path)
    #expect(none.compressed == 0 && none.problem?.contains("no gzip") == true)
    let failing = await LogCompression(gzip: "/bin/false").compressBackups(of: path)
    #expect(failing.compressed == 0 && failing.problem?.contains("status 1") == true)
    #expect(await LogCompression(gzip: "/no/such/program").compressBackups(of: path).problem != nil)
    #expect(LogRotation.backups(of: path) == [backup])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).count == 1)
  }

  /// The end of the agent does not wait for a compression and leaves no partial file behind.
  @Test func cancellingLeavesTheBackup() async throws {
    let slow = try folder.program("slow-gzip", "#!/bin/sh\necho begun\nexec sleep 600\n")
    let backup = try folder.write("plugin-2026-11-23T03-45-49.000.log", "line\n")
    let path = path
    let task = Task { await LogCompression(gzip: slow).compressBackups(of: path) }
    #expect(await eventually { LogFile.fileSize(backup + ".partial") > 0 })
    task.cancel()
    #expect(await task.value.compressed == 0)
    #expect(LogRotation.backups(of: path) == [backup])
    #expect(access(backup + ".partial", F_OK) != 0)
  }
}

extension LogFile {
  fileprivate static func fileSize(_ path: String) -> Int {
    var info = stat()
    return stat(path, &info) == 0 ? Int(info.st_size) : 0
  }
}
