// SPDX-License-Identifier: Apache-2.0

package import VPCModel
internal import VPCTransport

/// Why a call of an AWS query-protocol service failed, for all services.
package protocol QueryError: CausedError {
  /// Such as `AttachNetworkInterface`.
  var action: String { get }
  /// The service's code; `NoAnswer`, `NoCredentials`, `MalformedAnswer` and `HTTP…` come from this client.
  var codeText: String { get }
  var message: String { get }
  var requestID: String? { get }
}

extension QueryError {
  package var description: String { summary }

  /// The action, the service's code and message, and the request's id.
  package var summary: String {
    var text = "\(action): \(codeText)"
    if !message.isEmpty { text += ": \(message)" }
    if let requestID { text += " (request \(requestID))" }
    return text
  }

  /// The role lacks the permission for the action.
  package var isMissingPermission: Bool {
    ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation"].contains(codeText)
  }

  /// Whether the same call may succeed after a local failure; nil for an answer of the service.
  var isOwnFailureTransient: Bool? {
    switch codeText {
    case "NoAnswer": (cause as? HTTPError)?.isTransient ?? true
    case "NoCredentials": (cause as? CredentialsError)?.isTransient ?? false
    case "MalformedAnswer": true
    default: nil
    }
  }
}
