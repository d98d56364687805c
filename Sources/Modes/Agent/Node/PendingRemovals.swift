// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCModel

/// Removals that go on behind DEL's answer, by the pod's address.
///
/// An address may be given out again while the host's side of its last pod is still being removed: with no cooldown, and
/// a kernel that is slow with links. What the new pod's ADD makes then looks like the old pod's where the name is the
/// same, and the removal would take it along. So an ADD waits for the removal of its address, and for no other.
final class PendingRemovals: Sendable {
  private struct State {
    var latest: UInt64 = 0
    /// With the number of the removal, by which its own end knows it.
    var byAddress: [IPAddress: (number: UInt64, task: Task<Void, Never>)] = [:]
  }

  private let state = Mutex(State())

  /// Starts `work` and returns at once. Its end forgets it; what was started before for the same address ends first.
  func start(_ address: IPAddress, _ work: @escaping @Sendable () async -> Void) {
    state.withLock { state in
      state.latest += 1
      let (number, before) = (state.latest, state.byAddress[address]?.task)
      let task = Task {
        if let before { await before.value }
        await work()
        self.forget(number)
      }
      state.byAddress[address] = (number, task)
    }
  }

  /// Returns when nothing is being removed for the address, at once as a rule.
  func settled(_ address: IPAddress) async {
    let removal = state.withLock { $0.byAddress[address]?.task }
    if let removal { await removal.value }
  }

  /// By its number alone, of the few that go on: the debug build of Swift 6.3 crashes in a task that holds a value of an
  /// address's alignment (16 bytes) beside a closure that it waits for.
  private func forget(_ number: UInt64) {
    state.withLock { state in
      if let address = state.byAddress.first(where: { $0.value.number == number })?.key {
        state.byAddress[address] = nil
      }
    }
  }
}
