// SPDX-License-Identifier: Apache-2.0

import Glibc
import VPCSystem

/// Compresses rotated logs, by `gzip` in a separate process. Only for the agent: the plugin's process never does it.
///
/// A file is compressed once, by the holder of its exclusive lock, and only when no writer has it open. The child
/// inherits the lock, so that another agent cannot start while an orphan is still working. The result gets its final
/// name when it is complete.
package struct LogCompression: Sendable {
  /// The result of one round.
  package struct Outcome: Sendable, Hashable {
    /// Files that are compressed now.
    package var compressed = 0
    /// Why one of them failed; files still open for writing do not count.
    package var problem: String?
  }

  /// Nil if the system has none: backups then stay uncompressed.
  private let gzip: String?
  /// 100 MiB take seconds.
  private static let limit = Duration.seconds(600)

  package init(gzip: String? = LogCompression.installed) { self.gzip = gzip }

  /// The path of gzip on this system.
  package static let installed: String? = (["/usr/bin/gzip", "/bin/gzip"] as [String]).first { access($0, X_OK) == 0 }

  /// Compresses every backup of a log file that has no writers, one after the other. Waits without blocking a thread.
  /// On cancellation it kills the child and leaves the backup unchanged.
  package func compressBackups(of path: String) async -> Outcome {
    var outcome = Outcome()
    LogRotation.removePartials(of: path)
    for backup in LogRotation.backups(of: path) where !backup.hasSuffix(".gz") && !Task.isCancelled {
      guard let gzip else {
        outcome.problem = "no gzip on this system; rotated logs stay uncompressed"
        break
      }
      switch await compress(backup, with: gzip) {
      case .done: outcome.compressed += 1
      case .busy: break
      case .failed(let why): outcome.problem = "compress \(backup): \(why)"
      }
    }
    return outcome
  }

  private enum Step { case done, busy, failed(String) }

  private func compress(_ backup: String, with gzip: String) async -> Step {
    let input = open(backup, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    // Deleted in between.
    guard input >= 0 else { return errno == ENOENT ? .busy : .failed(SystemErrorText.text(errno)) }
    defer { LogFile.close(input) }
    guard flock(input, LOCK_EX | LOCK_NB) == 0, LogFile.leads(backup, to: input) else { return .busy }
    let partial = backup + LogRotation.partialSuffix
    let output = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard output >= 0 else { return .failed(SystemErrorText.text(errno)) }
    defer { close(output) }
    let status = await run(gzip, input: input, output: output)
    guard status == 0, LogFile.size(output) > 0, LogFile.leads(backup, to: input) else {
      unlink(partial)
      if status == nil { return .failed("gzip could not be started, or was ended") }
      return status == 0 ? .busy : .failed("gzip ended with status \(status ?? 0)")
    }
    guard rename(partial, backup + ".gz") == 0 else { return .failed(SystemErrorText.text(errno)) }
    unlink(backup)
    return .done
  }

  /// The exit status; nil if the program did not start, was killed, or took too long.
  private func run(_ gzip: String, input: Int32, output: Int32) async -> Int32? {
    var program = ProcessStart(gzip, words: [gzip, "-c"])
    program.environment = []
    program.streams = [input, output]
    guard let child = try? program.run() else { return nil }
    // At the lowest priority.
    setpriority(__priority_which_t(PRIO_PROCESS.rawValue), id_t(child), 10)
    let deadline = ContinuousClock.now.advanced(by: Self.limit)
    var status: Int32 = 0
    while true {
      let ended = waitpid(child, &status, WNOHANG)
      if ended == child { return status & 0x7f == 0 ? status >> 8 & 0xff : nil }
      if ended < 0, errno != EINTR { return nil }
      do {
        guard ContinuousClock.now < deadline else { throw CancellationError() }
        try await Task.sleep(for: .milliseconds(50))
      } catch {
        kill(child, SIGKILL)
        while waitpid(child, &status, 0) < 0 { guard errno == EINTR else { break } }
        return nil
      }
    }
  }
}
