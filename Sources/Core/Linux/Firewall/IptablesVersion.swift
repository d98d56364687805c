// SPDX-License-Identifier: Apache-2.0

/// The release of the iptables programs, from what `iptables --version` prints.
package struct IptablesVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
  package let major: Int
  package let minor: Int
  package let patch: Int

  package init(_ major: Int, _ minor: Int, _ patch: Int = 0) {
    self.major = major
    self.minor = minor
    self.patch = patch
  }

  /// Reads `iptables v1.8.9 (nf_tables)`; nil if there is no version.
  package init?(printed text: String) {
    guard let word = text.split(whereSeparator: \.isWhitespace).first(where: { $0.hasPrefix("v") }) else { return nil }
    let numbers = word.dropFirst().split(separator: ".").map { Int($0.prefix { $0.isNumber }) ?? 0 }
    guard numbers.count > 1, numbers.allSatisfy({ 0..<1000 ~= $0 }) else { return nil }
    self.init(numbers[0], numbers[1], numbers.count > 2 ? numbers[2] : 0)
  }

  /// SNAT knows `--random-fully`, and iptables-restore `-w`.
  package var knowsRandomFully: Bool { self >= IptablesVersion(1, 6, 2) }

  package static func < (left: IptablesVersion, right: IptablesVersion) -> Bool {
    (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
  }

  package var description: String { "\(major).\(minor).\(patch)" }
}
