// SPDX-License-Identifier: Apache-2.0

/// Something that happened, told to the pool by `Pool.handle`.
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
  /// An action that the pool asked for has ended. An unknown identifier is ignored.
  case ended(ActionID, ActionResult)
  /// EC2 refused a call of an action under way for its rate; the action goes on. For the cause that waiters are told.
  case held(ActionID, call: String)
  /// What EC2 says of every ENI attached, without having been asked for by the pool.
  case observed(ENIListing)
  /// The checkpoint of a batch could not be written. The actor has withheld the `assigned` answers of the batch and
  /// names them here; the assignments made for them are undone, and each is answered with `checkpointNotWritten`.
  case checkpointFailed([UnsentAnswer], reason: String)
  /// Nothing but time passed; asked for by `PoolAction.wake`.
  case tick
  /// The node's capacity of pods became known or changed.
  case maxPods(Int)
  /// The node was cordoned (false) or uncordoned (true).
  case schedulable(Bool)
  /// The subnets in which new ENIs may be made, best first. Until told, the primary ENI's.
  case subnets([SubnetID])
  /// It is not known in which subnet new ENIs must be made, and why: until `subnets` none is made.
  case subnetsUnknown(String)
  /// SIGTERM: nothing more is asked of EC2, waiters are answered now.
  case shutdown
}

/// Names one ADD or DEL that waits for an answer; chosen by the actor, never reused.
package struct WaiterID: Sendable, Hashable {
  package let number: UInt64
  package init(_ number: UInt64) { self.number = number }
}

/// Names one action that the pool asked for; chosen by the pool, rising, never reused.
package struct ActionID: Sendable, Hashable, Comparable {
  package let number: UInt64
  package init(_ number: UInt64) { self.number = number }
  package static func < (left: ActionID, right: ActionID) -> Bool { left.number < right.number }
}

/// What the pool starts from.
package struct PoolStart: Sendable {
  /// Every ENI attached, unmanaged ones too.
  package var enis: [ENIObservation]
  /// Allocations of the checkpoint whose pods still exist, its cooldowns, and what was being given back.
  package var checkpoint: Checkpoint
  /// True where IMDS alone shows what is attached and the checkpoint, which would know what was given back a moment ago,
  /// is damaged or gone: no address is given out before IMDS cannot lag any more.
  package var restsUnproven: Bool
  /// CIDRs that running pods use by another ENI than the one that the listing showed, which is named here. They are left
  /// out of `enis`.
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
  /// How many interfaces the pod gets in all; written into the checkpoint.
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
  /// When the request for it was sent: what the pool changed later is not judged by it.
  package var askedAt: PoolInstant
  /// False for IMDS, which lags: it can then show what is new, but never take anything away.
  package var isAuthoritative: Bool

  package init(enis: [ENIObservation], askedAt: PoolInstant, isAuthoritative: Bool) {
    self.enis = enis
    self.askedAt = askedAt
    self.isAuthoritative = isAuthoritative
  }
}

/// How an action ended.
package enum ActionResult: Sendable {
  /// `attachENI`: created, attached, marked to go with the instance.
  case attached(ENIObservation)
  /// `assign`: exactly what was added to the ENI, nothing that was there before.
  case assigned([IPPrefix])
  /// `unassign`, `freeENI` and `wireENI`: done. What was already so is done too.
  case done
  /// `listENIs`.
  case listed(ENIListing)
  case failed(ActionFailure)
}

/// Why an action did not succeed, and whether it may have been done all the same.
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
    /// PrivateIpAddressLimitExceeded: EC2 counts more on the ENI than the pool does.
    case addressLimit
    /// AttachmentLimitExceeded: more is attached than the pool knows of, or volumes take the instance's slots.
    case attachmentLimit
    /// The device index is taken.
    case deviceTaken
    /// InvalidNetworkInterfaceID.NotFound: the ENI is gone.
    case eniGone
    /// Anything else, in words; it is tried again.
    case other(String)
  }

  package let fault: Fault
  /// True where the answer was lost, so that EC2 may have done it.
  package let mayBeDone: Bool
  /// EC2's own message, short enough for a pod's event; empty where it did not answer.
  package let words: String
  /// For the log alone: all that EC2 said, with what only an administrator can decode; empty where `fault` says it.
  package let record: String

  package init(_ fault: Fault, mayBeDone: Bool = false, words: String = "", record: String = "") {
    self.fault = fault
    self.mayBeDone = mayBeDone
    self.words = words
    self.record = record
  }
}
