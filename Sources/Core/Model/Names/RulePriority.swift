// SPDX-License-Identifier: Apache-2.0

/// Priorities of the policy rules that a node holds. The kernel asks them in rising order.
package enum RulePriority {
  /// `lookup PODS`; in the per-pod scheme `to POD lookup main`, one for each pod.
  package static let toPod: UInt32 = 512
  /// `fwmark 0x80/0x80 lookup main`: what was SNATed or came in through a NodePort leaves by the primary ENI.
  package static let primaryMark: UInt32 = 1024
  /// `to CIDR lookup main` for AWS_EXTERNAL_SERVICE_CIDRS.
  package static let externalService: UInt32 = 1535
  /// `fwmark N/MASK lookup ENI-TABLE`; in the per-pod scheme `from POD lookup ENI-TABLE`, one for each pod.
  package static let fromPod: UInt32 = 1536
  /// `not iif lo goto 32766`: only the node's own packets are asked whether they come from an ENI's address. Without it
  /// every packet that the node forwards walks the rules of all ENIs, twice where it comes from outside.
  package static let pastENIs: UInt32 = 32764
  /// `from ENI-ADDRESS lookup ENI-TABLE`, one for each secondary ENI.
  package static let fromENI: UInt32 = 32765
  /// The kernel's own rule `lookup main`.
  package static let main: UInt32 = 32766
}
