// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc
import Logging
import TestSupport
import Testing
import VPCModel

@testable import VPCObserve

@Suite struct LogTests {
  private func lines(_ path: String) throws -> [[String: Any]] {
    try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map {
      try #require(try foreignJSON($0) as? [String: Any])
    }
  }

  @Test func aRecordIsOneLineOfJSON() throws {
    let folder = TemporaryFolder()
    let path = folder.path("deep/plugin.log")
    var logger = Logger.jsonLines(label: "test", to: .file(path: path), level: .debug)
    #expect(access(path, F_OK) != 0, "opened with the first line")
    logger[metadataKey: "pod"] = "default/web"
    logger.info("add \"quoted\"\n", metadata: ["ip": "10.0.0.1", "list": ["a", "b"], "map": ["k": "v"], "msg": "own"])
    logger.trace("below the level")
    logger.critical("last")
    let text = try String(contentsOfFile: path, encoding: .utf8)
    #expect(text.hasPrefix("{\"level\":\"info\",\"ts\":\"2"))
    let records = try lines(path)
    #expect(records.map { $0["level"] as? String } == ["info", "fatal"])
    let first = records[0]
    #expect(first["msg"] as? String == "add \"quoted\"\n")
    #expect((first["caller"] as? String)?.hasPrefix("RPCTests/LogTests.swift:") == true)
    #expect(first["pod"] as? String == "default/web")
    #expect(first["list"] as? [String] == ["a", "b"])
    #expect(first["map"] as? [String: String] == ["k": "v"])
    #expect(first["_msg"] as? String == "own")
    #expect((first["ts"] as? String)?.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/) != nil)
  }

  @Test func linesAreBounded() throws {
    let folder = TemporaryFolder()
    let path = folder.path("a.log")
    let logger = Logger.jsonLines(label: "test", to: .file(path: path), level: .debug)
    let long = String(repeating: "x", count: 100_000)
    logger.info("\(long)", metadata: Dictionary(uniqueKeysWithValues: (0..<40).map { ("k\($0)", .string(long)) }))
    let record = try #require(try lines(path).first)
    #expect((record["msg"] as? String)?.utf8.count ?? 0 < 9_000)
    #expect(record["dropped"] != nil)
  }

  @Test(arguments: [
    (0, "1970-01-01T00:00:00.000Z"), (951_782_400_007, "2000-02-29T00:00:00.007Z"),
    (1_795_405_542_123, "2026-11-23T03:45:42.123Z"), (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
    (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
  ])
  func timesAreUTC(_ milliseconds: Int64, _ text: String) {
    #expect(UTCTime(milliseconds: milliseconds).text() == text)
  }

  @Test(arguments: [
    ("Debug", Logger.Level.debug), ("INFO", .info), ("warn", .warning), ("Error", .error), ("fatal", .critical),
    ("", .debug), ("loud", .debug),
  ])
  func levelsAreRead(_ text: String, _ level: Logger.Level) {
    #expect(Logger.Level(setting: text) == level)
  }

  @Test(arguments: [
    ("", true, LogDestination.file(path: "/d.log")), ("stderr", true, .stderr), ("STDOUT", true, .refused),
    ("stdout", false, .stdout), ("/x/y.log", true, .file(path: "/x/y.log")), ("/dev/stdout", true, .refused),
    ("/proc/self/fd/1", true, .refused), ("/dev/stdout", false, .file(path: "/dev/stdout")),
    ("/dev/stderr", true, .file(path: "/dev/stderr")),
  ])
  func destinationsAreRead(_ text: String, _ plugin: Bool, _ destination: LogDestination) {
    #expect(LogDestination(text, default: "/d.log", resultOnStdout: plugin) == destination)
  }

  @Test func aLargeFileIsPutAsideAndOldOnesGo() throws {
    let folder = TemporaryFolder()
    let path = folder.path("plugin.log")
    for name in ["plugin-other.log", "plugin-2020-01-01T00-00-00.000.log.gz", "plugin-2020-01-01T00-00-00.0000.log"] {
      try folder.write(name)
    }
    var rotation = LogRotation()
    rotation.bytes = 100
    rotation.backups = 3
    let line = Array((String(repeating: "x", count: 120) + "\n").utf8)
    // The writer checks the file each second, and finds it too large each time.
    let start: Int64 = 1_795_405_542_000
    let writer = LineWriter(.file(path: path), rotation: rotation)
    for second in 0..<8 { writer.write(line, at: UTCTime(milliseconds: start + Int64(second) * 1_000)) }
    #expect(LogRotation.backups(of: path).count == 3)
    #expect(LogRotation.backups(of: path).first == folder.path + "/plugin-2026-11-23T03-45-49.000.log")
    let kept = Set(try FileManager.default.contentsOfDirectory(atPath: folder.path))
    // The backup that is older than 30 days is gone; files that are not backups stay.
    #expect(kept.isSuperset(of: ["plugin.log", "plugin-other.log", "plugin-2020-01-01T00-00-00.0000.log"]))
    #expect(!kept.contains("plugin-2020-01-01T00-00-00.000.log.gz"))
    #expect(kept.count == 6)
  }

  @Test func manyWritersLoseNothing() async throws {
    let folder = TemporaryFolder()
    let path = folder.path("plugin.log")
    var rotation = LogRotation()
    rotation.bytes = 40_000
    rotation.backups = 1_000
    // Each round has a descriptor of its own, so that it acts on the file like a process of its own.
    try await withThrowingTaskGroup(of: Void.self) { group in
      for writer in 0..<8 {
        group.addTask { [rotation] in
          try await onThread {
            for round in 0..<100 {
              let writerOfRound = LineWriter(.file(path: path), rotation: rotation)
              for line in 0..<5 {
                let text = "\(writer)-\(round)-\(line) " + String(repeating: "x", count: 80) + "\n"
                writerOfRound.write(Array(text.utf8))
              }
            }
          }
        }
      }
      try await group.waitForAll()
    }
    let files = [path] + LogRotation.backups(of: path)
    #expect(files.count > 1)
    let all = try files.flatMap { try String(contentsOfFile: $0, encoding: .utf8).split(separator: "\n") }
    #expect(all.count == 4_000)
    #expect(Set(all).count == 4_000)
    #expect(all.allSatisfy { $0.hasSuffix("xxxx") })
  }

  @Test func aFileThatCannotBeOpenedIsNoFailure() {
    let writer = LineWriter(.file(path: "/proc/none/plugin.log"))
    writer.write(Array("lost\n".utf8))
  }

  @Test func whatIsNoFileDoesNotHoldAnybodyUp() throws {
    let folder = TemporaryFolder()
    let path = folder.path("fifo")
    try #require(mkfifo(path, 0o600) == 0)
    LineWriter(.file(path: path)).write(Array("nobody reads\n".utf8))
    LineWriter(.file(path: folder.path)).write(Array("a folder\n".utf8))
  }
}
