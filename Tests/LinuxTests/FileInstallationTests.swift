// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import TestSupport
import VPCLinux

/// Programs are replaced whole, and without disturbing what runs.
@Suite struct FileInstallationTests {
  let folder = TemporaryFolder()

  private func inode(_ path: String) -> UInt64 {
    var status = stat()
    return stat(path, &status) == 0 ? UInt64(status.st_ino) : 0
  }

  private func mode(_ path: String) -> UInt32 {
    var status = stat()
    return stat(path, &status) == 0 ? UInt32(status.st_mode & 0o7777) : 0
  }

  @Test func sourcesModeOrTheOneGiven() throws {
    let source = try folder.write("source", "program")
    chmod(source, 0o711)
    #expect(try FileInstallation.install(source, to: folder.path("a")) == .installed)
    #expect(try FileInstallation.install(source, to: folder.path("b"), mode: 0o755) == .installed)
    #expect(mode(folder.path("a")) == 0o711 && mode(folder.path("b")) == 0o755)
    #expect(try folder.text("b") == "program")
    #expect(try FileInstallation.files(in: folder.path) == ["a", "b", "source"], "nothing temporary is left")
  }

  @Test func theSameAgainTouchesNothing() throws {
    let source = try folder.write("source", "program")
    let target = folder.path("target")
    try FileInstallation.install(source, to: target, mode: 0o755)
    let before = inode(target)
    #expect(try FileInstallation.install(source, to: target, mode: 0o755) == .alreadySo)
    #expect(inode(target) == before)
    chmod(target, 0o644)
    #expect(try FileInstallation.install(source, to: target, mode: 0o755) == .installed)
    #expect(mode(target) == 0o755)
    try folder.write("source", "Program")
    #expect(try FileInstallation.install(source, to: target, mode: 0o755) == .installed)
    #expect(try folder.text("target") == "Program")
  }

  /// One copy of a program under all of its names, however often and in whatever state the folder is.
  @Test func aNodesProgramsAreOneFile() throws {
    let source = try folder.write("source", "program")
    mkdir(folder.path("bin"), 0o755)
    let bin = folder.path("bin")
    let (first, second) = ("\(bin)/\(HostPrograms.names[0])", "\(bin)/\(HostPrograms.names[1])")
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.installed, .installed])
    #expect(inode(first) == inode(second) && mode(second) == 0o755)
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.alreadySo, .alreadySo])
    // The existing system's script, or a link to elsewhere, is replaced and not followed.
    try folder.write("theirs", "script")
    unlink(second)
    #expect(symlink(folder.path("theirs"), second) == 0)
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.alreadySo, .installed])
    try folder.write("source", "newer")
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.installed, .installed])
    #expect(inode(first) == inode(second))
    #expect(try folder.text("bin/\(HostPrograms.names[1])") == "newer" && folder.text("theirs") == "script")
    #expect(try FileInstallation.files(in: bin) == HostPrograms.names.sorted(), "nothing temporary is left")
  }

  /// An installer that was killed leaves its temporary file, as large as the program: the next one takes it away.
  @Test func whatAKilledInstallerLeftIsRemoved() throws {
    let source = try folder.write("source", "new")
    let target = try folder.write("target", "new")
    let leftover = try folder.write("target.tmp4711", "half of it")
    var times = [timespec(tv_sec: time(nil) - 120, tv_nsec: 0), timespec(tv_sec: time(nil) - 120, tv_nsec: 0)]
    try #require(utimensat(AT_FDCWD, leftover, &times, 0) == 0)
    try FileInstallation.install(source, to: target)
    #expect(try FileInstallation.files(in: folder.path) == ["source", "target"])
  }

  @Test func larger() throws {
    let text = String(repeating: "0123456789", count: 100_000)
    let source = try folder.write("source", text)
    try FileInstallation.install(source, to: folder.path("target"))
    #expect(try folder.text("target") == text)
    #expect(try FileInstallation.install(source, to: folder.path("target")) == .alreadySo)
    try folder.write("target", text.dropLast() + "x")
    #expect(try FileInstallation.install(source, to: folder.path("target")) == .installed)
    #expect(try folder.text("target") == text)
  }

  /// Writing into a program that runs fails with ETXTBSY; a rename leaves it the old file.
  @Test func aRunningProgramIsNotDisturbed() throws {
    let target = folder.path("shell")
    // By another process: what this one writes cannot be run while another test's child has it open.
    _ = try CommandResult.run(["install", "/bin/sh", target]).get()
    let running = try PeerProcess([
      target, "-c", "echo begun; until [ -e \(folder.path("go")) ]; do :; done; echo ended",
    ])
    #expect(try running.line() == "begun")
    let source = try folder.write("source", "new")
    #expect(try FileInstallation.install(source, to: target, mode: 0o755) == .installed)
    try folder.write("go")
    #expect(try running.line() == "ended")
    #expect(try folder.text("shell") == "new")
  }

  @Test func aLinkIsReplacedNotFollowed() throws {
    let source = try folder.write("source", "program")
    try folder.write("elsewhere", "mine")
    #expect(symlink(folder.path("elsewhere"), folder.path("target")) == 0)
    try FileInstallation.install(source, to: folder.path("target"))
    #expect(try folder.text("elsewhere") == "mine" && folder.text("target") == "program")
  }

  @Test func aFailureNamesTheFileAndLeavesTheOld() throws {
    let missing = #expect(throws: FileError.self) {
      try FileInstallation.install(folder.path("nothing"), to: folder.path("target"))
    }
    #expect(try #require(missing).isNotFound)
    let source = try folder.write("source", "program")
    #expect(mkdir(folder.path("target"), 0o755) == 0)
    let error = #expect(throws: FileError.self) { try FileInstallation.install(source, to: folder.path("target")) }
    #expect(try #require(error).description.contains(folder.path("target")))
    #expect(try FileInstallation.files(in: folder.path) == ["source"], "nothing temporary is left")
    #expect(throws: FileError.self) { try FileInstallation.install(folder.path, to: folder.path("other")) }
    #expect(throws: FileError.self) { try FileInstallation.install(source, to: folder.path("no/folder")) }
  }
}
