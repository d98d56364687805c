// SPDX-License-Identifier: Apache-2.0

import VPCModel

extension PluginCall {
  /// STATUS: whether ADD can be served now.
  ///
  /// - Throws: code 50 with the cause when the agent does not serve, 7 for a configuration that ADD would refuse.
  func status() throws(CNIError) {
    try configuration.check()
    if let reason = agent.unreadiness(timeout: Patience.status) {
      throw CNIError(.notAvailable, "status cmd: the agent is not ready: \(reason)")
    }
  }
}
