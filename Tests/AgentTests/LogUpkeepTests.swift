// SPDX-License-Identifier: Apache-2.0

import Logging
import Testing
import VPCModel

@testable import AgentMode

/// Which logs the agent maintains.
@Suite struct LogUpkeepTests {
  @Test(arguments: [
    ("/var/log/a/ipamd.log", "/var/log/a"), ("", "/host/var/log/aws-routed-eni"),
    ("stdout", "/host/var/log/aws-routed-eni"), ("STDERR", "/host/var/log/aws-routed-eni"),
  ])
  func itsOwnAndThePluginsBesideIt(_ setting: String, _ folder: String) throws {
    let settings = try Settings(environment: ["AWS_VPC_K8S_CNI_LOG_FILE": setting])
    let upkeep = LogUpkeep(settings: settings, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let names = ["ipamd.log", "plugin.log", "egress-v4-plugin.log", "egress-v6-plugin.log"]
    #expect(upkeep.logs == names.map { "\(folder)/\($0)" })
  }
}
