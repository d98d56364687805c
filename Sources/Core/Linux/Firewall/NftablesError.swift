// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VPCModel
internal import VPCSystem

/// An nftables failure. The detail is the kernel's message (NLMSGERR_ATTR_MSG), or the loader's.
package typealias NftablesError = LayerError<NftablesFault>

package enum NftablesFault: LayerFault {
  /// The kernel has no nf_tables, or libmnl or libnftnl is missing: this node must use another scheme.
  case unavailable
  /// The kernel refused an object; `errno` says why. Nothing of the transaction was done.
  case refused
  /// Other programs kept changing the rule set through all retries; nothing was done.
  case interrupted
  /// The kernel did not answer in time.
  case timedOut
  /// The kernel's answer is not what the protocol allows.
  case malformed
  /// The caller's request cannot be expressed: a name or mark out of range.
  case invalid

  /// `ATTEMPT (DETAIL): system's text`.
  package func text(of error: NftablesError) -> String {
    error.attempt + (error.detail.map { " (\($0))" } ?? "")
      + (error.errno == 0 ? "" : ": " + SystemErrorText.text(error.errno))
  }
}

extension NftablesError {
  /// Whether the same call may succeed a moment later.
  package var isTransient: Bool {
    code == .interrupted || code == .timedOut || [EINTR, EAGAIN, EBUSY, ENOMEM, ENOBUFS].contains(errno)
  }
}
