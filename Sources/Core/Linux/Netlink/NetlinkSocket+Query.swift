// SPDX-License-Identifier: Apache-2.0

internal import CNetlink

extension NetlinkSocket {
  /// Asks for one object.
  ///
  /// - Parameter absent: the errno values for "does not exist".
  /// - Returns: nil if it does not exist.
  func get<Value>(
    _ request: NetlinkRequest, absent: [Int32], transform: (NetlinkReply) -> Value?
  ) throws(NetlinkError) -> Value? {
    var value: Value?
    let failures = try exchange([request]) { (_, reply) throws(NetlinkError) in value = transform(reply) }
    if let failure = failures.first, let failure {
      if absent.contains(failure.errno) { return nil }
      throw NetlinkError(errno: failure.errno, request: request.text(), kernelText: failure.text)
    }
    guard let value else { throw NetlinkError(code: .malformed, request: request.text()) }
    return value
  }
}
