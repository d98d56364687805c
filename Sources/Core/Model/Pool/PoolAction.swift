// SPDX-License-Identifier: Apache-2.0

/// Something that the pool wants done. The actor starts the actions of a batch in the given order; those with an
/// `ActionID` end with one `PoolEvent.ended`, in any order and concurrently.
package enum PoolAction: Sendable, Hashable {
  /// Write the checkpoint (`Pool.checkpoint`) before any answer of this batch is sent. Always first in its batch. If it
  /// fails: send the `released` answers anyway (a restart finds no veth and drops the entry), withhold the `assigned`
  /// ones and feed `PoolEvent.checkpointFailed`.
  case persist
  /// Answer an ADD.
  case answerAdd(WaiterID, AddAnswer)
  /// Answer a DEL.
  case answerDelete(WaiterID, DeleteAnswer)
  /// Create an ENI with its addresses in the same call, attach it, set delete-on-termination. Ends with `attached`,
  /// or with a failure after which nothing is left behind unless `mayBeDone`.
  case attachENI(ActionID, AttachRequest)
  /// Assign addresses or prefixes to an ENI, feed `carriedOut`, and bring the kernel to `Pool.wantedENIs` before ending
  /// with `assigned`: the pool uses them at once.
  case assign(ActionID, ENIID, CIDRKind, count: Int)
  /// Unassign addresses or prefixes, feed `carriedOut`, and bring the kernel to `Pool.wantedENIs`.
  case unassign(ActionID, ENIID, [IPPrefix])
  /// Remove the ENI's network setup, detach and delete it.
  case freeENI(ActionID, ENIID)
  /// Set up and verify link, table, rules and source map of an ENI. None of its addresses is assigned before this ends
  /// with `done`.
  case wireENI(ActionID, ENIObservation)
  /// Ask EC2 for all ENIs of the instance. Ends with `listed`.
  case listENIs(ActionID)
  /// Feed `tick` at this instant or soon after. Replaces an earlier wake; ticks at other times are harmless.
  case wake(at: PoolInstant)

  /// The identifier of an action that must end with `PoolEvent.ended`.
  package var id: ActionID? {
    switch self {
    case .attachENI(let id, _), .assign(let id, _, _, _), .unassign(let id, _, _), .freeENI(let id, _),
      .wireENI(let id, _), .listENIs(let id):
      id
    case .persist, .answerAdd, .answerDelete, .wake: nil
    }
  }
}

/// The kind to request: single secondary addresses or delegated prefixes.
package enum CIDRKind: UInt8, Sendable, Hashable {
  case address
  case prefix
}

/// A new ENI.
package struct AttachRequest: Sendable, Hashable {
  /// The lowest index that no attached or requested ENI has.
  package let device: Int
  package let card: Int
  package let subnet: SubnetID
  package let kind: CIDRKind
  /// How many addresses (beside the ENI's own) or prefixes, at least 1.
  package let count: Int
}

/// An address in use by one attachment.
package struct Assignment: Sendable, Hashable {
  package let key: AttachmentKey
  package let pod: PodName
  package let address: IPAddress
  /// Nil if EC2 removed the address while the pod kept it.
  package let eni: ENIID?
  package let device: Int
  package let card: Int
  /// The ENI's table; `main` for the primary.
  package let routeTable: RouteTable
  /// Nanoseconds since 1970 at which it was assigned.
  package let assignedUnixNanoseconds: Int64
  package let interfacesCount: Int
  /// False if the same attachment already had the address.
  package let isNew: Bool
}

package enum AddAnswer: Sendable, Hashable {
  case assigned(Assignment)
  case failed(FailureCause)
}

package enum DeleteAnswer: Sendable, Hashable {
  case released(Assignment)
  /// `datastore: unknown pod` of amazon-vpc-cni-k8s: success for the runtime.
  case unknown
}
