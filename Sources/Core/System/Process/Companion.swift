// SPDX-License-Identifier: Apache-2.0
// sigset_t counts as CProcess's, whose header includes signal.h too.
internal import CProcess
internal import Glibc

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
    let text = words.joined(separator: " ")
    guard !words.contains(where: { $0.utf8.contains(0) }) else {
      throw CommandError(.notStarted, text, errno: EINVAL)
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // The child does not inherit blocked and ignored signals.
    var none = sigset_t()
    var all = sigset_t()
    sigemptyset(&none)
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    // SAFETY: the copies live until posix_spawn has returned, which is when the child has executed the program.
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for pointer in arguments { free(pointer) } }
    var process: pid_t = 0
    let code = posix_spawn(&process, file, nil, &attributes, &arguments, environ)
    guard code == 0 else { throw CommandError(.notStarted, text, errno: code) }
    return Companion(process: process)
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
