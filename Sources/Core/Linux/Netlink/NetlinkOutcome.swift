// SPDX-License-Identifier: Apache-2.0

/// The result of a requested change. None of these is an error.
package enum NetlinkOutcome: Sendable, Hashable {
  /// The kernel changed its state, or accepted a set or replace.
  case done
  /// The object already existed, equal in all attributes of the request.
  case alreadySo
  /// There was nothing to delete.
  case alreadyGone
}
