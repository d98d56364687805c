// SPDX-License-Identifier: Apache-2.0

/// Wakes the one listening task. Unheard rings count once.
final class Bell: Sendable {
  private let stream: AsyncStream<Void>
  private let continuation: AsyncStream<Void>.Continuation

  init() {
    (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
  }

  func ring() { continuation.yield() }

  /// Returns with the next ring, or at once if one is unheard.
  ///
  /// - Returns: false when the task was cancelled.
  func wait() async -> Bool {
    for await _ in stream { return !Task.isCancelled }
    return false
  }
}
