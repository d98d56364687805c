// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc
import Logging
import Synchronization
import TestSupport
import Testing
import VPCModel
import VPCSystem

@testable import VPCObserve

/// The agent's log, which a thread of its own writes.
@Suite struct LogThreadTests {
  /// A disk that accepts nothing until it is released.
  private final class SlowDisk: LineSink {
    private let lines = Mutex<[String]>([])
    private let gate = DispatchGate()
    /// A line has arrived.
    let isReached = Atomic<Bool>(false)
    var text: [String] { lines.withLock { $0 } }

    func write(_ line: [UInt8], at time: UTCTime, isUrgent: Bool) {
      isReached.store(true, ordering: .releasing)
      gate.pass()
      lines.withLock { $0.append(String(decoding: line, as: UTF8.self)) }
    }

    func letGo() { gate.open() }
  }

  private func line(_ number: Int) -> [UInt8] { Array("line \(number)\n".utf8) }

  @Test func everythingIsWrittenInOrder() throws {
    let folder = TemporaryFolder()
    let path = folder.path("ipamd.log")
    let log = try LogThread(LineWriter(.file(path: path)))
    let logger = Logger.jsonLines(label: "test", to: log, level: .debug)
    for number in 0..<2_000 { logger.info("\(number)") }
    #expect(log.flush(within: .seconds(60)))
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    let numbers = try lines.map { try #require((try foreignJSON($0) as? [String: Any])?["msg"] as? String) }
    #expect(numbers == (0..<2_000).map(String.init))
    #expect(log.dropped == 0)
  }

  @Test func aSlowDiskHoldsNobodyUpAndLossesAreTold() throws {
    let disk = SlowDisk()
    var limits = LogThread.Limits()
    limits.lines = 100
    let log = try LogThread(disk, limits: limits)
    // These calls would never return if they wrote a line themselves.
    for number in 0..<1_000 { log.write(line(number), at: UTCTime.now, isUrgent: false) }
    for number in 0..<1_000 { log.write(line(number), at: UTCTime.now, isUrgent: true) }
    #expect(!log.flush(within: .milliseconds(10)))
    #expect(log.dropped == 1_900, "a quarter of the room is for urgent lines")
    disk.letGo()
    #expect(log.flush(within: .seconds(60)))
    let text = disk.text
    #expect(text.count { $0.hasPrefix("line ") } == 100)
    #expect(text.prefix(75).elementsEqual((0..<75).map { "line \($0)\n" }))
    let losses = text.filter { !$0.hasPrefix("line ") }
    // One line, or two if the thread took its first lines before the last ones were lost.
    #expect((1...2).contains(losses.count))
    let told = try losses.map { try #require(try foreignJSON($0) as? [String: Any]) }
    #expect(told.allSatisfy { $0["level"] as? String == "warn" })
    #expect(told.compactMap { ($0["count"] as? String).flatMap(Int.init) }.reduce(0, +) == 1_900)
  }

  /// Losses are reported even if no later line follows.
  @Test func lossesBehindTheLastBatchAreTold() async throws {
    let disk = SlowDisk()
    var limits = LogThread.Limits()
    limits.lines = 1
    let log = try LogThread(disk, limits: limits)
    log.write(line(0), at: UTCTime.now, isUrgent: true)
    #expect(await eventually { disk.isReached.load(ordering: .acquiring) })
    for number in 1...10 { log.write(line(number), at: UTCTime.now, isUrgent: true) }
    disk.letGo()
    #expect(log.flush(within: .seconds(60)))
    try #require(disk.text.count == 2)
    #expect((try foreignJSON(disk.text[1]) as? [String: Any])?["count"] as? String == "10")
  }

  @Test func bytesAreBoundedToo() throws {
    let disk = SlowDisk()
    var limits = LogThread.Limits()
    limits.bytes = 10_000
    let log = try LogThread(disk, limits: limits)
    let long = Array(repeating: UInt8(ascii: "x"), count: 1_000)
    for _ in 0..<100 { log.write(long, at: UTCTime.now, isUrgent: true) }
    #expect(log.dropped == 90)
    disk.letGo()
    #expect(log.flush(within: .seconds(60)))
  }

  /// Lines that were passed before the owner releases the log are still written.
  @Test func anEndLosesNothing() async throws {
    let disk = SlowDisk()
    do {
      let log = try LogThread(disk)
      for number in 0..<50 { log.write(line(number), at: UTCTime.now, isUrgent: false) }
    }
    disk.letGo()
    #expect(await eventually { disk.text.count == 50 })
  }
}

/// Blocks threads until it is opened.
private final class DispatchGate: Sendable {
  private let read: Int32
  private let write: Int32

  init() {
    var ends: [Int32] = [-1, -1]
    pipe(&ends)
    (read, write) = (ends[0], ends[1])
  }

  deinit { Glibc.close(read) }

  func pass() {
    var entry = pollfd(fd: read, events: Int16(POLLIN), revents: 0)
    while poll(&entry, 1, -1) < 0 {}
  }

  /// From then on, the reading end reports that the writing end is closed.
  func open() { Glibc.close(write) }
}
