// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VPCSystem

/// Installs programs into a folder from which others run them: atomically, and without disturbing running processes.
package enum FileInstallation {
  package enum Outcome: Sendable, Hashable {
    case installed
    /// The same content with the same mode was already there.
    case alreadySo
  }

  /// Copies `source` over `target` by a temporary file beside it (`TARGET.tmpPID`), which is synced, given its mode and
  /// renamed. Processes that run the old program keep it.
  ///
  /// - Parameter mode: permission bits; nil is the source's.
  /// - Throws: `FileError`; the old file then stays and the temporary one is gone.
  @discardableResult
  package static func install(
    _ source: String, to target: String, mode: UInt32? = nil
  ) throws(FileError) -> Outcome {
    let from = open(source, O_RDONLY | O_CLOEXEC)
    guard from >= 0 else { throw FileError(verb: "open", path: source, errno: errno) }
    defer { close(from) }
    var status = stat()
    guard fstat(from, &status) == 0 else { throw FileError(verb: "stat", path: source, errno: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(verb: "install", path: source, reason: "not a regular file")
    }
    let bits = mode.map { mode_t($0) } ?? (status.st_mode & 0o777)
    AtomicFile.removeLeftovers(of: target)
    if try isSame(from, status, as: target, mode: bits) { return .alreadySo }

    try replace(target, mode: bits) { (to, temporary) throws(FileError) in
      try copy(from, to, source: source, target: temporary)
    }
    return .installed
  }

  /// The same for a generated text.
  ///
  /// - Throws: `FileError`; the old file then stays and the temporary one is gone.
  @discardableResult
  package static func install(
    content: [UInt8], to target: String, mode: UInt32
  ) throws(FileError) -> Outcome {
    AtomicFile.removeLeftovers(of: target)
    var there = stat()
    // A hard link is replaced too: a later write into it would change its other name.
    if lstat(target, &there) == 0, there.st_mode & S_IFMT == S_IFREG, there.st_mode & 0o7777 == mode_t(mode),
      there.st_nlink == 1, there.st_size == content.count,
      (try? BoundedFile.read(target, limit: content.count)) == content
    {
      return .alreadySo
    }
    try replace(target, mode: mode_t(mode)) { (to, temporary) throws(FileError) in
      try AtomicFile.writeAll(content, to: to, path: temporary)
    }
    return .installed
  }

  /// Makes `target` a symbolic link, by a temporary one beside it, which is renamed. Any other file is replaced.
  ///
  /// - Parameter destination: as the link says it: a name in the same folder stays right when the folder is moved.
  /// - Throws: `FileError`; the old file then stays and the temporary link is gone.
  @discardableResult
  package static func link(_ target: String, to destination: String) throws(FileError) -> Outcome {
    AtomicFile.removeLeftovers(of: target)
    var text = [CChar](repeating: 0, count: Int(PATH_MAX))
    let length = readlink(target, &text, text.count)
    if length >= 0, text[..<length].map({ UInt8(bitPattern: $0) }).elementsEqual(destination.utf8) { return .alreadySo }
    let temporary = AtomicFile.temporary(for: target)
    unlink(temporary)
    guard symlink(destination, temporary) == 0 else { throw FileError(verb: "create", path: temporary, errno: errno) }
    guard rename(temporary, target) == 0 else {
      let code = errno
      unlink(temporary)
      throw FileError(verb: "rename", path: temporary, errno: code)
    }
    try AtomicFile.syncDirectory(of: target)
    return .installed
  }

  /// Has a temporary file written beside `target`, syncs it, gives it its mode and renames it.
  private static func replace(
    _ target: String, mode bits: mode_t, by write: (Int32, String) throws(FileError) -> Void
  ) throws(FileError) {
    let temporary = AtomicFile.temporary(for: target)
    // A leftover of a crashed process of the same number is replaced, not followed if it is a link.
    unlink(temporary)
    let to = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard to >= 0 else { throw FileError(verb: "create", path: temporary, errno: errno) }
    do throws(FileError) {
      defer { close(to) }
      try write(to, temporary)
      guard fchmod(to, bits) == 0 else { throw FileError(verb: "chmod", path: temporary, errno: errno) }
      guard fsync(to) == 0 else { throw FileError(verb: "sync", path: temporary, errno: errno) }
    } catch {
      unlink(temporary)
      throw error
    }
    guard rename(temporary, target) == 0 else {
      let code = errno
      unlink(temporary)
      throw FileError(verb: "rename", path: temporary, errno: code)
    }
    try AtomicFile.syncDirectory(of: target)
  }

  /// Names of the regular files in a folder, sorted.
  ///
  /// - Throws: `FileError` if the folder cannot be read, or has more than 1,000 entries.
  package static func files(in folder: String) throws(FileError) -> [String] {
    guard var entries = FolderNames(folder) else { throw FileError(verb: "read", path: folder, errno: errno) }
    var names: [String] = []
    while let name = entries.next() {
      var status = stat()
      guard lstat("\(folder)/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
      names.append(name)
      guard names.count <= 1000 else { throw FileError(verb: "read", path: folder, reason: "more than 1000 files") }
    }
    return names.sorted()
  }

  /// Whether anything exists at the path, including a dangling link.
  package static func isThere(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  /// Large, because the kernel stores one write in few large pieces of memory, from which a program starts faster
  /// (docs/performance.md).
  private static let chunk = 2 << 20

  private static func isSame(
    _ from: Int32, _ wanted: stat, as target: String, mode: mode_t
  ) throws(FileError) -> Bool {
    let there = open(target, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard there >= 0 else { return false }
    defer { close(there) }
    var status = stat()
    guard fstat(there, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size == wanted.st_size,
      status.st_mode & 0o7777 == mode
    else { return false }
    // A file that cannot be read completely is replaced.
    while let ours = read(from), let theirs = read(there) {
      guard ours == theirs else { break }
      if ours.isEmpty { return true }
    }
    guard lseek(from, 0, SEEK_SET) == 0 else { throw FileError(verb: "read", path: target, errno: errno) }
    return false
  }

  /// Nil on an error; empty at the end.
  private static func read(_ descriptor: Int32) -> [UInt8]? {
    var failed = false
    let bytes = [UInt8](unsafeUninitializedCapacity: chunk) { buffer, count in
      while count < chunk {
        // SAFETY: the kernel writes at most what is left of the buffer, and `count` says how much it wrote.
        let got = Glibc.read(descriptor, buffer.baseAddress.map { $0 + count }, chunk - count)
        if got < 0 && errno == EINTR { continue }
        failed = got < 0
        guard got > 0 else { return }
        count += got
      }
    }
    return failed ? nil : bytes
  }

  private static func copy(_ from: Int32, _ to: Int32, source: String, target: String) throws(FileError) {
    while true {
      guard let bytes = read(from) else { throw FileError(verb: "read", path: source, errno: errno) }
      if bytes.isEmpty { return }
      try AtomicFile.writeAll(bytes, to: to, path: target)
    }
  }
}
