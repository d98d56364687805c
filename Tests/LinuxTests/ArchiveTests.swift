// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import TestSupport
import VPCLinux
import VPCSystem

@Suite struct ArchiveTests {
  static func piece(_ bytes: [UInt8], step: Int = 1 << 16) throws -> DeflatedPiece {
    var deflate = try Deflate()
    for start in stride(from: 0, to: bytes.count, by: step) {
      try deflate.add(Array(bytes[start..<min(start + step, bytes.count)]))
    }
    return try deflate.end()
  }

  /// Names that ustar stores whole, in two parts, or in a pax record; contents with sizes around that of a block.
  static let files: [(name: String, content: [UInt8])] =
    [
      ("top/plain.txt", Array("hello\n".utf8)), ("top/empty", []),
      ("top/\(String(repeating: "d", count: 120))/\(String(repeating: "f", count: 90))", [1, 2, 3]),
      ("top/\(String(repeating: "n", count: 240))", Array("long\n".utf8)), ("top/ünïcode", Array("name\n".utf8)),
      ("top/random", (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }),
    ] + [511, 512, 513].map { ("top/size-\($0)", [UInt8](repeating: 65, count: $0)) }

  static let reader = """
    import sys, tarfile
    for mode in ("r:gz", "r|gz"):
        for member in (archive := tarfile.open(sys.argv[1], mode)):
            data = archive.extractfile(member).read()
            print(mode, member.name, member.size, member.mode, member.mtime, sum(data) % 65536)
    """

  @Test(.requires(program: "tar"), .requires(program: "python3")) func tarAndPythonReadItAlike() throws {
    let folder = TemporaryFolder()
    let path = "\(folder.path)/a.tar.gz"
    let descriptor = open(path, O_WRONLY | O_CREAT, 0o600)
    defer { close(descriptor) }
    var archive = try ArchiveStream(descriptor: descriptor, path: path)
    for file in Self.files { try archive.add(Self.piece(file.content), name: file.name, modified: 1_700_000_000) }
    try archive.end()
    #expect(archive.files == Self.files.count)

    let list = try SpawnedCommand().run(Command("tar", ["--utc", "-tvzf", path]))
    #expect(list.succeeded && list.errors.isEmpty, "\(list.errorText)")
    #expect(list.outputText.split(separator: "\n").count == Self.files.count)
    #expect(list.outputText.contains("-rw------- root/root") && list.outputText.contains("2023-11-14 22:13"))
    let unpacked = try SpawnedCommand().run(Command("tar", ["-xzf", path, "-C", folder.path]))
    #expect(unpacked.succeeded, "\(unpacked.errorText)")
    for file in Self.files {
      #expect(try BoundedFile.read("\(folder.path)/\(file.name)", limit: 1 << 20) == file.content, "\(file.name)")
    }
    let python = try SpawnedCommand().run(Command("python3", ["-c", Self.reader, path]))
    #expect(python.succeeded, "\(python.errorText)")
    let expected = ["r:gz", "r|gz"].flatMap { mode in
      Self.files.map { file in
        "\(mode) \(file.name) \(file.content.count) 384 1700000000 \(file.content.reduce(0) { $0 + Int($1) } % 65536)"
      }
    }
    #expect(python.outputText.split(separator: "\n").map(String.init) == expected)
  }

