// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Compresses what log rotation has put aside. For the agent: the plugin's process never does it.
package enum LogCompression {
  /// Runs `gzip` on every backup that is not compressed yet, one after the other. Blocks, for seconds with large files:
  /// call it on a thread of its own. A system without gzip keeps its backups as they are.
  ///
  /// Returns: how many were compressed.
  @discardableResult
  package static func compressBackups(of path: String, gzip: String = "/usr/bin/gzip") -> Int {
    LogRotation.backups(of: path).filter { !$0.hasSuffix(".gz") }.reduce(0) { count, backup in
      run([gzip, "-q", "--", backup]) == 0 ? count + 1 : count
    }
  }

  /// The exit status; nil when the program did not start or was killed.
  private static func run(_ arguments: [String]) -> Int32? {
    var child: pid_t = 0
    // SAFETY: the copies live until they are freed below, after the spawn has read them.
    let copies = arguments.map { strdup($0) }
    defer { copies.forEach { free($0) } }
    guard posix_spawn(&child, arguments[0], nil, nil, copies + [nil], [nil]) == 0 else { return nil }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 { guard errno == EINTR else { return nil } }
    return status & 0x7f == 0 ? status >> 8 & 0xff : nil
  }
}
