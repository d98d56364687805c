// SPDX-License-Identifier: Apache-2.0
// struct pollfd counts as CProcess's, whose header includes poll.h too.
internal import CProcess
internal import Glibc
internal import VPCModel

/// A child process, from its start until it has been waited for.
struct SpawnedChild {
  /// Also the number of its process group.
  let process: pid_t
  private(set) var ending: CommandOutcome.Ending?
  /// Readable once the child has exited; -1 on a kernel before 5.3, where the child is polled instead.
  private(set) var descriptor: Int32

  init(process: pid_t) {
    self.process = process
    descriptor = cprocess_open_process(process)
  }

  /// Releases the child's resources; its owner calls this once, at the end.
  mutating func forget() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
  }

  /// Checks whether the child has exited, without waiting.
  mutating func poll() {
    guard ending == nil else { return }
    var state: Int32 = 0
    let result = waitpid(process, &state, WNOHANG)
    if result == process { ending = SpawnedChild.ending(state) }
    // Another waiter has reaped the child (SIGCHLD ignored): its exit status is lost.
    if result < 0 && errno == ECHILD { ending = .exited(status: 255) }
  }

  /// Waits for the exit.
  mutating func wait(
    until deadline: ContinuousClock.Instant, _ command: String, interruption: Interruption? = nil
  ) throws(CommandError) -> CommandOutcome.Ending {
    while true {
      self.poll()
      if let ending { return ending }
      let left = ContinuousClock.now.duration(to: deadline)
      guard left > .zero else { throw CommandError(.timedOut, command) }
      var entries = [descriptor, interruption?.descriptor ?? -1].map {
        pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
      }
      _ = Glibc.poll(&entries, 2, descriptor >= 0 ? left.pollMilliseconds : 5)
      guard entries[1].revents == 0 else { throw CommandError(.interrupted, command) }
    }
  }

  /// Kills the child and its process group: SIGTERM, then SIGKILL half a second later. For an exited child, the rest of
  /// its group.
  mutating func end() {
    guard ending == nil else {
      kill(-process, SIGKILL)
      return
    }
    kill(-process, SIGTERM)
    if (try? wait(until: .now.advanced(by: .milliseconds(500)), "")) == nil {
      kill(-process, SIGKILL)
      // After SIGKILL only the kernel can delay it: after a minute in an uninterruptible call, init inherits it.
      _ = try? wait(until: .now.advanced(by: .seconds(60)), "")
    } else {
      // The child exited; its own children, if any, may not have.
      kill(-process, SIGKILL)
    }
  }

  /// wait(2): the low seven bits are the signal, the next byte the exit status.
  static func ending(_ state: Int32) -> CommandOutcome.Ending {
    let signal = state & 0x7f
    return signal == 0 ? .exited(status: (state >> 8) & 0xff) : .signalled(signal)
  }
}
