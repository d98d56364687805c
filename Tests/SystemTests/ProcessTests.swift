// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import TestSupport
import VPCModel
import VPCSystem

/// Runs programs with posix_spawn. Needs real programs, but not root.
@Suite struct ProcessTests {
  let runner = SpawnedCommand()

  @Test(arguments: [
    ("exit 0", CommandOutcome.Ending.exited(status: 0)), ("exit 7", .exited(status: 7)),
    ("kill -9 $$", .signalled(9)),
  ])
  func howItEndedIsAResult(_ script: String, _ ending: CommandOutcome.Ending) throws {
    #expect(try runner.run(Command("sh", ["-c", script])).ending == ending)
  }

  @Test func bothOutputsAreReadWhileInputIsWritten() throws {
    let input = [UInt8](repeating: 0x61, count: 3_000_000)
    let command = Command("sh", ["-c", "tee /dev/stderr"], input: input)
    let outcome = try runner.run(command)
    #expect(outcome.succeeded)
    #expect(outcome.output == input)
    #expect(outcome.errors == input)
  }

  @Test func inputThatNobodyReadsIsNoError() throws {
    let outcome = try runner.run(Command("true", input: [UInt8](repeating: 1, count: 1_000_000)))
    #expect(outcome.succeeded)
  }

  @Test(arguments: ["sleep 60", "trap '' TERM; sleep 60 & wait; sleep 60", "exec >&- 2>&-; sleep 60"])
  func theDeadlineEndsTheGroup(_ script: String) throws {
    let started = ContinuousClock.now
    let marker = UInt32.random(in: 1_000_000...9_999_999)
    let command = Command("sh", ["-c", script, "vpc-cni-test-\(marker)"], deadline: .milliseconds(200))
    let error = #expect(throws: CommandError.self) { try runner.run(command) }
    #expect(error?.code == .timedOut)
    #expect(error?.isTransient == true)
    #expect(ContinuousClock.now - started < .seconds(20))
    #expect(try runner.run(Command("pgrep", ["-f", "vpc-cni-test-\(marker)"])).outputText == "")
  }

  @Test func aGrandchildThatKeepsTheOutputIsNotWaitedFor() throws {
    let started = ContinuousClock.now
    let outcome = try runner.run(Command("sh", ["-c", "echo here; (sleep 30; true) & exit 3"]))
    #expect(outcome.ending == .exited(status: 3))
    #expect(outcome.outputText == "here\n")
    #expect(ContinuousClock.now - started < .seconds(20))
  }

  @Test func tooMuchOutputEndsIt() throws {
    let error = #expect(throws: CommandError.self) {
      try runner.run(Command("cat", ["/dev/zero"], outputLimit: 100_000))
    }
    #expect(error?.code == .tooMuchOutput)
  }

  @Test func nothingIsInherited() throws {
    let leak = open("/dev/null", O_RDONLY)
    defer { close(leak) }
    #expect(leak > 2)
    let outcome = try runner.run(Command("sh", ["-c", "ls /proc/$$/fd; env"]))
    let lines = outcome.outputText.split(separator: "\n")
    #expect(lines.prefix(3) == ["0", "1", "2"])
    #expect(!lines.contains { $0 == "\(leak)" && leak > 2 && lines.firstIndex(of: $0)! < 3 })
    #expect(lines.contains("LC_ALL=C"))
    #expect(!lines.contains { $0.hasPrefix("HOME=") })
    let blocked = try runner.run(Command("grep", ["SigBlk", "/proc/self/status"])).outputText
    #expect(blocked.hasSuffix("\t0000000000000000\n"))
  }

  @Test func whatCannotBeStartedIsAnError() throws {
    #expect(throws: CommandError(.notFound, "no-such-program x")) { try runner.run(Command("no-such-program", ["x"])) }
    #expect(throws: CommandError(.notFound, "../bin/true")) { try runner.run(Command("../bin/true")) }
    #expect(throws: CommandError(.notStarted, "true a\0b", errno: EINVAL)) { try runner.run(Command("true", ["a\0b"])) }
    #expect(SpawnedCommand(path: ["/nowhere", "/bin"]).locate("sh") == "/bin/sh")
    let directory = #expect(throws: CommandError.self) { try runner.run(Command("/tmp")) }
    #expect(directory?.errno == EACCES)
  }
}
