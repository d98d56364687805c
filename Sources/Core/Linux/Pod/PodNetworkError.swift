// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// Why a pod could not be wired, or differs from the desired wiring.
package typealias PodNetworkError = LayerError<PodNetworkFault>

package enum PodNetworkFault: LayerFault {
  /// The pod's namespace already has an interface with that name.
  case interfaceExists
  /// The host interface with that name already belongs to the pod, with another name of the pod's end.
  case hasNetwork
  /// The host has an interface with that name that is not a veth, so it is not deleted.
  case notOurs
  /// The requested kind of wiring is not supported.
  case unsupported
  /// The kernel refused; the cause says what.
  case kernel
  /// CHECK: something is missing or differs.
  case differs
}
