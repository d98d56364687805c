// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VPCModel

@testable import AgentMode

/// How often status requests make the agent look at the node.
@Suite struct KernelLookTests {
  /// Looks that wait until they are released, and a clock that stands still.
  final class Rig: Sendable {
    let looks = Mutex(0)
    let ahead = Mutex(Duration.zero)
    let gate = AsyncStream<Void>.makeStream()
    let start = ContinuousClock.now

    func look() -> KernelLook {
      KernelLook(now: { self.start + self.ahead.withLock { $0 } }) {
        let number = self.looks.withLock { looks in
          looks += 1
          return looks
        }
        for await _ in self.gate.stream { break }
        var kernel = AgentStatus.Kernel()
        kernel.repairs = number
        return kernel
      }
    }
  }

  @Test(.timeLimit(.minutes(1))) func manyWhoAskAtOnceShareOneLook() async {
    let rig = Rig()
    let look = rig.look()
    await withTaskGroup(of: Int.self) { group in
      for _ in 0..<50 { group.addTask { await look.status().repairs } }
      rig.gate.continuation.yield()
      for await seen in group { #expect(seen == 1) }
    }
    #expect(rig.looks.withLock { $0 } == 1)
  }

  @Test(.timeLimit(.minutes(1))) func anAnswerHoldsForASecond() async {
    let rig = Rig()
    let look = rig.look()
    rig.gate.continuation.yield()
    #expect(await look.status().repairs == 1)
    rig.ahead.withLock { $0 = .milliseconds(999) }
    #expect(await look.status().repairs == 1)
    rig.ahead.withLock { $0 = .milliseconds(1000) }
    rig.gate.continuation.yield()
    #expect(await look.status().repairs == 2)
  }
}
