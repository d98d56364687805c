// SPDX-License-Identifier: Apache-2.0

/// Why a call of CloudWatch failed.
package struct CloudWatchError: QueryError {
  package let action: String
  /// CloudWatch's code; `NoAnswer`, `NoCredentials`, `MalformedAnswer` and `HTTP…` come from this client.
  package let code: String
  /// CloudWatch's message, one line of at most 512 characters.
  package let message: String
  package let requestID: String?
  /// The HTTP status; nil without an answer.
  package let status: Int?
  package let cause: (any Error)?

  package init(
    action: String, code: String, message: String = "", requestID: String? = nil, status: Int? = nil,
    cause: (any Error)? = nil
  ) {
    self.action = action
    self.code = code
    self.message = String(message.prefix(512).map { $0.isNewline || $0 == "\t" ? " " : $0 })
    self.requestID = requestID
    self.status = status
    self.cause = cause
  }

  package var codeText: String { code }

  package var isThrottling: Bool { CloudWatchError.throttling.contains(code) || status == 429 }

  /// CloudWatch rejects the same data every time.
  package var isAboutTheData: Bool {
    if isThrottling || isMissingPermission { return false }
    return CloudWatchError.dataCodes.contains(code) || status == 413
  }

  /// The same call may succeed if it is retried soon.
  package var isTransient: Bool {
    isThrottling || (isOwnFailureTransient ?? status.map { $0 >= 500 } ?? false)
  }

  private static let throttling: Set<String> = [
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
    "TooManyRequestsException", "LimitExceeded", "SlowDown",
  ]

  /// Source: the errors of PutMetricData and the common errors, CloudWatch API Reference.
  private static let dataCodes: Set<String> = [
    "InvalidParameterValue", "InvalidParameterCombination", "MissingParameter", "MissingRequiredParameter",
    "ValidationError", "ValidationException", "MalformedQueryString", "InvalidQueryParameter", "RequestEntityTooLarge",
  ]
}
