// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Why a pod could not be wired, or differs from the desired wiring.
package struct PodNetworkError: CausedError, Sendable {
  /// What went wrong, for a caller to switch on. A struct, so that codes can be added.
  package struct Code: Sendable, Hashable {
    private enum Value { case interfaceExists, hasNetwork, notOurs, unsupported, kernel, differs }
    private let value: Value

    /// The pod's namespace already has an interface with that name.
    package static let interfaceExists = Code(value: .interfaceExists)
    /// The host interface with that name already belongs to the pod, with another name of the pod's end.
    package static let hasNetwork = Code(value: .hasNetwork)
    /// The host has an interface with that name that is not a veth, so it is not deleted.
    package static let notOurs = Code(value: .notOurs)
    /// The requested kind of wiring is not supported.
    package static let unsupported = Code(value: .unsupported)
    /// The kernel refused; the cause says what.
    package static let kernel = Code(value: .kernel)
    /// CHECK: something is missing or differs.
    package static let differs = Code(value: .differs)
  }

  package let code: Code
  /// What was tried or what differs, on which interface or address.
  package let description: String
  package let cause: (any Error)?

  package init(_ code: Code, _ description: String, cause: (any Error)? = nil) {
    self.code = code
    self.description = description
    self.cause = cause
  }
}
