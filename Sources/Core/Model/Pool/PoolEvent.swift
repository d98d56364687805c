// SPDX-License-Identifier: Apache-2.0

/// Something that happened, passed to the pool by `Pool.handle`.
package enum PoolEvent: Sendable {
  /// The first event: what is attached, and what the checkpoint says is in use. Repeating it is ignored.
  case started(PoolStart)
  /// CNI ADD: one answer for this waiter follows, in this batch or in a later one, by its deadline at the latest
  /// (as far as ticks are fed).
  case add(AddRequest)
  /// The caller of an ADD went away. A waiter that was answered already is ignored: its DEL will come.
  case addCancelled(WaiterID)
  /// CNI DEL: one answer follows in the same batch.
  case delete(AttachmentKey, WaiterID)
  /// An action has ended. An unknown identifier is ignored.
  case ended(ActionID, ActionResult)
  /// EC2 throttled a call of an action in progress; the action continues. Used for the cause in refusals.
  case held(ActionID, call: String)
  /// EC2 has carried out an `assign` or `unassign` in progress: `Pool.wantedENIs` includes it from now on. The action ends
  /// when the kernel has followed.
  case carriedOut(ActionID, [IPPrefix])
  /// An EC2 listing that the pool did not request.
  case observed(ENIListing)
  /// The checkpoint of a batch could not be written. The actor has withheld the `assigned` answers of the batch and
  /// names them here; the assignments made for them are undone, and each is answered with `checkpointNotWritten`.
  case checkpointFailed([UnsentAnswer], reason: String)
  /// Only time passed; requested by `PoolAction.wake`.
  case tick
  /// The node's capacity of pods became known or changed.
  case maxPods(Int)
  /// So many addresses belong to pods whose host side is gone, although no DEL came (`AbandonedPods`).
  case endedPods(Int)
  /// The node was cordoned (false) or uncordoned (true).
  case schedulable(Bool)
  /// The subnets for new ENIs, best first. Before the first event, the primary ENI's subnet.
  case subnets([SubnetID])
  /// The subnet for new ENIs is unknown, with the reason: no ENI is created until `subnets`.
  case subnetsUnknown(String)
  /// SIGTERM: no more EC2 calls, waiters are answered now.
  case shutdown
}

/// Names one ADD or DEL that waits for an answer; chosen by the actor, never reused.
package struct WaiterID: Sendable, Hashable {
  package let number: UInt64
  package init(_ number: UInt64) { self.number = number }
}

/// Identifies one action of the pool; chosen by the pool, ascending, never reused.
package struct ActionID: Sendable, Hashable, Comparable {
  package let number: UInt64
  package init(_ number: UInt64) { self.number = number }
  package static func < (left: ActionID, right: ActionID) -> Bool { left.number < right.number }
}

/// What the pool starts from.
package struct PoolStart: Sendable {
  /// Every ENI attached, unmanaged ones too.
  package var enis: [ENIObservation]
  /// Allocations of the checkpoint whose pods still exist, its cooldowns, and unassigns in progress.
  package var checkpoint: Checkpoint
  /// True if only IMDS shows the ENIs and the checkpoint, which knows recent unassigns, is damaged or missing: no
  /// address is assigned until IMDS has caught up.
  package var restsUnproven: Bool
  /// CIDRs of running pods that the kernel routes by a different ENI than the listing shows; the value is the listing's
  /// ENI. `enis` does not contain them.
  package var contested: [IPPrefix: ENIID] = [:]

  package init(enis: [ENIObservation], checkpoint: Checkpoint = Checkpoint(), restsUnproven: Bool = false) {
    self.enis = enis
    self.checkpoint = checkpoint
    self.restsUnproven = restsUnproven
  }
}

/// One ADD.
package struct AddRequest: Sendable {
  package var waiter: WaiterID
  package var key: AttachmentKey
  package var pod: PodName
  /// When the caller stops waiting.
  package var deadline: PoolInstant
  /// The pod's number of interfaces; written to the checkpoint.
  package var interfacesCount: Int

  package init(
    waiter: WaiterID, key: AttachmentKey, pod: PodName, deadline: PoolInstant, interfacesCount: Int = 1
  ) {
    self.waiter = waiter
    self.key = key
    self.pod = pod
    self.deadline = deadline
    self.interfacesCount = interfacesCount
  }
}

/// An answer that was held back because its checkpoint could not be written.
package struct UnsentAnswer: Sendable, Hashable {
  package let waiter: WaiterID
  package let assignment: Assignment

  package init(waiter: WaiterID, assignment: Assignment) {
    self.waiter = waiter
    self.assignment = assignment
  }
}

/// All ENIs of the instance at one moment.
package struct ENIListing: Sendable {
  package var enis: [ENIObservation]
  /// When it was requested: later changes of the pool are not compared with it.
  package var askedAt: PoolInstant
  /// False for IMDS, which lags: such a listing can add, but never remove.
  package var isAuthoritative: Bool

  package init(enis: [ENIObservation], askedAt: PoolInstant, isAuthoritative: Bool) {
    self.enis = enis
    self.askedAt = askedAt
    self.isAuthoritative = isAuthoritative
  }
}

/// How an action ended.
package enum ActionResult: Sendable {
  /// `attachENI`: created, attached, DeleteOnTermination set.
  case attached(ENIObservation)
  /// `assign`: only what was added to the ENI.
  case assigned([IPPrefix])
  /// `unassign`, `freeENI` and `wireENI`: done, or already in that state.
  case done
  /// `listENIs`.
  case listed(ENIListing)
  case failed(ActionFailure)
}

/// Why an action failed, and whether EC2 may have done it anyway.
package struct ActionFailure: Error, Sendable, Hashable {
  package enum Fault: Sendable, Hashable {
    /// RequestLimitExceeded and the like, with the call's name.
    case throttled(call: String)
    /// UnauthorizedOperation, with the permission, such as `ec2:AssignPrivateIpAddresses`.
    case unauthorized(permission: String)
    /// InsufficientFreeAddressesInSubnet, or InvalidParameterValue that speaks of insufficient free addresses.
    case subnetFull
    /// InsufficientCidrBlocks: no block of the delegated size; single addresses may be free.
    case noFreePrefix
    /// PrivateIpAddressLimitExceeded: EC2 has more addresses on the ENI than the pool knows.
    case addressLimit
    /// InvalidParameterValue, "Some of […] are not assigned to interface": EC2 no longer has some of the CIDRs.
    case notAssigned
    /// AttachmentLimitExceeded: more is attached than the pool knows of, or volumes take the instance's slots.
    case attachmentLimit
    /// The device index is taken.
    case deviceTaken
    /// InvalidNetworkInterfaceID.NotFound: the ENI is gone.
    case eniGone
    /// Anything else, in words; it is retried.
    case other(String)
  }

  package let fault: Fault
  /// True if the answer was lost, so EC2 may have done it.
  package let mayBeDone: Bool
  /// EC2's message, short enough for a pod's event; empty if EC2 did not answer.
  package let words: String
  /// For the log only: EC2's full message with the encoded authorization failure; empty if `fault` already says it.
  package let record: String

  package init(_ fault: Fault, mayBeDone: Bool = false, words: String = "", record: String = "") {
    self.fault = fault
    self.mayBeDone = mayBeDone
    self.words = words
    self.record = record
  }
}
