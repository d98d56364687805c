// SPDX-License-Identifier: Apache-2.0
// struct timespec counts as CProcess's, whose headers include time.h too.
internal import CProcess
internal import Glibc

/// Replaces a file atomically: a crash at any moment leaves the old or the new content, never a part.
package enum AtomicFile {
  /// Writes `content` beside `path`, syncs it, renames it over `path` and syncs the directory.
  ///
  /// The directory must exist. A second call replaces the content again. On failure the temporary file is removed and
  /// the old content stays. If only the sync of the directory fails, the new content is in place, and a power cut may
  /// bring back the old.
  ///
  /// - Parameter mode: permission bits of a new file, before the umask.
  /// - Throws: `FileError` with the step that failed.
  package static func write(_ content: [UInt8], to path: String, mode: UInt32 = 0o644) throws(FileError) {
    let temporary = temporary(for: path)
    // A leftover of a crashed process of the same number is replaced, not followed if it is a link.
    unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)
    guard descriptor >= 0 else { throw FileError(verb: "create", path: temporary, errno: errno) }
    do throws(FileError) {
      defer { close(descriptor) }
      try writeAll(content, to: descriptor, path: temporary)
      guard fsync(descriptor) == 0 else { throw FileError(verb: "sync", path: temporary, errno: errno) }
      guard rename(temporary, path) == 0 else { throw FileError(verb: "rename", path: temporary, errno: errno) }
    } catch {
      unlink(temporary)
      throw error
    }
    try syncDirectory(of: path)
  }

  /// Removes leftovers of killed writers of `path`: temporary files not written for a minute.
  ///
  /// Best effort: files that cannot be removed stay. Checks at most the folder's first thousand names.
  ///
  /// - Parameter mode: for files too young to be removed: permission bits beyond these are cleared.
  package static func removeLeftovers(of path: String, tightening mode: UInt32 = 0o7777) {
    let folder = directory(of: path)
    let start = (path.split(separator: "/").last ?? "") + suffix
    guard var names = FolderNames(folder) else { return }
    for name in names.next(atMost: 1000) where name.hasPrefix(start) {
      let number = name.dropFirst(start.count)
      guard !number.isEmpty, number.allSatisfy({ $0.isASCII && $0.isNumber }) else { continue }
      let leftover = "\(folder)/\(name)"
      var status = stat()
      guard lstat(leftover, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
      if status.st_mtim.tv_sec + 60 < time(nil) { unlink(leftover) } else { tighten(leftover, to: mode) }
    }
  }

  /// Clears a file's permission bits beyond `mode`. A missing or non-regular file stays unchanged. Best effort.
  package static func tighten(_ path: String, to mode: UInt32) {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o7777 & ~mode != 0 else {
      return
    }
    chmod(path, status.st_mode & mode)
  }

  private static let suffix = ".tmp"

  /// The temporary file beside `path`: one per process.
  package static func temporary(for path: String) -> String { "\(path)\(suffix)\(getpid())" }

  private static func directory(of path: String) -> String {
    path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
  }

  package static func writeAll(_ content: [UInt8], to descriptor: Int32, path: String) throws(FileError) {
    let code = WholeWrite.write(content, to: descriptor)
    guard code == 0 else { throw FileError(verb: "write", path: path, errno: code) }
  }

  package static func syncDirectory(of path: String) throws(FileError) {
    let directory = directory(of: path)
    let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(verb: "open", path: directory, errno: errno) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw FileError(verb: "sync", path: directory, errno: errno) }
  }
}
