// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// Pods' host veths as the agent first saw them.
///
/// The plugin gives a veth its MAC when it makes it, and the pod's permanent neighbour entry names that MAC. The agent
/// cannot look into pods, so it uses the MAC at first sight: from the kernel's notification of the new link, or the
/// list at startup (docs/decisions/0021). Two dictionary entries per pod, removed with the link.
struct PodVeths: Sendable {
  struct Veth: Sendable, Hashable {
    let name: String
    let mac: MACAddress?
  }

  /// AWS_VPC_K8S_CNI_VETHPREFIX.
  let prefix: String
  /// The same, plus other prefixes of running pods' veths.
  private(set) var prefixes: Set<String>
  /// Number of veths that have gone.
  private(set) var gone: UInt64 = 0
  private var byIndex: [UInt32: Veth] = [:]
  /// Two if the setting changed between two sandboxes of one pod.
  private var bySuffix: [String: [UInt32]] = [:]

  init(prefix: String) {
    self.prefix = prefix
    prefixes = [prefix]
  }

  subscript(index: UInt32) -> Veth? { byIndex[index] }
  func contains(_ index: UInt32) -> Bool { byIndex[index] != nil }
  var count: Int { byIndex.count }

  /// The index of a pod's veth: the newest of that pod.
  ///
  /// - Parameter suffix: `HostVethName.suffix`.
  func index(suffix: String) -> UInt32? { bySuffix[suffix]?.max() }

  /// From now on, only veths with these prefixes count as pods'.
  mutating func recognise(_ earlier: [String]) {
    prefixes = Set(earlier + [prefix])
    for (index, veth) in byIndex where !isPods(veth.name) { forget(index) }
  }

  private func isPods(_ name: String) -> Bool { HostVethName.split(name).map { prefixes.contains($0.prefix) } ?? false }

  /// Records a link when it is first seen. Anything but a pod's veth is ignored.
  mutating func see(_ link: Link) {
    guard byIndex[link.index] == nil, link.kind == "veth", let name = HostVethName.split(link.name),
      prefixes.contains(name.prefix)
    else { return }
    byIndex[link.index] = Veth(name: link.name, mac: link.mac)
    bySuffix[name.suffix, default: []].append(link.index)
  }

  mutating func forget(_ index: UInt32) {
    guard let veth = byIndex.removeValue(forKey: index) else { return }
    gone &+= 1
    guard let suffix = HostVethName.split(veth.name)?.suffix else { return }
    bySuffix[suffix]?.removeAll { $0 == index }
    if bySuffix[suffix]?.isEmpty ?? false { bySuffix[suffix] = nil }
  }

  /// Records all existing links; others are gone.
  mutating func see(all links: some Sequence<Link>) {
    var present: Set<UInt32> = []
    for link in links {
      present.insert(link.index)
      see(link)
    }
    for index in byIndex.keys where !present.contains(index) { forget(index) }
  }

  /// - Returns: the links that were new.
  mutating func follow(_ changes: NodeChanges) -> Set<UInt32> {
    var fresh: Set<UInt32> = []
    for (index, change) in changes.links {
      if change.now == nil {
        forget(index)
      } else if byIndex[index] == nil {
        see(change.first)
        fresh.insert(index)
      }
    }
    return fresh
  }
}
