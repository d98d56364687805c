// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCModel

/// What a pod's interface with an IPv6 address needs beside what both families need.
extension PodInterface {
  /// The host end's address for neighbour discovery, without which the node cannot find the pod. Neither it nor its
  /// prefix adds a route that grows with the number of pods (docs/decisions/0023): the kernel's own link-local address
  /// would. It is usable at once: the link has one other end.
  func hostAddress(on veth: PodVeth) -> InterfaceAddress {
    InterfaceAddress(veth.mac.linkLocalAddress, on: veth.hostIndex, noPrefixRoute: true, noDuplicateDetection: true)
  }

  /// Some container runtimes switch IPv6 off in a new namespace.
  ///
  /// - Parameter namespace: the pod's. Entered on the calling thread.
  /// - Throws: `PodNetworkError`, code `unsupported` if the kernel has no IPv6.
  func allowIPv6(in namespace: NetworkNamespace) throws(PodNetworkError) {
    let isThere: Bool
    do {
      isThere = try namespace.runOnThisThread { () throws(any Error) -> Bool in
        _ = try Sysctl("net", "ipv6", "conf", "lo", "disable_ipv6").write("0")
        return try Sysctl.interface(podName, .ipv6, "disable_ipv6").write("0") != .alreadyGone
      }
    } catch {
      throw PodNetworkError(.kernel, "switch IPv6 on for \(podName) in the pod", cause: error)
    }
    guard isThere else {
      throw PodNetworkError(
        .unsupported,
        "the kernel has no IPv6 (boot parameter ipv6.disable=1), and the pod's address is \(address)")
    }
  }

  /// Why the kernel refused the host's side.
  func hostFailure(_ error: any Error) -> PodNetworkError {
    if address.family == .ipv6, let error = error as? NetlinkError, error.errno == EACCES {
      return PodNetworkError(
        .unsupported,
        "IPv6 is switched off on the node, and the pod's address is \(address): set net.ipv6.conf.all.disable_ipv6=0, as the init container does with ENABLE_IPv6=true",
        cause: error)
    }
    return PodNetworkError(.kernel, "set up \(hostName) for \(address)", cause: error)
  }
}

extension MACAddress {
  /// fe80::/64 with the modified EUI-64 of the address. Source: RFC 4291, appendix A.
  var linkLocalAddress: IPAddress {
    let (high, low) = (UInt128(bits >> 24), UInt128(bits & 0xff_ffff))
    return IPAddress(ipv6: UInt128(0xfe80) << 112 | (high ^ 0x02_0000) << 40 | UInt128(0xfffe) << 24 | low)
  }
}
