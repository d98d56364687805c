// SPDX-License-Identifier: Apache-2.0

/// What a change asked of the kernel came to. None of these is an error.
package enum NetlinkOutcome: Sendable, Hashable {
  /// The kernel changed its state, or took a request that states what shall be (set, replace).
  case done
  /// The object was there already, equal in all that the request names.
  case alreadySo
  /// There was nothing to delete.
  case alreadyGone
}
