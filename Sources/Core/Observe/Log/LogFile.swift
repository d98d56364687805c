// SPDX-License-Identifier: Apache-2.0
//
// Locks on a log file's descriptor coordinate the processes that write, rotate and compress the same file:
//
//   writer        holds LOCK_SH on the file while it is open
//   rotation      holds LOCK_EX on the folder during the rename
//   compression   holds LOCK_EX on the backup: available only after the last writer has closed it
//
// No process waits for a lock. A lock ends with its process.

import Glibc

/// An open log file, with its flock(2) state.
enum LogFile {
  /// Opens the file for appending, and creates it if it is missing, with one level of a missing folder.
  ///
  /// - Parameter sparesStdout: a file that is the same as standard output is closed again. Regular files are not
  ///   compared with it, which would cost each pod's start a system call: a runtime reads the result from a pipe.
  /// - Returns: a descriptor with a shared lock, or -1 with `errno` set.
  static func open(_ path: String, sparesStdout: Bool = false) -> Int32 {

    // A file opened between its rename and its compression is closed again: a few rounds are more than enough.
    for _ in 0..<16 {
      // O_NONBLOCK: a FIFO without a reader must not block.
      let flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK
      var descriptor = Glibc.open(path, flags, 0o600)
      if descriptor < 0, errno == ENOENT, let slash = path.lastIndex(of: "/") {
        // The installer creates the folder; one missing level is created here, as the library of amazon-vpc-cni-k8s
        // does.
        mkdir(String(path[..<slash]), 0o755)
        descriptor = Glibc.open(path, flags, 0o600)
      }
      guard descriptor >= 0 else { return descriptor }
      guard isRegular(descriptor) else {
        guard sparesStdout, isSame(descriptor, STDOUT_FILENO) else { return descriptor }
        Glibc.close(descriptor)
        errno = leadsToStdout
        return -1
      }
      let isRefused = flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
      // A file system without locks still works, without coordination.
      if !isRefused, leads(path, to: descriptor) { return descriptor }
      close(descriptor)
    }
    errno = EAGAIN
    return -1
  }

  /// The error number for a path that leads to standard output: not one of open(2).
  static let leadsToStdout = EDOTDOT

  private static func isSame(_ one: Int32, _ other: Int32) -> Bool {
    var (here, there) = (stat(), stat())
    return fstat(one, &here) == 0 && fstat(other, &there) == 0 && here.st_ino == there.st_ino
      && here.st_dev == there.st_dev
  }

  /// Unlocks, then closes the file: a child between fork and exec has a copy of every descriptor, which would keep the
  /// lock.
  static func close(_ descriptor: Int32) {
    flock(descriptor, LOCK_UN)
    Glibc.close(descriptor)
  }

  /// Whether the path still names the open file.
  static func leads(_ path: String, to descriptor: Int32) -> Bool {
    var here = stat()
    var there = stat()
    return fstat(descriptor, &here) == 0 && stat(path, &there) == 0 && here.st_ino == there.st_ino
      && here.st_dev == there.st_dev
  }

  /// Bytes of a regular file; 0 of anything else.
  static func size(_ descriptor: Int32) -> Int64 {
    var info = stat()
    return fstat(descriptor, &info) == 0 && info.st_mode & S_IFMT == S_IFREG ? Int64(info.st_size) : 0
  }

  private static func isRegular(_ descriptor: Int32) -> Bool {
    var info = stat()
    return fstat(descriptor, &info) == 0 && info.st_mode & S_IFMT == S_IFREG
  }

  /// Runs `body` with the folder locked against other rotations; not at all if one is in progress.
  static func whileRotating(in folder: String, _ body: () -> Void) {
    let descriptor = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { body() }
  }
}
