// SPDX-License-Identifier: Apache-2.0

import Logging
import VPCLinux
import VPCModel

extension PluginCall {
  /// CHECK: compares the kernel's state with the result of ADD. Changes nothing.
  ///
  /// - Throws: code 7 without a usable `prevResult`, 4 for a wrong namespace, 999 with the first difference.
  func check() throws(CNIError) {
    try configuration.check()
    guard let interface = request.interface else {
      throw CNIError(.invalidEnvironment, "required env variables [CNI_IFNAME] missing")
    }
    guard let result = configuration.previousResult else {
      throw CNIError(.invalidConfiguration, "network config: prevResult is missing, CHECK needs it")
    }
    guard let previous = PreviousPod(result, interface: interface, arguments: request.arguments) else {
      throw CNIError(.invalidConfiguration, "network config: prevResult holds no entry of this plugin for the pod")
    }
    guard previous.vlan == 0 else {
      log.info("CHECK skipped for a pod with a branch ENI", metadata: [LogKey.vlan: "\(previous.vlan)"])
      return
    }
    let interfaces = try expected(previous, interface)
    let pod = try kernel.open(namespace: request.netns, allowsOwn: request.allowsOwnNamespace)
    do {
      try pod.check(interfaces)
    } catch {
      throw CNIError(.failed, "check cmd: pod network is not as it should be", cause: error)
    }
  }

  private func expected(_ previous: PreviousPod, _ interface: InterfaceName) throws(CNIError) -> [PodInterface] {
    guard !previous.interfaces.isEmpty else {
      throw CNIError(.invalidConfiguration, "network config: prevResult has no address for \(interface)")
    }
    var interfaces: [PodInterface] = []
    for entry in previous.interfaces {
      guard let hostName = entry.hostName else {
        throw CNIError(.invalidConfiguration, "network config: prevResult has no host interface for \(entry.podName)")
      }
      interfaces.append(
        PodInterface(
          index: entry.index, hostName: hostName, podName: entry.podName, address: entry.address,
          eniTable: entry.eniTable))
    }
    return interfaces
  }
}
