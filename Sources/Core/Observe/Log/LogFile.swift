// SPDX-License-Identifier: Apache-2.0
//
// What a log file's descriptor says to the other processes that write, put aside and compress the same file:
//
//   a writer      holds LOCK_SH on the file for as long as it has it open
//   who rotates   holds LOCK_EX on the folder, while it renames
//   who compresses  holds LOCK_EX on what was put aside: got only once the last writer has let go of it
//
// None of them ever waits for a lock. A lock goes with its process.

import Glibc

/// A log file that is open, as flock(2) and the file system show it.
enum LogFile {
  /// Opens the file to append to, and makes it if it is missing; a missing folder is made too, one level of it.
  ///
  /// - Parameter sparesStdout: what is the same as standard output is closed again. Regular files are not compared with it,
  ///   which would cost each pod's start a system call: a runtime reads the result from a pipe.
  /// - Returns: a descriptor with a shared lock, or -1 with `errno` set.
  static func open(_ path: String, sparesStdout: Bool = false) -> Int32 {

    // What is opened between its rename and its compression is let go again: a few rounds are more than ever happen.
    for _ in 0..<16 {
      // O_NONBLOCK: a FIFO without a reader must hold nobody up.
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
      // Without locks in the file system it is as good as before them.
      if !isRefused, leads(path, to: descriptor) { return descriptor }
      close(descriptor)
    }
    errno = EAGAIN
    return -1
  }

  /// The error's number where a path leads to standard output: none that opening a file gives.
  static let leadsToStdout = EDOTDOT

  private static func isSame(_ one: Int32, _ other: Int32) -> Bool {
    var (here, there) = (stat(), stat())
    return fstat(one, &here) == 0 && fstat(other, &there) == 0 && here.st_ino == there.st_ino
      && here.st_dev == there.st_dev
  }

  /// Lets go of the lock, then of the file: a program that is just being started has a copy of every descriptor until it
  /// is executed, and with the copy it would keep the lock.
  static func close(_ descriptor: Int32) {
    flock(descriptor, LOCK_UN)
    Glibc.close(descriptor)
  }

  /// Whether the path is still the name of what is open.
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

  /// Runs `body` with the folder locked against every other rotation; not at all where one is under way.
  static func whileRotating(in folder: String, _ body: () -> Void) {
    let descriptor = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { body() }
  }

  /// Writes all of the bytes; a short write (a full disk, say) is gone on with.
  ///
  /// - Returns: 0, or the error's number.
  static func append(_ line: [UInt8], to descriptor: Int32) -> Int32 {
    var sent = 0
    while sent < line.count {
      // SAFETY: the pointer lives for the call, which reads `line.count - sent` bytes from `sent` on.
      let count = line.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress?.advanced(by: sent), $0.count - sent)
      }
      if count > 0 { sent += count } else if count == 0 { return EIO } else if errno != EINTR { return errno }
    }
    return 0
  }
}
