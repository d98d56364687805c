// SPDX-License-Identifier: Apache-2.0

/// What can go wrong in one layer, for a caller to switch on.
package protocol LayerFault: Sendable, Hashable {
  /// The error in words, without its cause. The default is `ATTEMPT: DETAIL`.
  func text(of error: LayerError<Self>) -> String
}

extension LayerFault {
  package func text(of error: LayerError<Self>) -> String {
    error.detail.map { "\(error.attempt): \($0)" } ?? error.attempt
  }
}

/// A failed operation of a layer. Each layer has a name for its own: `typealias IptablesError = LayerError<IptablesFault>`.
package struct LayerError<Fault: LayerFault>: CausedError, Equatable {
  package typealias Code = Fault

  package let code: Fault
  /// Verb and object: `add route 10.0.0.9/32 dev 7 table 20512`.
  package let attempt: String
  /// The system's error number, positive; 0 if there is none.
  package let errno: Int32
  /// The kernel's, a program's or this program's message; nil if there is none.
  package let detail: String?
  package let cause: (any Error)?

  package init(
    _ code: Fault, _ attempt: String, errno: Int32 = 0, detail: String? = nil, cause: (any Error)? = nil
  ) {
    self.code = code
    self.attempt = attempt
    self.errno = errno
    self.detail = detail
    self.cause = cause
  }

  package var description: String { code.text(of: self) }

  /// Causes are equal if their texts are.
  package static func == (left: Self, right: Self) -> Bool {
    left.code == right.code && left.errno == right.errno && CauseChain.text(left) == CauseChain.text(right)
  }
}
