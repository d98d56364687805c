// SPDX-License-Identifier: Apache-2.0

/// What outlives the agent: which attachment has which address, which addresses cool down, and what is being given back
/// to EC2.
///
/// Written by `CheckpointDocument`, read by `CheckpointReader`. Schema `vpc-cni-ipam/1` of amazon-vpc-cni-k8s, with three
/// members of our own (`cooldowns`, `returns`, `clock`) that amazon-vpc-cni-k8s ignores.
package struct Checkpoint: Sendable, Hashable {
  package var allocations: [CheckpointAllocation]
  package var cooldowns: [CheckpointCooldown]
  package var returns: [CheckpointReturn]
  /// Nil in a file of amazon-vpc-cni-k8s.
  package var clock: CheckpointClock?

  package init(
    allocations: [CheckpointAllocation] = [], cooldowns: [CheckpointCooldown] = [], returns: [CheckpointReturn] = [],
    clock: CheckpointClock? = nil
  ) {
    self.allocations = allocations
    self.cooldowns = cooldowns
    self.returns = returns
    self.clock = clock
  }

  /// The only version there is.
  package static let version = "vpc-cni-ipam/1"
  /// Where a node keeps it (network card 0).
  package static let path = "/var/run/aws-node/ipam.json"
}

/// One entry of `allocations`.
package struct CheckpointAllocation: Sendable, Hashable {
  package var key: AttachmentKey
  /// `ipv4` or `ipv6`, whichever the entry has.
  package var address: IPAddress
  /// Nanoseconds since 1970.
  package var unixNanoseconds: Int64
  package var pod: PodName
  /// At least 1; 0 and absence mean 1 (older versions wrote none).
  package var interfacesCount: Int

  package init(
    key: AttachmentKey, address: IPAddress, unixNanoseconds: Int64, pod: PodName, interfacesCount: Int = 1
  ) {
    self.key = key
    self.address = address
    self.unixNanoseconds = unixNanoseconds
    self.pod = pod
    self.interfacesCount = interfacesCount
  }
}

/// An address that was released and may not be given out before an instant.
package struct CheckpointCooldown: Sendable, Hashable {
  package var address: IPAddress
  /// Nanoseconds since 1970 at which the cooldown ends.
  package var untilUnixNanoseconds: Int64

  package init(address: IPAddress, untilUnixNanoseconds: Int64) {
    self.address = address
    self.untilUnixNanoseconds = untilUnixNanoseconds
  }
}

/// Something that the node gives back to EC2, written before the call: an address or prefix, or a whole ENI.
package struct CheckpointReturn: Sendable, Hashable {
  package enum Subject: Sendable, Hashable {
    /// The whole ENI is being detached or was.
    case eni(ENIID)
    /// An address or prefix is being unassigned from an ENI. The ENI is nil where EC2 has confirmed that.
    case cidr(IPPrefix, of: ENIID?)
  }
  package var subject: Subject
  /// Nil while EC2 has not confirmed it. Then: nanoseconds since 1970 until which a listing may lag and still show it.
  package var untilUnixNanoseconds: Int64?

  package init(_ subject: Subject, untilUnixNanoseconds: Int64? = nil) {
    self.subject = subject
    self.untilUnixNanoseconds = untilUnixNanoseconds
  }
}

/// What two clocks showed when the file was written. The calendar can be set between two runs of the agent; the clock
/// that counts from the machine's start cannot, so it tells how much time has really passed.
package struct CheckpointClock: Sendable, Hashable {
  /// /proc/sys/kernel/random/boot_id
  package var bootID: String
  package var time: PoolTime

  package init(bootID: String, time: PoolTime) {
    self.bootID = bootID
    self.time = time
  }
}

extension Checkpoint {
  /// The same checkpoint with its calendar times moved by as much as the calendar was set since the file was written.
  ///
  /// Where that is not known (another boot, or a file without a clock), every cooldown and every return rests its whole
  /// time again: an address that rests too long costs less than one that is given out too early.
  ///
  /// - Parameters:
  ///   - rest: how long addresses cool down; never longer than this.
  ///   - lag: how long listings may lag behind what was given back.
  package func translated(to now: PoolTime, bootID: String, rest: Duration, lag: Duration) -> Checkpoint {
    var result = self
    result.clock = nil
    guard let clock, clock.bootID == bootID, clock.time.instant <= now.instant else {
      for index in cooldowns.indices { result.cooldowns[index].untilUnixNanoseconds = now.unixNanoseconds(after: rest) }
      for index in returns.indices where returns[index].untilUnixNanoseconds != nil {
        result.returns[index].untilUnixNanoseconds = now.unixNanoseconds(after: lag)
      }
      return result
    }
    let expected = clock.time.unixNanoseconds(after: now.instant - clock.time.instant)
    let (shift, overflow) = now.unixNanoseconds.subtractingReportingOverflow(expected)
    // Below a second it is the calendar being slewed.
    guard !overflow, shift.magnitude >= 1_000_000_000 else { return result }
    for index in allocations.indices { result.allocations[index].unixNanoseconds &+= shift }
    for index in cooldowns.indices { result.cooldowns[index].untilUnixNanoseconds &+= shift }
    for index in returns.indices {
      result.returns[index].untilUnixNanoseconds = returns[index].untilUnixNanoseconds.map { $0 &+ shift }
    }
    return result
  }
}

extension PoolTime {
  /// Nanoseconds since 1970 of a moment that much later; saturates.
  package func unixNanoseconds(after wait: Duration) -> Int64 {
    let (sum, overflow) = unixNanoseconds.addingReportingOverflow(wait.saturatedNanoseconds)
    return overflow ? Int64.max : sum
  }
}
