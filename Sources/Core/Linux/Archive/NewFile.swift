// SPDX-License-Identifier: Apache-2.0

internal import CProcess
internal import Glibc
package import VPCSystem

/// A file that is written under a temporary name and gets its final name at the end, or disappears without a trace. It
/// never replaces another file and never follows a symbolic link.
///
/// All operations use the folder's descriptor: replacing the folder meanwhile has no effect.
package struct NewFile: ~Copyable {
  package let folder: String
  /// The final name.
  package let name: String
  package let descriptor: Int32
  private let temporary: String
  private let place: Int32

  package var path: String { folder == "/" ? "/\(name)" : "\(folder)/\(name)" }

  /// Creates the file, readable only for its owner.
  ///
  /// - Parameters:
  ///   - folder: absolute; it must exist and not be a symbolic link.
  ///   - needed: bytes that the folder's file system must have free.
  /// - Throws: `FileError` with a remedy in its reason.
  package init(folder: String, name: String, needed: UInt64) throws(FileError) {
    let temporary = ".\(name).\(getpid())"
    let made = try NewFile.make(temporary, for: name, in: folder, needed: needed)
    self.folder = folder
    self.name = name
    self.temporary = temporary
    place = made.place
    descriptor = made.descriptor
  }

  private static func make(
    _ temporary: String, for name: String, in folder: String, needed: UInt64
  ) throws(FileError) -> (place: Int32, descriptor: Int32) {
    let place = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
    guard place >= 0 else {
      let code = errno
      var status = stat()
      if lstat(folder, &status) == 0, status.st_mode & S_IFMT == S_IFLNK {
        throw FileError(
          verb: "write into", path: folder, reason: "a symbolic link; name the folder that it leads to with --output")
      }
      throw FileError(verb: "write into", path: folder, errno: code)
    }
    do throws(FileError) {
      try checkSpace(place, folder, needed)
      var status = stat()
      guard fstatat(place, name, &status, AT_SYMLINK_NOFOLLOW) != 0 else {
        throw FileError(verb: "make", path: "\(folder)/\(name)", reason: "the file exists already and is kept")
      }
      let descriptor = openat(place, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
      guard descriptor >= 0 else { throw FileError(verb: "write into", path: folder, errno: errno) }
      return (place, descriptor)
    } catch {
      close(place)
      throw error
    }
  }

  deinit {
    // Already gone if the file has its final name.
    unlinkat(place, temporary, 0)
    close(descriptor)
    close(place)
  }

  /// Gives the file its final name. Without this call the file disappears with this value.
  ///
  /// - Throws: `FileError`; no file is left then.
  package consuming func keep() throws(FileError) {
    guard fsync(descriptor) == 0 else { throw FileError(verb: "write", path: path, errno: errno) }
    if cprocess_rename_new(place, temporary, name) != 0 {
      var code = errno
      if code == EINVAL || code == ENOSYS {
        // For a file system without that call: a hard link, which fails if the name exists.
        code = linkat(place, temporary, place, name, 0) == 0 ? 0 : errno
      }
      guard code == 0 else { throw FileError(verb: "make", path: path, errno: code) }
    }
    // After a power cut that loses the folder's entry, run it again.
    fsync(place)
  }

  private static func checkSpace(_ place: Int32, _ folder: String, _ needed: UInt64) throws(FileError) {
    var space = statvfs()
    guard fstatvfs(place, &space) == 0 else { throw FileError(verb: "stat", path: folder, errno: errno) }
    let free = UInt64(space.f_bavail) * UInt64(space.f_frsize)
    guard free >= needed else {
      throw FileError(
        verb: "write into", path: folder,
        reason: "\(free >> 20) MiB are free there and \(needed >> 20) MiB must be; choose another folder with --output")
    }
  }
}
