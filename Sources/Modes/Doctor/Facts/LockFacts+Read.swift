// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCSystem

extension LockFacts {
  /// Checks twice, half a second apart: a lock held for one write is no finding. Takes no lock.
  static func read(path: String = "/run/xtables.lock") -> Fact<LockFacts> {
    var facts = LockFacts(path: path)
    var info = stat()
    guard stat(path, &info) == 0 else {
      return errno == ENOENT ? .known(facts) : .unknown("\(path): \(SystemErrorText.text(errno))")
    }
    guard info.st_mode & S_IFMT == S_IFREG else {
      facts.isDirectory = true
      return .known(facts)
    }
    guard let first = holder(of: info) else { return .known(facts) }
    usleep(500_000)
    guard holder(of: info) == first else { return .known(facts) }
    let words = (try? BoundedFile.read("/proc/\(first)/cmdline", limit: 4096)) ?? []
    let command = String(decoding: words.map { $0 == 0 ? UInt8(ascii: " ") : $0 }.prefix(120), as: UTF8.self)
    facts.holder = first == 0 ? "a process outside this container" : "process \(first) (\(command))"
    return .known(facts)
  }

  /// The process that holds a lock on the file, by /proc/locks; 0 for one that cannot be seen from here.
  private static func holder(of info: stat) -> Int? {
    guard let bytes = try? BoundedFile.read("/proc/locks", limit: 1 << 20) else { return nil }
    let device = info.st_dev
    // MAJOR:MINOR:INODE, the first two in hex. Source: proc(5), and gnu_dev_major of sys/sysmacros.h.
    let major = (device >> 8) & 0xfff | (device >> 32) & ~0xfff
    let minor = device & 0xff | (device >> 12) & ~0xff
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      let words = line.split(separator: " ").map(String.init).filter { $0 != "->" }
      guard words.count >= 6, words[3] == "WRITE", !line.contains("->") else { continue }
      let parts = words[5].split(separator: ":")
      guard parts.count == 3, UInt(parts[0], radix: 16) == UInt(major), UInt(parts[1], radix: 16) == UInt(minor),
        UInt64(parts[2]) == UInt64(info.st_ino)
      else { continue }
      return Int(words[4])
    }
    return nil
  }
}
