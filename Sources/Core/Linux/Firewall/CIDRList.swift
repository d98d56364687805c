// SPDX-License-Identifier: Apache-2.0
package import VPCModel

/// A list of IPv4 prefixes from a setting or from IMDS, where some may be rubbish.
package struct CIDRList: Sendable, Hashable {
  /// An entry that was left out.
  package struct Rejected: Sendable, Hashable {
    /// At most 60 bytes of it.
    package let text: String
    package let reason: String
  }

  /// What was understood, host bits cleared, in the given order, each once.
  package private(set) var prefixes: [IPPrefix] = []
  package private(set) var rejected: [Rejected] = []

  /// An EC2 VPC has at most 50 prefixes, a setting a few more; each is a rule that packets walk through.
  private static let limit = 200

  /// Reads entries such as `10.0.0.0/16`; white space around one and empty ones are no fault.
  package init(_ texts: [String]) {
    for text in texts {
      let entry = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
      guard !entry.isEmpty else { continue }
      let reject = { (reason: String) in Rejected(text: String(entry.prefix(60)), reason: reason) }
      guard let prefix = IPPrefix(normalizing: entry) else {
        rejected.append(reject("not a prefix"))
        continue
      }
      if prefix.family != .ipv4 {
        rejected.append(reject("not IPv4"))
      } else if prefixes.count == CIDRList.limit {
        rejected.append(reject("more than \(CIDRList.limit) prefixes"))
      } else if !prefixes.contains(prefix) {
        prefixes.append(prefix)
      }
    }
  }
}
