// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The pool's operations on EC2 and on the node's kernel. Each operation ends with its own kind of result and reports
/// anything left half done.
protocol ENIOperations: Sendable {
  /// Creates an ENI with its addresses, attaches it, sets DeleteOnTermination.
  ///
  /// - Parameter held: called with the call's name each time EC2 throttles it and it is retried.
  func attach(_ request: AttachRequest, held: @escaping @Sendable (String) -> Void) async -> ActionResult
  /// Adds addresses or prefixes to an ENI in EC2.
  func assign(_ count: Int, _ kind: CIDRKind, to eni: ENIID) async -> ActionResult
  /// Unassigns addresses or prefixes in EC2.
  func unassign(_ cidrs: [IPPrefix], from eni: ENIID) async -> ActionResult
  /// Detaches and deletes an ENI.
  func free(_ eni: ENIID) async -> ActionResult
  /// Asks EC2 for all ENIs of the instance.
  func list() async -> ActionResult
  /// Brings the node's kernel to the wanted state, within the scope (`NodeNetwork.converge`).
  func converge(to wanted: WantedENIs, _ scope: NodeNetwork.Scope) async throws
}
