// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCSystem

/// A netlink request that the kernel refused, or whose answer was lost or invalid.
package struct NetlinkError: Error, Sendable, Hashable, CustomStringConvertible {
  /// What went wrong, for a caller to switch on. A struct, so that codes can be added.
  package struct Code: Sendable, Hashable, CustomStringConvertible {
    private enum Value: String {
      case exists, notFound, notPermitted, busy, invalid, outOfResources, timedOut, interrupted, malformed, unsupported
      case down, other
    }
    private let value: Value
    package var description: String { value.rawValue }

    /// EEXIST: a different object with that key exists.
    package static let exists = Code(value: .exists)
    /// ENODEV, ENOENT, ESRCH, EADDRNOTAVAIL, ENXIO: the link or object named in the request does not exist.
    package static let notFound = Code(value: .notFound)
    /// EPERM, EACCES: CAP_NET_ADMIN is missing.
    package static let notPermitted = Code(value: .notPermitted)
    /// EBUSY, EAGAIN: transient.
    package static let busy = Code(value: .busy)
    /// EINVAL, ERANGE and the like: the request is wrong.
    package static let invalid = Code(value: .invalid)
    /// ENOMEM, ENOBUFS, EMFILE, ENFILE.
    package static let outOfResources = Code(value: .outOfResources)
    /// No answer within the socket's timeout.
    package static let timedOut = Code(value: .timedOut)
    /// A dump was interrupted by changes each time it was tried.
    package static let interrupted = Code(value: .interrupted)
    /// An answer that breaks the protocol.
    package static let malformed = Code(value: .malformed)
    /// EOPNOTSUPP, EAFNOSUPPORT, ENOSYS: this kernel lacks the requested feature.
    package static let unsupported = Code(value: .unsupported)
    /// ENETDOWN, ENETUNREACH, EHOSTUNREACH: the link is down or there is no route to the gateway.
    package static let down = Code(value: .down)
    /// Any other errno; see `errno`.
    package static let other = Code(value: .other)
  }

  /// What went wrong.
  package let code: Code
  /// Verb and object: `add route 10.0.0.9/32 dev 7 table 20512`.
  package let request: String
  /// The kernel's errno, positive; 0 if there was none.
  package let errno: Int32
  /// The kernel's message, NLMSGERR_ATTR_MSG; nil if there was none.
  package let kernelText: String?

  /// An error without an errno, or with a code that the caller chooses.
  package init(code: Code, request: String, errno: Int32 = 0, kernelText: String? = nil) {
    self.code = code
    self.request = request
    self.errno = errno
    self.kernelText = kernelText
  }

  /// An error of the kernel; the code follows from the errno.
  package init(errno: Int32, request: String, kernelText: String? = nil) {
    self.init(code: Code(errno: errno), request: request, errno: errno, kernelText: kernelText)
  }

  /// Whether the same request can succeed later without other changes.
  package var isTransient: Bool {
    [.busy, .outOfResources, .timedOut, .interrupted].contains(code)
  }

  /// `REQUEST: system's text (errno N): kernel's text`.
  package var description: String {
    let reason = errno == 0 ? code.phrase : "\(SystemErrorText.text(errno)) (errno \(errno))"
    guard let kernelText else { return "\(request): \(reason)" }
    return "\(request): \(reason): \(kernelText)"
  }
}

extension NetlinkError.Code {
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

  fileprivate var phrase: String {
    switch self {
    case .timedOut: "no answer in time"
    case .interrupted: "changed during every attempt to read it"
    case .malformed: "the answer breaks the netlink protocol"
    case .invalid: "the request does not fit a message"
    default: description
    }
  }
}
