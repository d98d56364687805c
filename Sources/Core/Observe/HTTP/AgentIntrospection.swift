// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The introspection endpoint of this node's agent, for the command-line tools.
package struct AgentIntrospection: Sendable {
  /// Where it listens; nil if it is disabled.
  package let address: ListenAddress?

  /// - Parameter environments: the environments searched for INTROSPECTION_BIND_ADDRESS and DISABLE_INTROSPECTION, the
  ///   tool's own and the agent's; the first with either counts. Otherwise the default applies.
  package init(environments: [[String: String]]) {
    let variables = environments.first {
      !($0["INTROSPECTION_BIND_ADDRESS"] ?? "").isEmpty || !($0["DISABLE_INTROSPECTION"] ?? "").isEmpty
    }
    let off = ["1", "t", "T", "TRUE", "true", "True"]
    if off.contains(variables?["DISABLE_INTROSPECTION"] ?? "") {
      address = nil
      return
    }
    address =
      variables?["INTROSPECTION_BIND_ADDRESS"].flatMap { $0.isEmpty ? nil : ListenAddress($0) }
      ?? .tcp(host: IPAddress(ipv4: 0x7f00_0001), port: 61_679)
  }

  package init(address: ListenAddress) { self.address = address }

  /// One request for `/v1/status`. Blocks, at most for `timeout`.
  package func status(timeout: Duration = .seconds(3)) throws(HTTPFetch.Failure) -> AgentStatus {
    let bytes = try get("/v1/status", timeout: timeout)
    let document: JSONValue
    do throws(JSONParser.Failure) {
      document = try JSONParser.parse(bytes, limits: JSONParser.Limits(size: 8 << 20, depth: 16))
    } catch {
      throw HTTPFetch.Failure(description: "the agent's answer cannot be read: \(error)")
    }
    guard let status = AgentStatus(json: document) else {
      throw HTTPFetch.Failure(description: "the agent has no /v1/status that this release understands")
    }
    return status
  }

  /// Any other path.
  package func get(_ path: String, timeout: Duration = .seconds(3)) throws(HTTPFetch.Failure) -> [UInt8] {
    guard let address else {
      throw HTTPFetch.Failure(description: "introspection is switched off (DISABLE_INTROSPECTION)")
    }
    var fetch = HTTPFetch(address)
    fetch.timeout = timeout
    return try fetch.get(path)
  }
}
