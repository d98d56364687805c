// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing
import VPCSystem

@Suite struct BoundedFileTests {
  @Test func aFileOfExactlyTheLimitIsRead() throws {
    let folder = TemporaryFolder()
    let path = folder.path("file")
    try AtomicFile.write([1, 2, 3], to: path)
    #expect(try BoundedFile.read(path, limit: 3) == [1, 2, 3])
    let error = #expect(throws: FileError.self) { try BoundedFile.read(path, limit: 2) }
    #expect(error?.reason == "larger than the 2 bytes allowed")
  }

  @Test func aMissingFileIsAbsent() throws {
    let folder = TemporaryFolder()
    try AtomicFile.write([], to: folder.path("file"))
    let missing = #expect(throws: FileError.self) { try BoundedFile.read(folder.path("none"), limit: 1) }
    #expect(missing?.isAbsent == true && missing?.isNotFound == true)
    let below = #expect(throws: FileError.self) { try BoundedFile.read(folder.path("file/none"), limit: 1) }
    #expect(below?.isAbsent == true && below?.isNotFound == false)
  }

  @Test func whatIsNoFileIsRefusedAtOnce() throws {
    let folder = TemporaryFolder()
    try #require(mkfifo(folder.path("fifo"), 0o600) == 0)
    for path in [folder.path, folder.path("fifo"), "/dev/zero"] {
      let error = #expect(throws: FileError.self) { try BoundedFile.read(path, limit: 1) }
      #expect(error?.reason == "not a regular file")
    }
  }

  /// The kernel would read the file whose name ends at the NUL.
  @Test func aPathWithANULIsRefused() throws {
    let error = #expect(throws: FileError.self) { try BoundedFile.read("/etc/hostname\0.token", limit: 1 << 20) }
    #expect(error?.errno == 0 && error?.isAbsent == false)
  }
}
