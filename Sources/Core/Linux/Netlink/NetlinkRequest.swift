// SPDX-License-Identifier: Apache-2.0

/// One change to ask of the kernel: the message, its name for errors, and which errno values mean that all is well.
///
/// Made by the factories in the file of each object (`.add(route)`, `.setUp(index)`), run by `NetlinkSocket.perform`.
/// A request can be run more than once, one run at a time.
package struct NetlinkRequest {
  let message: NetlinkMessage
  /// Verb and object; a closure, since the text is needed on failure alone.
  let text: () -> String
  /// For a delete: the errno values that mean that there was nothing to delete.
  var gone: [Int32] = []
  /// For an add: decides, after EEXIST, what it comes to. Nil where EEXIST is an error, or where this returns nil.
  var resolve: ((NetlinkSocket) throws(NetlinkError) -> NetlinkOutcome?)?
}
