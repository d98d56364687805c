// SPDX-License-Identifier: Apache-2.0

internal import CBuildFacts
package import VPCModel

extension BuildFacts {
  /// This binary's.
  package static let own = BuildFacts(
    version: Release.version, commit: commit(inMark: String(cString: cbuild_mark())) ?? "unknown")

  /// The commit of a vpc-cni binary, read from its file without running it.
  ///
  /// - Returns: nil for any other file, such as the binary of amazon-vpc-cni-k8s.
  /// - Throws: `FileError`.
  package static func commit(ofFile path: String) throws(FileError) -> String? {
    // The binary has 23 MB; a debug build three times as much.
    let bytes = try BoundedFile.read(path, limit: 256 << 20)
    let marker = marker
    var found: String?
    bytes.withUnsafeBytes { bytes in
      guard var at = bytes.baseAddress else { return }
      let end = at + bytes.count
      // SAFETY: every pointer lies between the buffer's two ends; a hit has `marker.count` bytes behind it.
      while found == nil, let hit = cbuild_find(at, end - at, marker, marker.count) {
        let rest = UnsafeRawBufferPointer(start: hit, count: min(end - UnsafeRawPointer(hit), 80))
        found = commit(inMark: String(decoding: rest.prefix { $0 != 0 }, as: UTF8.self))
        at = UnsafeRawPointer(hit) + 1
      }
    }
    return found
  }
}
