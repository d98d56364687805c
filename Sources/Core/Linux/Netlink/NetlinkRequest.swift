// SPDX-License-Identifier: Apache-2.0

/// One requested change: the message, its name for errors, and the errno values that count as success.
///
/// Created by the factories in the file of each object (`.add(route)`, `.setUp(index)`), run by
/// `NetlinkSocket.perform`. A request can be run more than once, one run at a time.
package struct NetlinkRequest {
  let message: NetlinkMessage
  /// Verb and object; a closure, since the text is needed only on failure.
  let text: () -> String
  /// For a delete: the errno values for "nothing to delete".
  var gone: [Int32] = []
  /// For an add: decides the result after EEXIST. Nil if EEXIST is an error.
  var resolve: ((NetlinkSocket) throws(NetlinkError) -> NetlinkOutcome?)?
}

/// The result of a requested change. None of these is an error.
package enum NetlinkOutcome: Sendable, Hashable {
  /// The kernel changed its state, or accepted a set or replace.
  case done
  /// The object already existed, equal in all attributes of the request.
  case alreadySo
  /// There was nothing to delete.
  case alreadyGone
}
