// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel
internal import VPCSystem
internal import VPCTransport

/// The node's address of the family that its pods do not have, for egress-cni.
///
/// Source: contract of amazon-vpc-cni-k8s v1.23, section 3: `local-ipv4` and `ipv6` of IMDS.
enum EgressAddress {
  /// IMDS is available from a node's first second; otherwise kubelet should see a failing container.
  private static let limit = Duration.seconds(60)

  /// Asks IMDS, only if pods are to have egress. Blocks.
  ///
  /// - Returns: nil without egress, and for an instance without IPv6.
  /// - Throws: `IMDSError`, and `EgressAddressError` for an IPv6 cluster on an instance without IPv4.
  static func read(_ settings: NodeSettings, environment: [String: String]) throws -> IPAddress? {
    guard settings.asksForEgress else { return nil }
    // IMDS is never reached by a proxy.
    let imds = IMDSClient(
      transport: CurlTransport(), settings: try IMDSClient.Settings(environment: CloudEnvironment(environment)))
    let path = settings.agent.family == .ipv6 ? "meta-data/local-ipv4" : "meta-data/ipv6"
    let answer = BackgroundResult.ofTask { await ask(imds, path) }.wait(within: limit * 2)
    guard let body = try answer?.get() else {
      if settings.agent.family == .ipv6 { throw EgressAddressError(description: "IMDS has no \(path)") }
      return nil
    }
    let text = String(decoding: body, as: UTF8.self).split(whereSeparator: \.isWhitespace).first.map(String.init) ?? ""
    guard let address = IPAddress(text), address.family != settings.agent.family else {
      throw EgressAddressError(description: "IMDS answers \"\(text.prefix(64))\" for \(path)")
    }
    return address
  }

  private static func ask(_ imds: IMDSClient, _ path: String) async -> Result<[UInt8]?, IMDSError> {
    do throws(IMDSError) {
      return .success(
        try await imds.untilAnswered(within: limit) { (imds) throws(IMDSError) in try await imds.read(path) })
    } catch {
      return .failure(error)
    }
  }
}

/// Why there is no address for egress-cni, although there must be.
struct EgressAddressError: Error, Hashable, CustomStringConvertible {
  let description: String
}
