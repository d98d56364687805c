// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCModel

/// A child program that runs alongside this one: same environment, same standard streams, stopped by a signal from its
/// parent.
///
/// `SpawnedCommand` waits for its program; a companion's exit is reported by SIGCHLD and `reap()`.
package struct Companion: Sendable {
  package let process: Int32

  /// - Parameters:
  ///   - file: the program's absolute path.
  ///   - words: its arguments; the first is its name.
  /// - Throws: `CommandError` `.notStarted`.
  package static func start(_ file: String, _ words: [String]) throws(CommandError) -> Companion {
    do throws(SystemCallError) {
      return Companion(process: try ProcessStart(file, words: words).run())
    } catch {
      throw CommandError(.notStarted, words.joined(separator: " "), errno: error.errno)
    }
  }

  /// Sends a signal; an already exited child is no error.
  package func signal(_ number: Int32) { _ = kill(process, number) }

  /// Reaps every exited child, without blocking: this one, and as PID 1 also orphans.
  ///
  /// - Returns: how this one exited; nil while it runs.
  package func reap() -> CommandOutcome.Ending? {
    var ending: CommandOutcome.Ending?
    while true {
      var state: Int32 = 0
      let found = waitpid(-1, &state, WNOHANG)
      if found < 0 && errno == EINTR { continue }
      guard found > 0 else { return ending }
      if found == process { ending = SpawnedChild.ending(state) }
    }
  }
}
