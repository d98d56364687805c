// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Why a pod could not be wired, or is not wired as it should be.
package struct PodNetworkError: CausedError, Sendable {
  /// What went wrong, for a caller to switch on. A struct, so that codes can be added.
  package struct Code: Sendable, Hashable {
    private enum Value { case interfaceExists, hasNetwork, notOurs, unsupported, kernel, differs }
    private let value: Value

    /// The pod's namespace has an interface of that name already.
    package static let interfaceExists = Code(value: .interfaceExists)
    /// The host interface of that name is the pod's already, under another name of the pod's end.
    package static let hasNetwork = Code(value: .hasNetwork)
    /// The host has an interface of that name which is no veth, so that it is not taken away.
    package static let notOurs = Code(value: .notOurs)
    /// The wiring asked for is of a kind that is not made.
    package static let unsupported = Code(value: .unsupported)
    /// The kernel refused; the cause says what.
    package static let kernel = Code(value: .kernel)
    /// CHECK: something is missing or not as it should be.
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
