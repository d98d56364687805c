// SPDX-License-Identifier: Apache-2.0

/// How a call ended: a code and a text for people. A server's handler throws it to answer with anything but OK.
package struct RPCStatus: Error, Equatable, Sendable, CustomStringConvertible {
  package var code: RPCCode
  /// Untrusted when it came from a peer; at most 4,096 characters then.
  package var message: String

  package init(_ code: RPCCode, _ message: String) {
    self.code = code
    self.message = message
  }

  /// `rpc error: code = NotFound desc = unknown service`: the text of the gRPC library of amazon-vpc-cni-k8s, which
  /// people search for.
  package var description: String { "rpc error: code = \(code.name) desc = \(message)" }
}
