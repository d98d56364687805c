// SPDX-License-Identifier: Apache-2.0

/// What a binary was made from.
package struct BuildFacts: Sendable, Hashable {
  package let version: String
  /// 40 hex digits, perhaps with `-dirty`; `unknown` if the build did not set it.
  package let commit: String

  package init(version: String, commit: String) {
    self.version = version
    self.commit = commit
  }

  /// The mark before the commit in the binary's file.
  ///
  /// Composed at run time: a single literal would be found in the file a second time.
  package static var marker: [UInt8] { Array("@(#)".utf8) + Array("vpc-cni-build ".utf8) }

  /// The commit of a mark's text; nil if the text is not a mark.
  package static func commit(inMark text: String) -> String? {
    let marker = String(decoding: marker, as: UTF8.self)
    guard text.hasPrefix(marker) else { return nil }
    let commit = text.dropFirst(marker.count)
    let isWord = commit.utf8.allSatisfy { 48...57 ~= $0 || 97...122 ~= $0 || $0 == UInt8(ascii: "-") }
    return (1...60).contains(commit.utf8.count) && isWord ? String(commit) : nil
  }
}
