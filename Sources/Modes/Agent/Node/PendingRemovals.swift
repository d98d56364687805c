// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCModel

/// Removals that continue after DEL is answered, by the pod's address.
///
/// An address may be assigned again while the host side of its last pod is still being removed: without a cooldown, and
/// with a kernel that is slow with links. If the pod name is the same, the new pod's veth looks like the old one and
/// the removal would delete it. So an ADD waits for the removal of its address, and for no other.
final class PendingRemovals: Sendable {
  private struct State {
    var latest: UInt64 = 0
    /// With the number of the removal, by which its end identifies it.
    var byAddress: [IPAddress: (number: UInt64, task: Task<Void, Never>)] = [:]
  }

  private let state = Mutex(State())

  /// Starts `work` and returns at once. Earlier work for the same address ends first.
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

  /// Returns when no removal for the address is in progress, usually at once.
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
