// SPDX-License-Identifier: Apache-2.0

package import VPCModel
internal import VPCTransport

/// Why a call of a service of AWS's query protocol failed, as far as the services are alike in it.
package protocol QueryError: CausedError {
  /// Such as `AttachNetworkInterface`.
  var action: String { get }
  /// The service's own code; `NoAnswer`, `NoCredentials`, `MalformedAnswer` and `HTTP…` are ours.
  var codeText: String { get }
  var message: String { get }
  var requestID: String? { get }
}

extension QueryError {
  package var description: String { summary }

  /// What was asked, the service's code and words, and the request's id.
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

  /// Whether the same call may succeed after a failure on this side of the wire; nil for what the service answered.
  var isOwnFailureTransient: Bool? {
    switch codeText {
    case "NoAnswer": (cause as? HTTPError)?.isTransient ?? true
    case "NoCredentials": (cause as? CredentialsError)?.isTransient ?? false
    case "MalformedAnswer": true
    default: nil
    }
  }
}
