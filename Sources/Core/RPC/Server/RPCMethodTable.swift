// SPDX-License-Identifier: Apache-2.0

package import SwiftProtobuf

/// A call's context for its handler.
package struct RPCContext: Sendable {
  package let method: RPCMethod
  /// The caller's deadline, or the server's own limit if that is earlier or the caller set none. Afterwards the caller
  /// gets DEADLINE_EXCEEDED and the handler's task is cancelled.
  package let deadline: ContinuousClock.Instant
  /// The process at the other end; nil when the kernel did not tell (TCP).
  package let peer: RPCPeer?
}

/// The process that connected. Source: unix(7), SO_PEERCRED.
package struct RPCPeer: Sendable, Hashable {
  package let processID: Int32
  package let userID: UInt32
}

/// The methods that a server answers.
///
/// A handler runs in a task of its own, which is cancelled when the caller goes away or its deadline passes; what it
/// returns then is dropped. To answer with a status it throws `RPCStatus`; another error is answered as UNKNOWN with
/// the error's chain of causes as text (as the library of amazon-vpc-cni-k8s does), `CancellationError` as CANCELLED.
package struct RPCMethodTable: Sendable {
  /// One request, one answer.
  package typealias Unary = @Sendable (_ request: [UInt8], _ context: RPCContext) async throws -> [UInt8]
  /// One request, and answers until the caller goes away. The stream keeps only answers that are useful to a late
  /// reader.
  package typealias Subscription = @Sendable (_ request: [UInt8]) throws(RPCStatus) -> AsyncStream<[UInt8]>
  /// Any number of requests, each answered before the next is processed. Runs on the event loop: it must be quick and
  /// must not wait.
  package typealias Dialogue = @Sendable (_ request: [UInt8]) throws(RPCStatus) -> [UInt8]

  package enum Handler: Sendable {
    case unary(Unary)
    case subscription(Subscription)
    case dialogue(Dialogue)
  }

  private var methods: [String: (method: RPCMethod, handler: Handler)] = [:]
  private var services: Set<String> = []

  package init() {}

  /// The names of all services, in order.
  package var serviceNames: [String] { services.sorted() }

  /// Sets a method's handler on encoded messages; the last one set counts.
  package mutating func add(_ method: RPCMethod, _ handler: Handler) {
    methods[method.path] = (method, handler)
    services.insert(method.service)
  }

  /// The same for one request and one answer.
  package mutating func add(_ method: RPCMethod, handler: @escaping Unary) { add(method, .unary(handler)) }

  /// Sets a method's handler on messages. A request that does not decode is answered INTERNAL, and a reply that does
  /// not encode as well.
  package mutating func add<Request: Message, Reply: Message>(
    _ method: RPCMethod, _ handler: @escaping @Sendable (Request, RPCContext) async throws -> Reply
  ) {
    add(method) { bytes, context in
      try await handler(try RPCMethodTable.decode(bytes), context).serializedBytes()
    }
  }

  /// - Throws: INTERNAL for an invalid message.
  static func decode<Request: Message>(_ bytes: [UInt8]) throws(RPCStatus) -> Request {
    do {
      return try Request(serializedBytes: bytes, options: MessageDecoding.options)
    } catch {
      throw RPCStatus(.internal, "request cannot be decoded as \(Request.protoMessageName)")
    }
  }

  /// The handler for a `:path`.
  ///
  /// - Throws: UNIMPLEMENTED with the unknown part.
  func find(_ path: String) throws(RPCStatus) -> (method: RPCMethod, handler: Handler) {
    if let found = methods[path] { return found }
    let parts = path.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0].isEmpty else { throw RPCStatus(.unimplemented, "malformed method name") }
    let (service, method) = (String(parts[1].prefix(128)), parts[2].prefix(128))
    guard services.contains(service) else { throw RPCStatus(.unimplemented, "unknown service \(service)") }
    throw RPCStatus(.unimplemented, "unknown method \(method) for service \(service)")
  }
}
