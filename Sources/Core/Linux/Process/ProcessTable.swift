// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCSystem

/// The processes of this node: those that /proc shows and that are in the reader's network namespace.
package struct ProcessTable: Sendable {
  package struct Entry: Sendable, Hashable {
    package let pid: Int32
    /// The command line's words; empty for a thread of the kernel.
    package let words: [String]

    package init(pid: Int32, words: [String]) {
      self.pid = pid
      self.words = words
    }

    /// The last part of the program's path.
    package var program: String { words.first?.split(separator: "/").last.map(String.init) ?? "" }

    /// The value of `--name=value` or `--name value`; the last one counts.
    package func option(_ name: String) -> String? {
      var found: String?
      for (index, word) in words.enumerated() {
        if word.hasPrefix("\(name)=") { found = String(word.dropFirst(name.count + 1)) }
        if word == name, index + 1 < words.count { found = words[index + 1] }
      }
      return found
    }
  }

  package let entries: [Entry]

  package init(entries: [Entry]) { self.entries = entries }

  /// Reads /proc; at most 50,000 processes, 64 KiB of each one's words.
  package static func read() -> ProcessTable {
    guard var names = FolderNames("/proc") else { return ProcessTable(entries: []) }
    var entries: [Entry] = []
    let own = network(of: "self")
    while entries.count < 50_000, let name = names.next() {
      guard let pid = Int32(name), network(of: name) == own,
        let bytes = try? BoundedFile.read("/proc/\(pid)/cmdline", limit: 64 << 10)
      else {
        continue  // no process, or one that has just ended
      }
      let words = bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      entries.append(Entry(pid: pid, words: words))
    }
    return ProcessTable(entries: entries)
  }

  /// `net:[4026531840]`; nil for a process that is not readable, or has exited.
  private static func network(of process: String) -> String? {
    var text = [CChar](repeating: 0, count: 64)
    guard readlink("/proc/\(process)/ns/net", &text, text.count - 1) > 0 else { return nil }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// The first process whose program has the name.
  package func first(named program: String) -> Entry? { entries.first { $0.program == program } }

  /// The node's agent, identified by its name or subcommand.
  package var agent: Entry? {
    entries.first { entry in
      ["aws-k8s-agent", "ipamd"].contains(entry.program)
        || entry.program == "vpc-cni" && entry.words.dropFirst().first == "agent"
    }
  }

  /// A process's environment; empty if it is not readable.
  package static func environment(of pid: Int32) -> [String: String] {
    guard let bytes = try? BoundedFile.read("/proc/\(pid)/environ", limit: 1 << 20) else { return [:] }
    return ProcessEnvironment.variables(bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) })
  }
}
