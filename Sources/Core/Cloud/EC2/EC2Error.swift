// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Why an EC2 call failed.
package struct EC2Error: QueryError {
  /// EC2's error code. `text` is EC2's own word, also for codes that have no name here.
  ///
  /// Source: "Error codes for the Amazon EC2 API", EC2 API Reference.
  package struct Code: Sendable, Hashable, CustomStringConvertible {
    package let text: String

    package init(_ text: String) { self.text = text }

    package var description: String { text }

    // This client's own codes, for local failures.
    /// No complete HTTP answer; `cause` is the `HTTPError`.
    package static let noAnswer = Code("NoAnswer")
    /// An answer that cannot be read or lacks what the action returns.
    package static let malformedAnswer = Code("MalformedAnswer")
    /// There are no credentials to sign with; `cause` is the `CredentialsError`.
    package static let noCredentials = Code("NoCredentials")

    // EC2's.
    package static let requestLimitExceeded = Code("RequestLimitExceeded")
    package static let unauthorizedOperation = Code("UnauthorizedOperation")
    package static let invalidParameterValue = Code("InvalidParameterValue")
    package static let insufficientFreeAddresses = Code("InsufficientFreeAddressesInSubnet")
    package static let insufficientCIDRBlocks = Code("InsufficientCidrBlocks")
    package static let privateAddressLimitExceeded = Code("PrivateIpAddressLimitExceeded")
    package static let attachmentLimitExceeded = Code("AttachmentLimitExceeded")
    package static let interfaceLimitExceeded = Code("NetworkInterfaceLimitExceeded")
    package static let interfaceNotFound = Code("InvalidNetworkInterfaceID.NotFound")
    package static let interfaceInUse = Code("InvalidNetworkInterface.InUse")
    package static let attachmentNotFound = Code("InvalidAttachmentID.NotFound")
    package static let incorrectState = Code("IncorrectState")
    package static let operationNotPermitted = Code("OperationNotPermitted")
    package static let dependencyViolation = Code("DependencyViolation")
  }

  /// Such as `AttachNetworkInterface`.
  package let action: String
  package let code: Code
  /// EC2's message, at most 1024 bytes, without the encoded authorization message.
  package let message: String
  /// The input of `aws sts decode-authorization-message`, which shows an administrator the refusing policy. It has
  /// kilobytes, so it is only for the log. Nil if EC2 sent none.
  package let encodedAuthorization: String?
  package let requestID: String?
  /// The HTTP status; nil without an answer.
  package let status: Int?
  /// True if EC2 certainly has not seen the request.
  package let isUnsent: Bool
  package let cause: (any Error)?

  package init(
    action: String, code: Code, message: String = "", requestID: String? = nil, status: Int? = nil,
    isUnsent: Bool = false, cause: (any Error)? = nil
  ) {
    self.action = action
    self.code = code
    (self.message, encodedAuthorization) = EC2Error.split(message)
    self.requestID = requestID
    self.status = status
    self.isUnsent = isUnsent
    self.cause = cause
  }

  package var codeText: String { code.text }

  /// EC2 throttles. Also transient, but with a longer wait that all calls of the action share.
  package var isThrottling: Bool {
    EC2Error.throttling.contains(code.text) || status == 429
  }

  /// The same call may succeed if it is made again.
  package var isTransient: Bool {
    if isThrottling { return true }
    return isOwnFailureTransient ?? (EC2Error.passing.contains(code.text) || status.map { $0 >= 500 } ?? false)
  }

  /// The subnet has no free address, no free prefix, or no contiguous block (`isFragmented`).
  ///
  /// Prefix exhaustion is reported as InvalidParameterValue, recognizable only by its message. Source:
  /// amazon-vpc-cni-k8s issue 3105.
  package var isInsufficientAddresses: Bool {
    code == .insufficientFreeAddresses || code == .insufficientCIDRBlocks
      || code == .invalidParameterValue && message.lowercased().contains("sufficient free ipv")
  }

  /// Addresses are free, but no block of 16 in a row.
  package var isFragmented: Bool { code == .insufficientCIDRBlocks }

  /// The object named does not exist (any more).
  package var isNotFound: Bool { code.text.hasSuffix(".NotFound") }

  private static let throttling: Set<String> = [
    "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
    "RequestThrottledException", "TooManyRequestsException", "EC2ThrottledException", "BandwidthLimitExceeded",
    "SlowDown", "PriorRequestNotComplete",
  ]

  private static let passing: Set<String> = [
    "InternalError", "InternalFailure", "ServerInternal", "Unavailable", "ServiceUnavailable", "RequestTimeout",
    "RequestTimeoutException",
  ]

  /// The maximum length kept of an encoded authorization message; EC2's have one to four kilobytes.
  private static let encodedLimit = 8192

  /// One line of printable text, and apart from it the encoded authorization message.
  private static func split(_ message: String) -> (readable: String, encoded: String?) {
    let marker = "Encoded authorization failure message:"
    var rest = message.prefix(1024 + encodedLimit)
    var encoded: String?
    var start = rest.startIndex
    while start < rest.endIndex {
      if rest[start...].hasPrefix(marker) {
        let text = rest[rest.index(start, offsetBy: marker.count)...].filter { !$0.isWhitespace }
        encoded = text.isEmpty ? nil : String(text.prefix(encodedLimit))
        rest = rest[..<start]
        break
      }
      start = rest.index(after: start)
    }
    var text = rest.prefix(1024)
    while text.last == " " { text.removeLast() }
    return (String(text.map { $0.isNewline || $0 == "\t" ? " " : $0 }), encoded)
  }
}

extension EC2Error {
  /// For the log: everything that EC2 said.
  package var description: String {
    summary + (encodedAuthorization.map { ", encoded authorization message: \($0)" } ?? "")
  }

  /// The same without the encoded authorization message, including causes.
  package var brief: String { cause.map { "\(summary): \(CauseChain.text($0))" } ?? summary }

  /// EC2's message, short enough for a pod's event; empty if EC2 did not answer.
  package var words: String { status == nil ? "" : String(message.prefix(400)) }
}
