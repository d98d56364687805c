// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The pool's operations on EC2 and on the node's kernel. Each operation ends with its own kind of result and reports
/// anything left half done.
protocol ENIOperations: Sendable {
  /// Creates an ENI with its addresses, attaches it, sets DeleteOnTermination.
  ///
  /// - Parameter held: called with the call's name each time EC2 throttles it and it is retried.
  func attach(_ request: AttachRequest, held: @escaping @Sendable (String) -> Void) async -> ActionResult
  /// Brings up link, table, rule and source map of an attached ENI, and verifies them.
  func wire(_ eni: ENIObservation) async -> ActionResult
  /// Adds addresses or prefixes to an ENI and to the source map.
  func assign(_ count: Int, _ kind: CIDRKind, to eni: ENIID) async -> ActionResult
  /// Unassigns addresses or prefixes, then removes them from the source map.
  func unassign(_ cidrs: [IPPrefix], from eni: ENIID) async -> ActionResult
  /// Removes the ENI's rules and routes, detaches and deletes it.
  func free(_ eni: ENIID) async -> ActionResult
  /// Asks EC2 for all ENIs of the instance.
  func list() async -> ActionResult
}
