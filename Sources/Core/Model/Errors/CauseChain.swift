// SPDX-License-Identifier: Apache-2.0

/// An error with its cause.
///
/// `description` names the operation and its object, lower case, without a full stop, and never repeats its cause:
/// `CauseChain.text` composes the chain once.
package protocol CausedError: Error, CustomStringConvertible {
  var cause: (any Error)? { get }
}

/// Puts an error and its causes into one line.
package enum CauseChain {
  /// `what failed: why: why that`, at most eight links, so that a cycle or a deep chain stays one readable line.
  package static func text(_ error: any Error) -> String {
    var parts: [String] = []
    var next: (any Error)? = error
    while let current = next, parts.count < 8 {
      parts.append(String(describing: current))
      next = (current as? any CausedError)?.cause
    }
    return parts.joined(separator: ": ")
  }
}
