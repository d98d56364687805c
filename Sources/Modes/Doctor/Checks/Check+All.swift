// SPDX-License-Identifier: Apache-2.0

extension Check {
  /// In display order: the most severe first. docs/troubleshooting.md has a row for each.
  static let all: [Check] = [
    agentServes, settings, apiServer, metadata, permissions, growth, throttling, subnetAddresses,
    subnetFragmentation, podLimit, leakedENIs, conflist, versionSkew, checkpoint, probes, nodeNetwork, podReturn,
    forwarding, forwardPolicy,
    reversePath, macPolicy, cloudSetup, networkd, iptablesMode, xtablesLock,
  ]
}
