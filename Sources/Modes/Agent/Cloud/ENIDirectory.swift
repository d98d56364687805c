// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCCloud
internal import VPCModel

/// What is known of each ENI beyond what the pool needs: how to find its link, and how to take it off again.
final class ENIDirectory: Sendable {
  struct Entry: Sendable, Hashable {
    var mac: MACAddress
    var subnet: SubnetID
    /// `eni-attach-…`; nil until EC2 has said it.
    var attachmentID: String?
    var isPrimary: Bool
    /// Ours, and not marked to go with the instance: an agent died between the two calls.
    var isUnmarked = false
  }

  private struct Content {
    var entries: [ENIID: Entry] = [:]
    var subnets: [SubnetID: IPPrefix] = [:]
  }

  private let content = Mutex(Content())

  func set(_ entry: Entry, for eni: ENIID) { content.withLock { $0.entries[eni] = entry } }

  func entry(for eni: ENIID) -> Entry? { content.withLock { $0.entries[eni] } }

  func remove(_ eni: ENIID) { _ = content.withLock { $0.entries.removeValue(forKey: eni) } }

  /// The CIDR of a subnet that some ENI of this node is in.
  func cidr(of subnet: SubnetID) -> IPPrefix? { content.withLock { $0.subnets[subnet] } }

  func setCIDR(_ cidr: IPPrefix, of subnet: SubnetID) { content.withLock { $0.subnets[subnet] = cidr } }

  var unmarked: [ENIID: Entry] { content.withLock { $0.entries.filter(\.value.isUnmarked) } }
}
