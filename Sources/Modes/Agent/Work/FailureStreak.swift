// SPDX-License-Identifier: Apache-2.0

/// Decides which of consecutive failures is logged.
struct FailureStreak: Sendable {
  private var isFailing = false

  /// - Returns: true for the first one.
  mutating func failed() -> Bool {
    defer { isFailing = true }
    return !isFailing
  }

  /// - Returns: true if it ends consecutive failures.
  mutating func succeeded() -> Bool {
    defer { isFailing = false }
    return isFailing
  }
}
