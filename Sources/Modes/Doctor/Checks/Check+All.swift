// SPDX-License-Identifier: Apache-2.0

extension Check {
  /// In the order in which they are shown: what breaks everything comes first. docs/troubleshooting.md has a row for each.
  static let all: [Check] = [
    agentServes, settings, apiServer, metadata, permissions, growth, throttling, subnetAddresses,
    subnetFragmentation, podLimit, leakedENIs, conflist, versionSkew, checkpoint, probes, nodeNetwork, podReturn,
    forwarding, forwardPolicy,
    reversePath, macPolicy, cloudSetup, networkd, iptablesMode, xtablesLock,
  ]
}
