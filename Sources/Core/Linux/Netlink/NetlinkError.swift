// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VPCModel
internal import VPCSystem

/// A netlink request that the kernel refused, or whose answer was lost or invalid. The detail is the kernel's message,
/// NLMSGERR_ATTR_MSG.
package typealias NetlinkError = LayerError<NetlinkFault>

package enum NetlinkFault: String, LayerFault {
  /// EEXIST: a different object with that key exists.
  case exists
  /// ENODEV, ENOENT, ESRCH, EADDRNOTAVAIL, ENXIO: the link or object named in the request does not exist.
  case notFound
  /// EPERM, EACCES: CAP_NET_ADMIN is missing.
  case notPermitted
  /// EBUSY, EAGAIN: transient.
  case busy
  /// EINVAL, ERANGE and the like: the request is wrong.
  case invalid
  /// ENOMEM, ENOBUFS, EMFILE, ENFILE.
  case outOfResources
  /// No answer within the socket's timeout.
  case timedOut
  /// A dump was interrupted by changes each time it was tried.
  case interrupted
  /// An answer that breaks the protocol.
  case malformed
  /// EOPNOTSUPP, EAFNOSUPPORT, ENOSYS: this kernel lacks the requested feature.
  case unsupported
  /// ENETDOWN, ENETUNREACH, EHOSTUNREACH: the link is down or there is no route to the gateway.
  case down
  /// Any other errno; see `errno`.
  case other

  fileprivate init(errno: Int32) {
    switch errno {
    case EEXIST: self = .exists
    case ENODEV, ENOENT, ESRCH, EADDRNOTAVAIL, ENXIO: self = .notFound
    case EPERM, EACCES: self = .notPermitted
    case EBUSY, EAGAIN, EINTR: self = .busy
    case EINVAL, ERANGE, EMSGSIZE, E2BIG, ENOTDIR: self = .invalid
    case ENOMEM, ENOBUFS, EMFILE, ENFILE: self = .outOfResources
    case EOPNOTSUPP, EAFNOSUPPORT, ENOSYS, EPROTONOSUPPORT: self = .unsupported
    case ENETDOWN, ENETUNREACH, EHOSTUNREACH: self = .down
    default: self = .other
    }
  }

  private var phrase: String {
    switch self {
    case .timedOut: "no answer in time"
    case .interrupted: "changed during every attempt to read it"
    case .malformed: "the answer breaks the netlink protocol"
    case .invalid: "the request does not fit a message"
    default: rawValue
    }
  }

  /// `REQUEST: system's text (errno N): kernel's text`.
  package func text(of error: NetlinkError) -> String {
    let reason = error.errno == 0 ? phrase : "\(SystemErrorText.text(error.errno)) (errno \(error.errno))"
    return "\(error.attempt): \(reason)" + (error.detail.map { ": \($0)" } ?? "")
  }
}

extension NetlinkError {
  /// An error of the kernel; the code follows from the errno.
  package init(errno: Int32, request: String, detail: String? = nil) {
    self.init(NetlinkFault(errno: errno), request, errno: errno, detail: detail)
  }

  /// Whether the same request can succeed later without other changes.
  package var isTransient: Bool {
    [.busy, .outOfResources, .timedOut, .interrupted].contains(code)
  }
}
