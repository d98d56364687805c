// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
package import VPCModel
import VPCSystem

/// Appends lines to a destination, from any thread and from many processes at once.
///
/// Each line is one write(2) to a file opened with O_APPEND, so lines of different processes never mix. The file is
/// opened with the first line; a process that logs nothing pays nothing. Nothing is synced: a log may lose its last
/// lines in a crash, but a pod's start must not wait for a disk.
///
/// Rotation: the process that finds the file too large renames it and removes old backups; one process at a time,
/// without waiting. Others keep writing into the renamed file until their next check, every second, and it is
/// compressed (`LogCompression`, only by the agent) only after the last of them has closed it: see `LogFile`.
package final class LineWriter: LineSink {
  /// The lines that go to standard error while the file cannot be written.
  package enum Fallback: Sendable {
    /// Urgent lines: for a program whose standard error is read only when it fails.
    case urgentLines
    case everyLine
  }

  private struct State {
    var descriptor: Int32 = -1
    var checked = UTCTime(milliseconds: 0)
    var hasComplained = false
  }

  private let destination: LogDestination
  private let rotation: LogRotation
  private let fallback: Fallback
  /// Standard output must not be written to, even if the file leads there.
  private let sparesStdout: Bool
  private let state = Mutex(State())

  /// - Parameter sparesStdout: for a process whose standard output carries its result: a path that leads there (a link to
  ///   `/dev/stdout`) is a file that cannot be written.
  package init(
    _ destination: LogDestination, rotation: LogRotation = LogRotation(), fallback: Fallback = .urgentLines,
    sparesStdout: Bool = false
  ) {
    self.destination = destination
    self.rotation = rotation
    self.fallback = fallback
    self.sparesStdout = sparesStdout
  }

  deinit {
    let descriptor = state.withLock { $0.descriptor }
    if descriptor > STDERR_FILENO { LogFile.close(descriptor) }
  }

  /// Writes one line, including its newline. If the file cannot be written, the line goes to standard error according
  /// to `fallback`, after one line with the cause, or is dropped: a full disk must not keep a pod from starting.
  package func write(_ line: [UInt8], isUrgent: Bool = false) { write(line, at: UTCTime.now, isUrgent: isUrgent) }

  /// The same for a line with that time, which names the rotated file.
  package func write(_ line: [UInt8], at time: UTCTime, isUrgent: Bool = false) {
    state.withLock { state in
      switch destination {
      case .stdout: WholeWrite.write(line, to: STDOUT_FILENO)
      case .stderr: WholeWrite.write(line, to: STDERR_FILENO)
      case .refused: break
      case .file(let path):
        let code = append(line, to: path, at: time, &state)
        if code == 0 {
          state.hasComplained = false
        } else {
          complain(code, path, &state)
          if isUrgent || fallback == .everyLine { WholeWrite.write(line, to: STDERR_FILENO) }
        }
      }
    }
  }

  /// - Returns: 0, or the number of the error that kept the line from its file.
  private func append(_ line: [UInt8], to path: String, at time: UTCTime, _ state: inout State) -> Int32 {
    prepare(path, at: time, &state)
    if state.descriptor < 0 {
      state.descriptor = LogFile.open(path, sparesStdout: sparesStdout)
      if state.descriptor < 0 { return errno }
    }
    return WholeWrite.write(line, to: state.descriptor)
  }

  private func complain(_ code: Int32, _ path: String, _ state: inout State) {
    guard !state.hasComplained else { return }
    state.hasComplained = true
    let why = code == LogFile.leadsToStdout ? "it is standard output" : SystemErrorText.text(code)
    let text = "cannot write the log file \(path): \(why); logging to standard error\n"
    WholeWrite.write(Array(text.utf8), to: STDERR_FILENO)
  }

  /// Closes a file that another process has rotated, and rotates it if it is too large. Once a second: two system
  /// calls, to notice a rotation by another process or by logrotate.
  private func prepare(_ path: String, at time: UTCTime, _ state: inout State) {
    guard state.descriptor < 0 || abs(time.milliseconds - state.checked.milliseconds) >= 1_000 else { return }
    state.checked = time
    if state.descriptor >= 0, !LogFile.leads(path, to: state.descriptor) {
      LogFile.close(state.descriptor)
      state.descriptor = -1
    }
    if state.descriptor < 0 { state.descriptor = LogFile.open(path, sparesStdout: sparesStdout) }
    let descriptor = state.descriptor
    guard descriptor >= 0, LogFile.size(descriptor) >= rotation.bytes else { return }
    LogFile.whileRotating(in: LogRotation.folder(of: path)) {
      // Checked again under the lock: another process may have rotated it in between, and the new file must not be
      // renamed.
      guard LogFile.leads(path, to: descriptor) else { return }
      if rename(path, rotation.freeBackupPath(of: path, at: time)) == 0 { rotation.prune(path, now: time) }
    }
    guard !LogFile.leads(path, to: descriptor) else { return }
    LogFile.close(descriptor)
    state.descriptor = -1
  }
}
