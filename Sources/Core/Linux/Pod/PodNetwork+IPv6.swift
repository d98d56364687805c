// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCModel

/// What a pod's interface with an IPv6 address needs beside what both families need.
extension PodInterface {
  /// Some container runtimes switch IPv6 off in a new namespace.
  ///
  /// - Parameter namespace: the pod's. Entered on the calling thread.
  /// - Throws: `PodNetworkError`, code `unsupported` if the kernel has no IPv6.
  func allowIPv6(in namespace: NetworkNamespace) throws(PodNetworkError) {
    let isThere: Bool
    do {
      isThere = try namespace.runOnThisThread { () throws(any Error) -> Bool in
        try Sysctl.allowIPv6(on: podName)
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

extension Sysctl {
  /// Switches IPv6 on for an interface and the loopback of the calling thread's namespace.
  ///
  /// - Returns: false if the kernel has no IPv6.
  static func allowIPv6(on interface: InterfaceName) throws -> Bool {
    _ = try Sysctl("net", "ipv6", "conf", "lo", "disable_ipv6").write("0")
    return try Sysctl.interface(interface, .ipv6, "disable_ipv6").write("0") != .alreadyGone
  }
}

extension InterfaceAddress {
  /// The address of a pair's host end for neighbour discovery, without which the node cannot find the pod. Neither it nor
  /// its prefix adds a route that grows with the number of pods (docs/decisions/0023): the kernel's own link-local address
  /// would. It is usable at once: the link has one other end.
  static func hostEnd(_ mac: MACAddress, on link: UInt32) -> InterfaceAddress {
    InterfaceAddress(mac.linkLocalAddress, on: link, noPrefixRoute: true, noDuplicateDetection: true)
  }
}

extension MACAddress {
  /// fe80::/64 with the modified EUI-64 of the address. Source: RFC 4291, appendix A.
  var linkLocalAddress: IPAddress {
    let (high, low) = (UInt128(bits >> 24), UInt128(bits & 0xff_ffff))
    return IPAddress(ipv6: UInt128(0xfe80) << 112 | (high ^ 0x02_0000) << 40 | UInt128(0xfffe) << 24 | low)
  }
}
