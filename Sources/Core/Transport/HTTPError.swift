// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Why a request has no complete answer.
package struct HTTPError: CausedError, Hashable {
  /// What went wrong.
  package struct Code: Sendable, Hashable, CustomStringConvertible {
    private enum Value: String {
      case libraryMissing, invalidRequest, overloaded, closed, cancelled, timedOut, unresolved, unconnected, untrusted
      case interrupted, malformed, headersTooLarge, bodyTooLarge, other
    }
    private let value: Value

    /// libcurl cannot be opened.
    package static let libraryMissing = Code(value: .libraryMissing)
    /// The request is invalid: scheme, URL, a control character in a header, an oversized body.
    package static let invalidRequest = Code(value: .invalidRequest)
    /// Too many requests wait already.
    package static let overloaded = Code(value: .overloaded)
    /// The transport was closed.
    package static let closed = Code(value: .closed)
    /// The caller's task was cancelled.
    package static let cancelled = Code(value: .cancelled)
    /// A deadline passed; `isUnsent` tells whether the request was sent.
    package static let timedOut = Code(value: .timedOut)
    /// The host's name has no address.
    package static let unresolved = Code(value: .unresolved)
    /// No connection to the server or the proxy.
    package static let unconnected = Code(value: .unconnected)
    /// TLS failed: the certificate, the CA bundle or the handshake.
    package static let untrusted = Code(value: .untrusted)
    /// The connection broke before the answer was complete.
    package static let interrupted = Code(value: .interrupted)
    /// What came is not HTTP.
    package static let malformed = Code(value: .malformed)
    package static let headersTooLarge = Code(value: .headersTooLarge)
    package static let bodyTooLarge = Code(value: .bodyTooLarge)
    /// Any other libcurl error: `curlCode` has the number.
    package static let other = Code(value: .other)

    package var description: String { value.rawValue }
  }

  package let code: Code
  /// The URL without user, query and fragment: those may hold secrets.
  package let url: String
  /// libcurl's code; 0 for a local error.
  package let curlCode: Int32
  /// libcurl's or this client's message.
  package let detail: String
  /// True if a retry of the same request may succeed.
  package let isTransient: Bool
  /// True if the server certainly has not seen the request, so a retry cannot execute it twice.
  package let isUnsent: Bool

  package init(
    _ code: Code, url: String, curlCode: Int32 = 0, detail: String, isTransient: Bool = false, isUnsent: Bool = true
  ) {
    self.code = code
    self.url = HTTPError.redacted(url)
    self.curlCode = curlCode
    self.detail = detail
    self.isTransient = isTransient
    self.isUnsent = isUnsent
  }

  package var cause: (any Error)? { nil }

  package var description: String { "\(url): \(detail)" }

  /// The URL up to its query, without user and password, at most 256 bytes of it.
  package static func redacted(_ url: String) -> String {
    var text = url.prefix { $0 != "?" && $0 != "#" }
    if let scheme = text.range(of: "://") {
      let rest = text[scheme.upperBound...]
      let authority = rest.prefix { $0 != "/" }
      if let at = authority.lastIndex(of: "@") {
        text = text[..<scheme.upperBound] + text[text.index(after: at)...]
      }
    }
    return String(decoding: text.utf8.prefix(256).map { (0x21...0x7e).contains($0) ? $0 : 0x3f }, as: UTF8.self)
  }
}

extension Substring {
  /// The first place of `needle`; the standard library has no plain search without Foundation.
  fileprivate func range(of needle: String) -> Range<Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(needle) { return start..<index(start, offsetBy: needle.count) }
      start = index(after: start)
    }
    return nil
  }
}
