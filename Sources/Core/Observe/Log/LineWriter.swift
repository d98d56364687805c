// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
package import VPCModel

/// Appends lines to a destination, from any thread and from many processes at once.
///
/// Each line is one write(2) to a file opened with O_APPEND, so lines of different processes never mix. The file is
/// opened with the first line; a process that logs nothing pays nothing. Nothing is synced: a log may lose its last lines
/// with the machine, a pod's start may not wait for a disk.
///
/// Rotation: whoever finds the file too large renames it and removes what is too old; one process at a time, and nobody
/// waits for it. Others keep writing into the renamed file until they look again, which they do every second, and it is
/// compressed (`LogCompression`, by the agent alone) only after the last of them has let go of it: see `LogFile`.
package final class LineWriter: LineSink {
  /// What goes to standard error while the file cannot be written.
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
  /// Standard output is not to be written to, by whatever name the file leads there.
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

  /// Writes one line, its newline included. What cannot be written to its file goes to standard error as far as
  /// `fallback` says, after one line that names the cause, and is dropped otherwise: a full disk must not keep a pod from
  /// starting.
  package func write(_ line: [UInt8], isUrgent: Bool = false) { write(line, at: LineWriter.now(), isUrgent: isUrgent) }

  /// The same for a line of that time, by which the file is put aside.
  package func write(_ line: [UInt8], at time: UTCTime, isUrgent: Bool = false) {
    state.withLock { state in
      switch destination {
      case .stdout: _ = LogFile.append(line, to: STDOUT_FILENO)
      case .stderr: _ = LogFile.append(line, to: STDERR_FILENO)
      case .refused: break
      case .file(let path):
        let code = append(line, to: path, at: time, &state)
        if code == 0 {
          state.hasComplained = false
        } else {
          complain(code, path, &state)
          if isUrgent || fallback == .everyLine { _ = LogFile.append(line, to: STDERR_FILENO) }
        }
      }
    }
  }

  /// The machine's clock to the millisecond, CLOCK_REALTIME.
  package static func now() -> UTCTime {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UTCTime(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
  }

  /// - Returns: 0, or the number of the error that kept the line from its file.
  private func append(_ line: [UInt8], to path: String, at time: UTCTime, _ state: inout State) -> Int32 {
    prepare(path, at: time, &state)
    if state.descriptor < 0 {
      state.descriptor = LogFile.open(path, sparesStdout: sparesStdout)
      if state.descriptor < 0 { return errno }
    }
    return LogFile.append(line, to: state.descriptor)
  }

  private func complain(_ code: Int32, _ path: String, _ state: inout State) {
    guard !state.hasComplained else { return }
    state.hasComplained = true
    let why = code == LogFile.leadsToStdout ? "it is standard output" : String(cString: strerror(code))
    let text = "cannot write the log file \(path): \(why); logging to standard error\n"
    _ = LogFile.append(Array(text.utf8), to: STDERR_FILENO)
  }

  /// Lets go of a file that another has put aside, and puts it aside when it is too large. Once a second: two system
  /// calls, for a rotation by another process or by logrotate.
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
      // Looked at again under the lock: another process may have put it aside in between, and the new file is not ours
      // to rename.
      guard LogFile.leads(path, to: descriptor) else { return }
      if rename(path, rotation.freeBackupPath(of: path, at: time)) == 0 { rotation.prune(path, now: time) }
    }
    guard !LogFile.leads(path, to: descriptor) else { return }
    LogFile.close(descriptor)
    state.descriptor = -1
  }
}
