// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCSystem

@Suite struct CommandCaptureTests {
  static func shell(_ script: String, deadline: Duration = .seconds(30), limit: Int = 1 << 20) -> Command {
    Command("sh", ["-c", script], deadline: deadline, outputLimit: limit)
  }

  @Test func whatWasWrittenBeforeTheDeadlineIsKept() {
    let capture = SpawnedCommand().capture(Self.shell("echo first; exec sleep 100", deadline: .seconds(3)))
    #expect(capture.ending == .timedOut)
    #expect(String(decoding: capture.output, as: UTF8.self) == "first\n")
  }

  @Test func ofTooMuchTheEndIsKept() {
    let capture = SpawnedCommand().capture(
      Self.shell("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done", limit: 1000))
    #expect(capture.ending == .exited(status: 0) && capture.output.count == 1000 && capture.dropped > 40_000)
    #expect(String(decoding: capture.output, as: UTF8.self).hasSuffix("line 4998\nline 4999\n"))
  }

  @Test func aFailureKeepsItsWords() {
    let capture = SpawnedCommand().capture(Self.shell("echo out; echo why >&2; exit 3"))
    #expect(capture.ending == .exited(status: 3) && capture.output == Array("out\n".utf8))
    #expect(capture.errors == Array("why\n".utf8))
    #expect(SpawnedCommand().capture(Command("no-such-program")).ending == .notFound)
    #expect(SpawnedCommand().capture(Self.shell("kill -9 $$")).ending == .signalled(9))
  }

  @Test func anInterruptionEndsAllThatWait() throws {
    let interruption = try Interruption()
    #expect(!interruption.isRaised)
    let waiting = try (0..<4).map { _ in
      try BackgroundResult.ofThread {
        SpawnedCommand().capture(Self.shell("sleep 100 & sleep 100"), interruption: interruption).ending
      }
    }
    interruption.raise()
    for each in waiting { #expect(each.wait(within: .seconds(20)) == .interrupted) }
    // The interruption stays raised.
    #expect(SpawnedCommand().capture(Self.shell("sleep 100"), interruption: interruption).ending == .interrupted)
  }

  /// Processes that a program leaves behind in its group end with it.
  @Test func nothingOfTheGroupIsLeft() {
    let capture = SpawnedCommand().capture(Self.shell("sleep 100 >/dev/null 2>&1 & echo $!"))
    let process = String(decoding: capture.output, as: UTF8.self).split(separator: "\n").first.map(String.init) ?? ""
    let end = ContinuousClock.now.advanced(by: .seconds(10))
    func isThere() -> Bool {
      // A zombie that nobody has waited for yet has ended as well.
      let status = SpawnedCommand().capture(Self.shell("grep State /proc/\(process)/status"))
      return status.ending == .exited(status: 0) && !String(decoding: status.output, as: UTF8.self).contains("Z")
    }
    while isThere(), ContinuousClock.now < end {}
    #expect(!process.isEmpty && !isThere())
  }
}
