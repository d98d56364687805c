// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// The last fault of an object, until it is read: the list that lacks the object follows it.
final class LastFault: Sendable {
  private let text = Mutex<String?>(nil)

  func set(_ new: String) { text.withLock { $0 = new } }

  func take() -> String? {
    text.withLock { text in
      defer { text = nil }
      return text
    }
  }
}
