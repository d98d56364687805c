// SPDX-License-Identifier: Apache-2.0

package import SwiftProtobuf

extension UnaryClient {
  /// `call` with messages instead of bytes.
  ///
  /// - Throws: as `call`, and INTERNAL at stage `exchange` for a reply that does not decode.
  package func call<Request: Message, Reply: Message>(
    _ method: RPCMethod, _ request: Request, reply: Reply.Type = Reply.self, timeout: Duration,
    connectTimeout: Duration? = nil, meanwhile: () -> Void = {}
  ) throws(RPCError) -> Reply {
    let encoded: [UInt8]
    do {
      encoded = try request.serializedBytes()
    } catch {
      throw failure(.request, "request cannot be encoded", method, cause: error)
    }
    let answer = try call(
      method, request: encoded, timeout: timeout, connectTimeout: connectTimeout, meanwhile: meanwhile)
    do {
      return try Reply(serializedBytes: answer, options: MessageDecoding.options)
    } catch {
      throw failure(.exchange, "reply cannot be decoded", method, cause: error)
    }
  }

  private func failure(
    _ stage: RPCError.Stage, _ text: String, _ method: RPCMethod, cause: any Error
  ) -> RPCError {
    RPCError(
      stage, RPCStatus(.internal, text), method: method.description, target: target.description, cause: cause)
  }
}

/// How untrusted messages are decoded, on both sides.
enum MessageDecoding {
  /// No message here nests deeper than two; unknown fields are dropped.
  static let options: BinaryDecodingOptions = {
    var options = BinaryDecodingOptions()
    options.messageDepthLimit = 8
    options.discardUnknownFields = true
    return options
  }()
}

/// The plugin's calls to the agent. Blocking, see `UnaryClient`.
package struct CNIBackendClient: Sendable {
  package static let defaultTarget = RPCTarget.unix(path: "/var/run/aws-node/ipamd.sock")

  package var client: UnaryClient

  package init(target: RPCTarget = defaultTarget) { client = UnaryClient(target: target) }

  /// Requests an address. `success == false` in the reply is an answer, not an error.
  ///
  /// - Parameter meanwhile: run once, while the agent works.
  package func addNetwork(
    _ request: AddNetworkRequest, timeout: Duration, meanwhile: () -> Void = {}
  ) throws(RPCError) -> AddNetworkReply {
    try client.call(.addNetwork, request, timeout: timeout, meanwhile: meanwhile)
  }

  /// Releases the pod's addresses.
  package func delNetwork(_ request: DelNetworkRequest, timeout: Duration) throws(RPCError) -> DelNetworkReply {
    try client.call(.delNetwork, request, timeout: timeout)
  }
}

/// The plugin's calls to the network policy agent. Blocking, see `UnaryClient`.
package struct NPBackendClient: Sendable {
  package static let defaultTarget = RPCTarget.unix(path: "/var/run/aws-node/npa.sock")

  package var client: UnaryClient
  /// Only for the connect. Source: contract, the plugin dials this socket with 2 seconds.
  package var connectTimeout: Duration = .seconds(2)

  package init(target: RPCTarget = defaultTarget) { client = UnaryClient(target: target) }

  package func enforceNpToPod(_ request: EnforceNpRequest, timeout: Duration) throws(RPCError) -> EnforceNpReply {
    try client.call(.enforceNpToPod, request, timeout: timeout, connectTimeout: connectTimeout)
  }

  package func deletePodNp(_ request: DeleteNpRequest, timeout: Duration) throws(RPCError) -> DeleteNpReply {
    try client.call(.deletePodNp, request, timeout: timeout, connectTimeout: connectTimeout)
  }
}

/// Asks a server whether it is serving. Blocking, see `UnaryClient`.
package struct HealthClient: Sendable {
  package var client: UnaryClient

  package init(target: RPCTarget) { client = UnaryClient(target: target) }

  /// - Parameter service: the empty string asks for the server as a whole.
  /// - Throws: NOT_FOUND at stage `answer` for a service that the server does not know.
  package func check(
    service: String = "", timeout: Duration, connectTimeout: Duration? = nil
  ) throws(RPCError) -> HealthCheckResponse.ServingStatus {
    var request = HealthCheckRequest()
    request.service = service
    return try client.call(
      .healthCheck, request, reply: HealthCheckResponse.self, timeout: timeout, connectTimeout: connectTimeout
    ).status
  }
}
