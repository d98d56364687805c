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
