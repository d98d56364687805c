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
/// Rotation: whoever finds the file too large takes a lock on it (flock(2), without waiting: who does not get it goes on
/// writing), looks whether the path still leads to it, renames it and removes what is too old. Other processes keep
/// writing into the renamed file until they look again, which they do every second; nothing is lost. Only the agent
/// compresses (`LogCompression`): the plugin's process does nothing but rename.
package final class LineWriter: Sendable {
  private struct State {
    var descriptor: Int32 = -1
    var checked = UTCTime(milliseconds: 0)
    var hasComplained = false
  }

  private let destination: LogDestination
  private let rotation: LogRotation
  private let state = Mutex(State())

  package init(_ destination: LogDestination, rotation: LogRotation = LogRotation()) {
    self.destination = destination
    self.rotation = rotation
  }

  deinit {
    let descriptor = state.withLock { $0.descriptor }
    if descriptor > STDERR_FILENO { close(descriptor) }
  }

  /// Writes one line, its newline included. What cannot be written to its file goes to standard error when it is urgent,
  /// and is dropped otherwise: a full disk must not keep a pod from starting.
  package func write(_ line: [UInt8], at time: UTCTime = LineWriter.now(), isUrgent: Bool = false) {
    state.withLock { state in
      switch destination {
      case .stdout: state.descriptor = STDOUT_FILENO
      case .stderr: state.descriptor = STDERR_FILENO
      case .refused: return
      case .file(let path): prepare(path, at: time, &state)
      }
      if state.descriptor >= 0, Self.append(line, to: state.descriptor) { return }
      if case .file(let path) = destination, !state.hasComplained {
        state.hasComplained = true
        let reason = String(cString: strerror(errno))
        _ = Self.append(Array("cannot write the log file \(path): \(reason)\n".utf8), to: STDERR_FILENO)
      }
      if isUrgent { _ = Self.append(line, to: STDERR_FILENO) }
    }
  }

  /// The machine's clock to the millisecond, CLOCK_REALTIME.
  package static func now() -> UTCTime {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UTCTime(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
  }

  /// Opens the file, or another when the path leads elsewhere by now, and rotates it when it is too large.
  private func prepare(_ path: String, at time: UTCTime, _ state: inout State) {
    // Once a second: two system calls, for a rotation by another process or by logrotate.
    guard state.descriptor < 0 || abs(time.milliseconds - state.checked.milliseconds) >= 1_000 else { return }
    state.checked = time
    if state.descriptor >= 0, !Self.leads(path, to: state.descriptor) {
      close(state.descriptor)
      state.descriptor = -1
    }
    if state.descriptor < 0 { state.descriptor = Self.open(path) }
    guard state.descriptor >= 0, Self.size(state.descriptor) >= rotation.bytes else { return }
    guard flock(state.descriptor, LOCK_EX | LOCK_NB) == 0 else { return }
    // Looked at again under the lock: another process may have put it aside in between, and the new file is not ours to
    // rename. The lock goes with the descriptor.
    if Self.leads(path, to: state.descriptor), rename(path, rotation.backupPath(of: path, at: time)) == 0 {
      rotation.prune(path, now: time)
    }
    close(state.descriptor)
    state.descriptor = Self.open(path)
  }

  private static func open(_ path: String) -> Int32 {
    let flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC
    let descriptor = Glibc.open(path, flags, 0o600)
    guard descriptor < 0, errno == ENOENT, let slash = path.lastIndex(of: "/") else { return descriptor }
    // The folder is the installer's to make; one missing level is made here, as the reference's library does.
    mkdir(String(path[..<slash]), 0o755)
    return Glibc.open(path, flags, 0o600)
  }

  private static func leads(_ path: String, to descriptor: Int32) -> Bool {
    var here = stat()
    var there = stat()
    return fstat(descriptor, &here) == 0 && stat(path, &there) == 0 && here.st_ino == there.st_ino
      && here.st_dev == there.st_dev
  }

  private static func size(_ descriptor: Int32) -> Int64 {
    var info = stat()
    return fstat(descriptor, &info) == 0 && info.st_mode & S_IFMT == S_IFREG ? Int64(info.st_size) : 0
  }

  private static func append(_ line: [UInt8], to descriptor: Int32) -> Bool {
    var sent = 0
    while sent < line.count {
      // SAFETY: the pointer lives for the call, which reads `line.count - sent` bytes from `sent` on.
      let count = line.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress?.advanced(by: sent), $0.count - sent)
      }
      // A short write (a full disk) is gone on with: a second write then ends the line.
      if count > 0 { sent += count } else if errno != EINTR { return false }
    }
    return true
  }
}
