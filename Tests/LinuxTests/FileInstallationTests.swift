// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import TestSupport
import VPCLinux
import VPCSystem

/// Programs are replaced as a whole, without disturbing running ones.
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

  /// However often and on whatever it runs, the installation leaves the program and the script for its support mode.
  @Test func aNodeHasTheProgramAndAScript() throws {
    let source = try folder.write("source", "program")
    mkdir(folder.path("bin"), 0o755)
    let bin = folder.path("bin")
    let (program, script) = ("\(bin)/aws-cni", "\(bin)/aws-cni-support.sh")
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.installed, .installed, .installed])
    #expect(mode(program) == 0o755 && mode(script) == 0o755)
    // The other plugin of amazon-vpc-cni-k8s, a file, is replaced; the link leads to the program beside it.
    let egress = "\(bin)/egress-cni"
    unlink(egress)
    try folder.write("bin/egress-cni", "theirs")
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.alreadySo, .installed, .alreadySo])
    #expect(try CommandResult.run(["readlink", egress]).get() == "aws-cni\n")
    #expect(try folder.text("bin/egress-cni") == "program")
    #expect(try folder.text("bin/aws-cni-support.sh") == HostPrograms.supportScriptText)
    #expect(HostPrograms.supportScriptText.split(separator: "\n").count == 2)
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.alreadySo, .alreadySo, .alreadySo])
    // amazon-vpc-cni-k8s's script, or a symbolic link to another place, is replaced; the link is not followed.
    try folder.write("theirs", "script")
    unlink(script)
    #expect(symlink(folder.path("theirs"), script) == 0)
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.alreadySo, .alreadySo, .installed])
    // A hard link to the program, which an earlier release created, is replaced too. The program stays as it is.
    unlink(script)
    #expect(link(program, script) == 0)
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.alreadySo, .alreadySo, .installed])
    #expect(inode(program) != inode(script))
    #expect(try folder.text("bin/aws-cni") == "program" && folder.text("theirs") == "script")
    try folder.write("source", "newer")
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.installed, .alreadySo, .alreadySo])
    chmod(script, 0o644)
    #expect(try HostPrograms.install(source, into: bin).map(\.outcome) == [.alreadySo, .alreadySo, .installed])
    #expect(mode(script) == 0o755)
    #expect(try FileInstallation.files(in: bin) == ["aws-cni", "aws-cni-support.sh"], "nothing temporary is left")
  }

  /// The script is called by a path, by a relative name, through a link, and by a shell that is told to run it.
  @Test func theScriptRunsTheProgramBesideIt() throws {
    mkdir(folder.path("bin"), 0o755)
    let bin = folder.path("host")
    let source = try folder.write("source", "#!/bin/sh\necho \"$0\" \"$@\"\n")
    _ = try HostPrograms.install(source, into: folder.path("bin"))
    // Another process copies them: a file that this one writes cannot run while a child of another test has it open.
    _ = try CommandResult.run(["cp", "-a", folder.path("bin"), bin]).get()
    #expect(symlink("\(bin)/aws-cni-support.sh", folder.path("link")) == 0)
    for call in [
      "\(bin)/aws-cni-support.sh", "bash \(bin)/aws-cni-support.sh", "cd \(bin) && bash aws-cni-support.sh",
      "cd \(bin) && ./aws-cni-support.sh", "PATH=\(bin):$PATH aws-cni-support.sh", folder.path("link"),
    ] {
      let said = try CommandResult.run(["bash", "-c", "\(call) --output=/x 'a b'"]).get()
      #expect(said == "\(bin)/aws-cni support --output=/x a b\n", "\(call)")
    }
  }

  /// A killed installer leaves its temporary file, as large as the program. The next installer removes it.
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

  /// Writing to a running program fails with ETXTBSY. After a rename, the running program keeps the old file.
  @Test func aRunningProgramIsNotDisturbed() throws {
    let target = folder.path("shell")
    // Another process copies it: a file that this one writes cannot run while a child of another test has it open.
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
