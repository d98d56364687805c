// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import Synchronization
internal import VPCCloud
internal import VPCKube
internal import VPCModel

/// Where new ENIs go under AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG, by the node's ENIConfig. What was in force stays so while
/// a new one cannot be used.
final class CustomNetwork: Sendable {
  struct Choice: Sendable, Hashable {
    let name: String
    let subnet: SubnetID
    /// Empty: the primary ENI's.
    let groups: [String]
  }

  private let state = Mutex<Choice?>(nil)

  /// Nil until the first ENIConfig could be used.
  var choice: Choice? { state.withLock { $0 } }

  func set(_ choice: Choice) { state.withLock { $0 = choice } }

  /// The groups of a new ENI, and of those there are.
  ///
  /// - Returns: nil where nothing is known yet.
  func groups(primary: [String]) -> [String]? {
    choice.map { $0.groups.isEmpty ? primary : $0.groups }
  }

  /// What is wrong with an ENIConfig's subnet on this node, nil where nothing is.
  ///
  /// - Parameter subnet: as EC2 tells it; nil where it has none of that id.
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
