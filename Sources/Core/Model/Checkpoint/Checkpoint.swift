// SPDX-License-Identifier: Apache-2.0

/// The state that outlives the agent: the attachments' addresses, the cooldowns, and unassigns and detaches in
/// progress.
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
  /// Its path on a node (network card 0).
  package static let path = "/var/run/aws-node/ipam.json"

  /// The file of one network card: `ipam.json`, `ipam-nic-1.json`, … Source: contract of amazon-vpc-cni-k8s v1.23.
  ///
  /// - Parameter base: that of card 0.
  package static func path(_ base: String, card: Int) -> String {
    guard card > 0 else { return base }
    let stem = base.hasSuffix(".json") ? String(base.dropLast(5)) : base
    return "\(stem)-nic-\(card).json"
  }
}

/// One entry of `allocations`.
package struct CheckpointAllocation: Sendable, Hashable {
  package var key: AttachmentKey
  /// `ipv4` or `ipv6`, whichever the entry has.
  package var address: IPAddress
  /// Nanoseconds since 1970.
  package var unixNanoseconds: Int64
  package var pod: PodName
  /// At least 1; 0 or a missing field means 1 (older versions wrote none).
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

/// A released address that may not be assigned before an instant.
package struct CheckpointCooldown: Sendable, Hashable {
  package var address: IPAddress
  /// Nanoseconds since 1970 at which the cooldown ends.
  package var untilUnixNanoseconds: Int64

  package init(address: IPAddress, untilUnixNanoseconds: Int64) {
    self.address = address
    self.untilUnixNanoseconds = untilUnixNanoseconds
  }
}

/// An unassign or detach, written before the call: of an address or prefix, or a whole ENI.
package struct CheckpointReturn: Sendable, Hashable {
  package enum Subject: Sendable, Hashable {
    /// The whole ENI is being detached or was.
    case eni(ENIID)
    /// An address or prefix is being or was unassigned from an ENI; nil if the ENI is unknown.
    case cidr(IPPrefix, of: ENIID?)
  }
  package var subject: Subject
  /// Nil while EC2 has not confirmed it. Afterwards: nanoseconds since 1970 until which a lagging listing may still
  /// show it.
  package var untilUnixNanoseconds: Int64?

  package init(_ subject: Subject, untilUnixNanoseconds: Int64? = nil) {
    self.subject = subject
    self.untilUnixNanoseconds = untilUnixNanoseconds
  }
}

/// The values of two clocks when the file was written. The wall clock can be changed between two runs of the agent; the
/// boot-time clock cannot, so it shows how much time has really passed.
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
  /// The same checkpoint with its wall-clock times shifted by the clock change since the file was written.
  ///
  /// If the change is unknown (another boot, or a file without a clock), every cooldown and return starts over: an
  /// address that is reused too late costs less than one reused too early.
  ///
  /// - Parameters:
  ///   - rest: the cooldown, which is also the maximum.
  ///   - lag: how long listings may lag behind an unassign.
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
    // Below a second the wall clock is only being slewed.
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
