// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCCloud
internal import VPCModel

/// Facts about each ENI beyond what the pool needs: its link, its attachment, and tags or attributes still missing in
/// EC2.
final class ENIDirectory: Sendable {
  struct Entry: Sendable, Hashable {
    var mac: MACAddress
    var subnet: SubnetID
    var device: Int
    var card = 0
    var isManaged: Bool
    /// `eni-attach-…`; nil until EC2 has returned it.
    var attachmentID: String?
    /// The ENI's own address.
    var primaryAddress: IPAddress?
    /// Its security groups if an agent set them; nil if somebody else did: those stay until the primary's groups
    /// change.
    var groups: Set<String>?
    /// Managed, but without DeleteOnTermination: an agent died between the two calls.
    var isUnmarked = false
    /// Tags that it lacks.
    var missingTags: [String: String] = [:]

    var isPrimary: Bool { device == 0 && card == 0 }
    var needsCare: Bool { isUnmarked || !missingTags.isEmpty }
  }

  private struct Content {
    var entries: [ENIID: Entry] = [:]
    var enteredAt: [ENIID: ContinuousClock.Instant] = [:]
    var subnets: [SubnetID: IPPrefix] = [:]
    /// ENIs that are being attached.
    var coming: Set<ENIID> = []
    /// Detached ENIs: IMDS shows them for a while.
    var gone: [ENIID: ContinuousClock.Instant] = [:]
    var changedAt: ContinuousClock.Instant?
    /// Log messages about ENIs that are not repeated.
    var told: Set<String> = []
  }

  private let content = Mutex(Content())
  /// Rung when an entry needs care.
  let careBell = Bell()

  /// How long IMDS may lag behind EC2.
  static let imdsLag = Duration.seconds(60)

  func set(_ entry: Entry, for eni: ENIID) {
    content.withLock { content in
      if content.entries.updateValue(entry, forKey: eni) == nil { content.enteredAt[eni] = .now }
      content.gone[eni] = nil
    }
    if entry.needsCare { careBell.ring() }
  }

  func entry(for eni: ENIID) -> Entry? { content.withLock { $0.entries[eni] } }

  var entries: [ENIID: Entry] { content.withLock { $0.entries } }

  /// Changes a known entry; does nothing if there is none.
  func update(_ eni: ENIID, _ change: (inout Entry) -> Void) {
    content.withLock { content in
      guard var entry = content.entries[eni] else { return }
      change(&entry)
      content.entries[eni] = entry
    }
  }

  func remove(_ eni: ENIID) {
    content.withLock { content in
      content.entries[eni] = nil
      content.enteredAt[eni] = nil
      content.gone[eni] = .now
      content.gone = content.gone.filter { $0.value.duration(to: .now) < ENIDirectory.imdsLag * 2 }
    }
  }

  /// Removes entries that a listing lacks, unless they were added after the listing was requested.
  func prune(to listed: Set<ENIID>, askedAt: ContinuousClock.Instant) {
    content.withLock { content in
      for (eni, entered) in content.enteredAt where !listed.contains(eni) && entered < askedAt {
        content.entries[eni] = nil
        content.enteredAt[eni] = nil
      }
    }
  }

  /// Whether a message is logged for the first time.
  func isNews(_ text: String) -> Bool {
    content.withLock { content in content.told.count < 1000 && content.told.insert(text).inserted }
  }

  /// The CIDR of a subnet in which this node has or may create an ENI.
  func cidr(of subnet: SubnetID) -> IPPrefix? { content.withLock { $0.subnets[subnet] } }

  func setCIDR(_ cidr: IPPrefix, of subnet: SubnetID) { content.withLock { $0.subnets[subnet] = cidr } }

  // MARK: on the way

  func setComing(_ eni: ENIID, _ isComing: Bool) {
    content.withLock { content in
      if isComing { content.coming.insert(eni) } else { content.coming.remove(eni) }
    }
  }

  /// Whether IMDS may lag behind the agent's own recent changes.
  func isInTransit(_ eni: ENIID) -> Bool {
    content.withLock { content in
      if content.coming.contains(eni) { return true }
      return content.gone[eni].map { $0.duration(to: .now) < ENIDirectory.imdsLag * 2 } ?? false
    }
  }

  /// Records that the agent is changing something in EC2 now.
  func noteChange() { content.withLock { $0.changedAt = .now } }

  /// When the agent last changed something in EC2.
  var changedAt: ContinuousClock.Instant? { content.withLock { $0.changedAt } }
}
