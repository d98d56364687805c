// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCObserve

/// The introspection endpoint on INTROSPECTION_BIND_ADDRESS, for people and the support bundle: the values in use.
struct Introspection: Sendable {
  let settings: Settings
  let pool: AddressPool
  /// The name of the node's ENIConfig; nil if the Node object was never read.
  var eniConfigName: @Sendable () async -> String? = { nil }
  /// The content of `/v1/status`.
  let status: @Sendable () async -> AgentStatus

  static let paths = [
    "/v1/eni-configs", "/v1/enis", "/v1/ipamd-env-settings", "/v1/networkutils-env-settings", "/v1/pods",
    "/v1/status",
  ]

  func answer(_ path: String) async -> HTTPAnswer {
    switch path {
    case "/v1/enis": return json(IntrospectionShapes.enis(await pool.holdings()))
    case "/v1/pods": return json(IntrospectionShapes.pods(await pool.holdings()))
    case "/v1/status": return json(await status().json)
    case "/v1/networkutils-env-settings": return json(IntrospectionShapes.networkSettings(settings))
    case "/v1/ipamd-env-settings": return json(IntrospectionShapes.poolSettings(settings))
    case "/v1/eni-configs":
      guard let name = await eniConfigName() else {
        return HTTPAnswer(status: 404, contentType: "text/plain", body: Array("Not Found\n".utf8))
      }
      return json(.string(name))
    default: return json(["AvailableCommands": .array(Introspection.paths.map { .string($0) })])
    }
  }

  private func json(_ value: JSONValue) -> HTTPAnswer { HTTPAnswer(body: value.bytes) }
}
