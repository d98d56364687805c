// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A node of a run, as its kubelet sees it.
package protocol BurstNode: AnyObject {
  /// Handles CNI ADD for one sandbox of a pod.
  ///
  /// - Parameter answer: called once, with the address, or with nil for an error.
  func add(pod: Int, answer: @escaping (IPAddress?) -> Void)
}
