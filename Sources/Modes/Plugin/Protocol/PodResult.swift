// SPDX-License-Identifier: Apache-2.0

import VPCLinux
import VPCModel

/// How a pod's wiring is written into a CNI result and read from a `prevResult`.
///
/// | position | name | sandbox | mac |
/// |---|---|---|---|
/// | 2i | host veth | empty | empty |
/// | 2i + 1 | the pod's interface | path of the namespace | the ENI's routing table, decimal |
/// | last | `dummy` and 11 hex digits, never created | the ENI's device number | `0`; for a branch ENI its VLAN id |
///
/// amazon-vpc-cni-k8s reads the same positions on DEL, so that a pod added by one can be deleted by the other. Other
/// chained plugins append interfaces after the last. Source: contract of amazon-vpc-cni-k8s v1.23, section 4.4.
enum PodResult {
  /// - Parameters:
  ///   - network: the completed wiring.
  ///   - netns: CNI_NETNS.
  ///   - deviceNumber: of the ENI that owns the first address.
  ///   - arguments: the pod's names, from which the dummy's name derives.
  static func make(
    network: PodNetwork, netns: String, deviceNumber: Int32, arguments: PodArguments
  ) -> CNIResult {
    var result = CNIResult()
    for interface in network.interfaces {
      result.interfaces.append(.init(name: interface.hostName.text))
      result.interfaces.append(
        .init(name: interface.podName.text, mac: interface.eniTable.description, sandbox: netns))
      result.addresses.append(
        .init(prefix: AssignedAddress(single: interface.address), interface: result.interfaces.count - 1))
    }
    result.interfaces.append(.init(name: dummyName(arguments), mac: "0", sandbox: String(deviceNumber)))
    return result
  }

  /// The name of the entry that carries VLAN id and device number.
  static func dummyName(_ arguments: PodArguments) -> String {
    "dummy" + HostVethName.suffix(namespace: arguments.podNamespace, pod: arguments.podName)
  }

  /// The name of a pod's interface `index`: CNI_IFNAME, then `mNicIf1`, `mNicIf2`…
  static func podInterfaceName(_ index: Int, first: InterfaceName) -> InterfaceName? {
    index == 0 ? first : InterfaceName("mNicIf\(index)")
  }
}

/// A pod's wiring as read from a `prevResult` of this plugin or of amazon-vpc-cni-k8s.
struct PreviousPod: Sendable, Hashable {
  struct Interface: Sendable, Hashable {
    let index: Int
    let podName: InterfaceName
    /// The host end; nil if the list has none of this pod.
    let hostName: InterfaceName?
    let address: IPAddress
    /// The ENI's table; main if the result does not say.
    let eniTable: RouteTable
    /// The path of the pod's namespace at ADD.
    let sandbox: String
  }

  /// The branch ENI's VLAN id, 0 for an ordinary pod.
  let vlan: Int
  let interfaces: [Interface]

  /// - Returns: nil if the result has no `dummy` entry of this pod: it is not this plugin's.
  init?(_ result: CNIResult, interface first: InterfaceName, arguments: PodArguments) {
    guard let dummy = result.interfaces.last(where: { $0.name == PodResult.dummyName(arguments) }) else { return nil }
    // An invalid entry counts as an ordinary pod's: the agent then decides.
    vlan = Int(dummy.mac).flatMap { (0...4094).contains($0) ? $0 : nil } ?? 0
    let device = Int(dummy.sandbox).flatMap { (0...255).contains($0) ? $0 : nil } ?? 0
    var found: [Interface] = []
    for index in 0..<PodNetwork.maximumInterfaces {
      guard let podName = PodResult.podInterfaceName(index, first: first),
        let position = result.interfaces.firstIndex(where: { $0.name == podName.text && !$0.sandbox.isEmpty }),
        let address = result.addresses.first(where: { $0.interface == position })?.prefix.address
      else { break }
      let suffix = HostVethName.suffix(namespace: arguments.podNamespace, pod: arguments.podName, index: index)
      let host = result.interfaces.first { $0.sandbox.isEmpty && $0.name.hasSuffix(suffix) && $0 != dummy }
      found.append(
        Interface(
          index: index, podName: podName, hostName: host.flatMap { InterfaceName($0.name) }, address: address,
          eniTable: PreviousPod.table(result.interfaces[position].mac, device: device),
          sandbox: result.interfaces[position].sandbox))
    }
    interfaces = found
  }

  /// The container interface's "mac" if it is a table number, else the table of the ENI's device number, as in results
  /// of older releases.
  private static func table(_ mac: String, device: Int) -> RouteTable {
    UInt32(mac).flatMap { $0 > 0 ? RouteTable($0) : nil } ?? .eni(device: device)
  }
}
