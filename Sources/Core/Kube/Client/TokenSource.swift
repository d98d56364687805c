// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCSystem
internal import VPCTransport

/// The bearer token of every request: fixed, or a file that the kubelet replaces before the token in it expires.
final class TokenSource: Sendable {
  private struct State {
    var token: String?
    var readAt: ContinuousClock.Instant?
  }

  /// As client-go has it.
  static let maximumAge = Duration.seconds(60)

  private let credential: KubeCredential
  private let time: TimeSource
  private let state = Mutex(State())

  init(_ credential: KubeCredential, time: TimeSource) {
    self.credential = credential
    self.time = time
  }

  /// Whether to retry with a new token after a refusal.
  var canChange: Bool { if case .tokenFile = credential { true } else { false } }

  /// - Parameter refused: a token that the server refused: the file is read again whatever its age.
  /// - Returns: nil if no token is used. If the file cannot be read now, the last token stays.
  /// - Throws: `FileError` if the file could never be read.
  func token(refused: String? = nil) throws(FileError) -> String? {
    guard case .tokenFile(let path) = credential else {
      if case .token(let secret) = credential { return secret.text }
      return nil
    }
    let now = time.now()
    let known = state.withLock { $0 }
    if let token = known.token, token != refused, let readAt = known.readAt,
      readAt.duration(to: now) < TokenSource.maximumAge
    {
      return token
    }
    do throws(FileError) {
      let text = String(decoding: try BoundedFile.read(path, limit: 64 << 10), as: UTF8.self).trimmed
      guard !text.isEmpty, text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
        throw FileError(verb: "read", path: path, reason: "not a token")
      }
      state.withLock { $0 = State(token: text, readAt: now) }
      return text
    } catch {
      guard let token = known.token else { throw error }
      return token
    }
  }
}
