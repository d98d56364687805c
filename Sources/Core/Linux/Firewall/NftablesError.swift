// SPDX-License-Identifier: Apache-2.0
internal import VPCModel
internal import Glibc
internal import VPCSystem

/// An nftables failure.
package struct NftablesError: CausedError, Equatable {
  /// The kind of failure; a struct, so that kinds can be added.
  package struct Code: Sendable, Hashable {
    private enum Kind { case unavailable, refused, interrupted, timedOut, malformed, invalid }
    private let kind: Kind

    /// The kernel has no nf_tables, or libmnl or libnftnl is missing: this node must use another scheme.
    package static let unavailable = Code(kind: .unavailable)
    /// The kernel refused an object; `errno` says why. Nothing of the transaction was done.
    package static let refused = Code(kind: .refused)
    /// Other programs kept changing the rule set through all retries; nothing was done.
    package static let interrupted = Code(kind: .interrupted)
    /// The kernel did not answer in time.
    package static let timedOut = Code(kind: .timedOut)
    /// The kernel's answer is not what the protocol allows.
    package static let malformed = Code(kind: .malformed)
    /// The caller's request cannot be expressed: a name or mark out of range.
    package static let invalid = Code(kind: .invalid)
  }

  package let code: Code
  /// The operation and its object: `add chain eni-01 to table ip vpc-cni`.
  package let object: String
  /// The kernel's error number, or 0.
  package let errno: Int32
  /// The kernel's message (NLMSGERR_ATTR_MSG), or the loader's, if any.
  package let detail: String?

  package init(_ code: Code, _ object: String, errno: Int32 = 0, detail: String? = nil) {
    self.code = code
    self.object = object
    self.errno = errno
    self.detail = detail
  }

  package var cause: (any Error)? { nil }

  /// Whether the same call may succeed a moment later.
  package var isTransient: Bool {
    code == .interrupted || code == .timedOut
      || [EINTR, EAGAIN, EBUSY, ENOMEM, ENOBUFS].contains(errno)
  }

  package var description: String {
    var text = object
    if let detail { text += " (\(detail))" }
    if errno != 0 { text += ": " + SystemErrorText.text(errno) }
    return text
  }
}
