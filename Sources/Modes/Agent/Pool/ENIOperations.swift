// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// What the pool can ask of EC2 and of the node's kernel. Each operation ends with a result of its own kind and leaves
/// nothing half done that it does not report.
protocol ENIOperations: Sendable {
  /// Creates an ENI with its addresses, attaches it, marks it to go with the instance.
  ///
  /// - Parameter held: called each time that EC2 refuses a call of it for its rate and it is tried again; the call's name.
  func attach(_ request: AttachRequest, held: @escaping @Sendable (String) -> Void) async -> ActionResult
  /// Brings up link, table, rule and source map of an attached ENI, and verifies them.
  func wire(_ eni: ENIObservation) async -> ActionResult
  /// Adds addresses or prefixes to an ENI and to the source map.
  func assign(_ count: Int, _ kind: CIDRKind, to eni: ENIID) async -> ActionResult
  /// Gives addresses or prefixes back to EC2, then takes them out of the source map.
  func unassign(_ cidrs: [IPPrefix], from eni: ENIID) async -> ActionResult
  /// Takes the ENI's rules and routes down, detaches and deletes it.
  func free(_ eni: ENIID) async -> ActionResult
  /// Asks EC2 for all ENIs of the instance.
  func list() async -> ActionResult
}
