// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCCloud
internal import VPCModel
internal import VPCObserve
internal import VPCSystem
internal import VPCTransport

/// This instance's id, from the fastest available source.
enum InstanceName {
  static let limit = Duration.seconds(2)

  /// IMDS; if it does not answer, the agent, cloud-init, the firmware, and finally the host name. Blocks for 2 s at
  /// most.
  static func find(agent: AgentIntrospection, environment: [String: String], asksIMDS: Bool) -> String {
    let imds = BackgroundResult.ofTask { asksIMDS ? await metadata(environment) : nil }
    let status = try? BackgroundResult.ofThread { try? agent.status(timeout: .seconds(1)) }
    let end = ContinuousClock.now.advanced(by: limit)
    if let told = imds.wait(within: limit) ?? nil { return told }
    let left = ContinuousClock.now.duration(to: end)
    if let told = status?.wait(within: left) ?? nil, isInstance(told.agent.instance) { return told.agent.instance }
    for path in ["/var/lib/cloud/data/instance-id", "/sys/class/dmi/id/board_asset_tag"] {
      guard let bytes = try? BoundedFile.read(path, limit: 4096) else { continue }
      let word = String(decoding: bytes.prefix { $0 > 0x20 && $0 < 0x7f }, as: UTF8.self)
      if isInstance(word) { return word }
    }
    var name = utsname()
    guard uname(&name) == 0 else { return "unknown" }
    return withUnsafeBytes(of: name.nodename) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  private static func isInstance(_ text: String) -> Bool { text.hasPrefix("i-") || text.hasPrefix("mi-") }

  private static func metadata(_ environment: [String: String]) async -> String? {
    let access = try? CloudAccess(
      environment: environment, userAgent: "vpc-cni/\(Release.version)", timeout: .seconds(2),
      adjust: { limits in
        limits.deadline = .milliseconds(1800)
        limits.attemptTimeout = .seconds(1)
        limits.retry = RetryPolicy(attempts: 1, base: .milliseconds(100), cap: .milliseconds(100))
      })
    return try? await access?.imds.instanceIdentity().instanceID
  }
}
