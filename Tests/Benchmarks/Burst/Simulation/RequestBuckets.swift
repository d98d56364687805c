// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// EC2's request throttling: a token bucket for each action, shared by all nodes. A refused call costs no token.
package struct RequestBuckets {
  /// A token has a billion units, so that a rate of one token per second refills a whole unit per nanosecond.
  private struct Bucket {
    var level: Int64
    var at: PoolInstant
  }

  private var buckets: [EC2Action: Bucket] = [:]
  private let token: Int64
  private static let unit: Int64 = 1_000_000_000

  /// - Parameter share: every bucket holds and refills only 1/share of its tokens, so that a small cluster is as
  ///   crowded as one with `share` times as many nodes.
  package init(share: Int = 1) { token = RequestBuckets.unit * Int64(share) }

  /// Whether a call at this instant is admitted; an admitted call costs a token.
  package mutating func admit(_ action: EC2Action, now: PoolInstant) -> Bool {
    let full = Int64(action.bucket.capacity) * RequestBuckets.unit
    var bucket = buckets[action] ?? Bucket(level: full, at: now)
    let passed = now.nanoseconds - bucket.at.nanoseconds
    let refill = Int64(action.bucket.refillPerSecond)
    bucket.level = passed > full / refill ? full : min(full, bucket.level + passed * refill)
    bucket.at = now
    let isAdmitted = bucket.level >= token
    if isAdmitted { bucket.level -= token }
    buckets[action] = bucket
    return isAdmitted
  }
}

/// Calls of one action.
package struct CallCount: Sendable, Hashable {
  package var accepted = 0
  package var refused = 0
  package var sent: Int { accepted + refused }

  package static func + (left: CallCount, right: CallCount) -> CallCount {
    CallCount(accepted: left.accepted + right.accepted, refused: left.refused + right.refused)
  }
}
