// SPDX-License-Identifier: Apache-2.0

/// Priorities of a node's policy rules. The kernel evaluates them in ascending order.
package enum RulePriority {
  /// `lookup PODS`; in the per-pod scheme `to POD lookup main`, one for each pod.
  package static let toPod: UInt32 = 512
  /// `fwmark 0x80/0x80 lookup main`: SNAT and NodePort traffic leaves by the primary ENI.
  package static let primaryMark: UInt32 = 1024
  /// `to CIDR lookup main` for AWS_EXTERNAL_SERVICE_CIDRS.
  package static let externalService: UInt32 = 1535
  /// `fwmark N/MASK lookup ENI-TABLE`; in the per-pod scheme `from POD lookup ENI-TABLE`, one for each pod.
  package static let fromPod: UInt32 = 1536
  /// `not iif lo goto 32766`: only the node's own packets are compared with the ENIs' addresses. Without it every
  /// forwarded packet walks the rules of all ENIs, twice if it comes from outside.
  package static let pastENIs: UInt32 = 32764
  /// `from ENI-ADDRESS lookup ENI-TABLE`, one for each secondary ENI.
  package static let fromENI: UInt32 = 32765
  /// The kernel's own rule `lookup main`.
  package static let main: UInt32 = 32766
}
