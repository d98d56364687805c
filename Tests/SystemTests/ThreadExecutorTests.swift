// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing
import VPCSystem

private actor Worker {
  private let executor: ThreadExecutor
  private(set) var order: [Int] = []

  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  init() throws { executor = try ThreadExecutor(name: "kernel") }

  func thread() -> UInt { UInt(pthread_self()) }

  func name() throws -> String {
    var bytes = [UInt8](repeating: 0, count: 64)
    let file = open("/proc/thread-self/comm", O_RDONLY)
    defer { close(file) }
    return String(decoding: bytes[..<max(0, read(file, &bytes, bytes.count) - 1)], as: UTF8.self)
  }

  func append(_ number: Int) { order.append(number) }

  nonisolated func appendIsolated(_ number: Int) { assumeIsolated { $0.order.append(number) } }

  func check(_ number: Int) { appendIsolated(number) }
}

struct ThreadExecutorTests {
  @Test func allJobsRunOnOneThreadOfItsOwn() async throws {
    let worker = try Worker()
    #expect(try await worker.name() == "kernel")
    let threads = await withTaskGroup(of: UInt.self, returning: Set<UInt>.self) { group in
      for _ in 0..<200 { group.addTask { await worker.thread() } }
      return await group.reduce(into: []) { $0.insert($1) }
    }
    #expect(threads.count == 1 && threads != [UInt(pthread_self())])
  }

  @Test func jobsOfOneTaskKeepTheirOrder() async throws {
    let worker = try Worker()
    for number in 0..<100 { await worker.append(number) }
    await worker.check(100)
    #expect(await worker.order == Array(0...100))
  }

  @Test func theThreadEndsWithItsLastActor() async throws {
    let before = threadCount()
    for _ in 0..<50 {
      let worker = try Worker()
      await worker.append(1)
    }
    // Other tests run at the same time and have threads of their own, but fewer than fifty.
    let deadline = ContinuousClock.now + .seconds(60)
    while threadCount() >= before + 40, ContinuousClock.now < deadline { await Task.yield() }
    #expect(threadCount() < before + 40)
  }

  private func threadCount() -> Int {
    var bytes = [UInt8](repeating: 0, count: 4096)
    let file = open("/proc/self/status", O_RDONLY)
    defer { close(file) }
    let text = String(decoding: bytes[..<max(0, read(file, &bytes, bytes.count))], as: UTF8.self)
    let line = text.split(separator: "\n").first { $0.hasPrefix("Threads:") }
    return line?.split(separator: "\t").last.flatMap { Int($0) } ?? 0
  }
}
