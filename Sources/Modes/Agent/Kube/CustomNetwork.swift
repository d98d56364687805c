// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import Synchronization
internal import VPCCloud
internal import VPCKube
internal import VPCModel

/// The subnet for new ENIs with AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG, from the node's ENIConfig. The previous one stays
/// in effect while a new one is unusable.
final class CustomNetwork: Sendable {
  struct Choice: Sendable, Hashable {
    let name: String
    let subnet: SubnetID
    /// Empty: the primary ENI's.
    let groups: [String]
  }

  private let state = Mutex<Choice?>(nil)

  /// Nil until the first usable ENIConfig.
  var choice: Choice? { state.withLock { $0 } }

  func set(_ choice: Choice) { state.withLock { $0 = choice } }

  /// The security groups of new and existing ENIs.
  ///
  /// - Returns: nil if nothing is known yet.
  func groups(primary: [String]) -> [String]? {
    choice.map { $0.groups.isEmpty ? primary : $0.groups }
  }

  /// What is wrong with an ENIConfig's subnet on this node; nil if nothing is.
  ///
  /// - Parameter subnet: as EC2 describes it; nil if EC2 has no such subnet.
  static func fault(
    _ config: ENIConfig, subnet: EC2Subnet?, zone: String, vpcID: String
  ) -> String? {
    let field = "ENIConfig \(config.metadata.name): spec.subnet \(config.subnet)"
    guard let subnet else { return "\(field) does not exist" }
    guard subnet.availabilityZone == zone else {
      return "\(field) is in zone \(subnet.availabilityZone), and the node in \(zone)"
    }
    return subnet.vpcID == vpcID ? nil : "\(field) is in \(subnet.vpcID), and the node in \(vpcID)"
  }
}
