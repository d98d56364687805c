// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// A pod that has an address, as the pool knows it.
struct PodHolder: Sendable, Hashable {
  let address: IPAddress
  /// The last part of its host veth's name; nil for a checkpoint entry without a pod name.
  let vethSuffix: String?
  /// Nil if EC2 removed the address while the pod kept it.
  let eni: ENIID?
  /// The table of that ENI.
  let eniTable: RouteTable?
  let sinceUnixNanoseconds: Int64

  /// Of two sandboxes of one pod, whose veths have one name, only the later one is alive.
  static func living(_ assignments: [Assignment]) -> [PodHolder] {
    var found: [String: PodHolder] = [:]
    var nameless: [PodHolder] = []
    for assignment in assignments {
      let holder = PodHolder(assignment)
      guard let suffix = holder.vethSuffix else {
        nameless.append(holder)
        continue
      }
      if let other = found[suffix], other.sinceUnixNanoseconds > holder.sinceUnixNanoseconds { continue }
      found[suffix] = holder
    }
    return Array(found.values) + nameless
  }

  init(_ assignment: Assignment) {
    if let suffix = assignment.key.recoveredVethSuffix {
      vethSuffix = suffix
    } else if assignment.pod.isComplete {
      vethSuffix = HostVethName.suffix(namespace: assignment.pod.namespace, pod: assignment.pod.name)
    } else {
      vethSuffix = nil
    }
    address = assignment.address
    eni = assignment.eni
    eniTable = assignment.eni == nil ? nil : assignment.routeTable
    sinceUnixNanoseconds = assignment.assignedUnixNanoseconds
  }
}