  @Test(.requires(program: "gzip")) func theEndOfACompressedFileIsRead() throws {
    let folder = TemporaryFolder()
    let text = (0..<50_000).map { "line \($0)\n" }.joined()
    let path = try folder.write("a.log", text)
    #expect(try SpawnedCommand().run(Command("gzip", [path])).succeeded)
    let whole = try GzipFile.tail("\(path).gz", limit: 1 << 20)
    #expect(whole.bytes == Array(text.utf8) && whole.dropped == 0)
    let end = try GzipFile.tail("\(path).gz", limit: 11)
    #expect(end.bytes == Array("line 49999\n".utf8) && end.dropped == text.utf8.count - 11)
    let bytes = try BoundedFile.read("\(path).gz", limit: 1 << 20)
    try AtomicFile.write(Array(bytes.prefix(bytes.count / 2)), to: folder.path("cut.gz"))
    try AtomicFile.write(bytes.prefix(20) + [UInt8](repeating: 7, count: 500), to: folder.path("damaged.gz"))
    try folder.write("empty.gz")
    for name in ["cut.gz", "damaged.gz", "empty.gz"] {
      #expect(throws: ArchiveError.self, "\(name)") { try GzipFile.tail(folder.path(name), limit: 100) }
    }
    #expect(throws: FileError.self) { try GzipFile.tail(folder.path("none.gz"), limit: 100) }
    #expect(throws: FileError.self) { try GzipFile.tail("\(path).gz", limit: 100, inputLimit: 10) }
  }

  @Test func aPieceIsTheSameWhateverItCameIn() throws {
    let text = Array(String(repeating: "a line of a log that repeats itself\n", count: 5000).utf8)
    let whole = try Self.piece(text, step: text.count)
    let parts = try Self.piece(text, step: 1000)
    #expect(whole.checksum == parts.checksum && whole.length == parts.length && whole.length == text.count)
    #expect(whole.bytes.count < text.count / 20)
  }
}

@Suite struct NewFileTests {
  static func names(_ folder: String) -> [String] { (try? FileInstallation.files(in: folder)) ?? ["unreadable"] }

  static func make(_ folder: String, _ name: String = "a", needed: UInt64 = 0, keep: Bool = true) throws(FileError) {
    let file = try NewFile(folder: folder, name: name, needed: needed)
    _ = write(file.descriptor, "new", 3)
    if keep { try file.keep() }
  }

  @Test func itHasItsNameAtTheEndAlone() throws {
    let folder = TemporaryFolder()
    let file = try NewFile(folder: folder.path, name: "a", needed: 1)
    _ = write(file.descriptor, "new", 3)
    #expect(Self.names(folder.path).filter { !$0.hasPrefix(".") } == [])
    try file.keep()
    #expect(Self.names(folder.path) == ["a"])
    #expect(try BoundedFile.read("\(folder.path)/a", limit: 10) == Array("new".utf8))
    var status = stat()
    #expect(stat("\(folder.path)/a", &status) == 0 && status.st_mode & 0o777 == 0o600)
  }

  @Test func oneThatIsNotKeptLeavesNothing() throws {
    let folder = TemporaryFolder()
    try Self.make(folder.path, keep: false)
    #expect(Self.names(folder.path) == [])
  }

  @Test func whatStandsThereIsNeverReplaced() throws {
    let folder = TemporaryFolder()
    try AtomicFile.write(Array("old".utf8), to: "\(folder.path)/a")
    #expect(throws: FileError.self) { try Self.make(folder.path) }
    // A file that appears meanwhile.
    let file = try NewFile(folder: folder.path, name: "b", needed: 0)
    #expect(symlink("/etc/passwd", "\(folder.path)/b") == 0)
    var refused = false
    do { try file.keep() } catch { refused = true }
    #expect(refused && Self.names(folder.path) == ["a"])
    #expect(try BoundedFile.read("\(folder.path)/a", limit: 10) == Array("old".utf8))
  }

  @Test func aFolderThatCannotBeUsedIsNamedWithARemedy() throws {
    let folder = TemporaryFolder()
    let link = "\(folder.path)/link"
    #expect(symlink(folder.path, link) == 0)
    for (place, needed, words) in [
      (link, UInt64(0), "a symbolic link; name the folder that it leads to"),
      ("\(folder.path)/none", 0, "no such file"),
      (folder.path, UInt64.max, "MiB are free there"), ("/dev/null", 0, "not a directory"),
    ] {
      let error = #expect(throws: FileError.self) { try Self.make(place, needed: needed) }
      #expect(error?.description.contains(words) == true && error?.description.contains(place) == true, "\(place)")
    }
    #expect(Self.names(folder.path) == [])
  }
}
