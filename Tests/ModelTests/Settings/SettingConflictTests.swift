// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// Settings that are valid alone but not together, and lists with invalid entries.
@Suite struct SettingConflictTests {
  static let externalSNAT = "AWS_VPC_K8S_CNI_EXTERNALSNAT"
  static let excluded = "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"
  static let services = "AWS_EXTERNAL_SERVICE_CIDRS"

  @Test(
    arguments: [
      ([:], []),
      ([externalSNAT: "true"], []),
      ([excluded: "10.0.0.0/8,172.16.0.0/12", services: "10.0.0.0/8"], []),
      (["POD_MTU": "1500"], []),
      (["POD_MTU": "9001", "AWS_VPC_ENI_MTU": "1500"], ["POD_MTU is \"9001\": more than AWS_VPC_ENI_MTU 1500"]),
      (
        [externalSNAT: "true", excluded: "10.1.2.3/8"],
        ["AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS is \"10.0.0.0/8\": no effect with AWS_VPC_K8S_CNI_EXTERNALSNAT=true"]
      ),
      (
        [externalSNAT: "true", "AWS_VPC_K8S_CNI_RANDOMIZESNAT": "none"],
        ["AWS_VPC_K8S_CNI_RANDOMIZESNAT is \"none\": no effect"]
      ),
      ([externalSNAT: "true", "AWS_VPC_K8S_CNI_RANDOMIZESNAT": "prng"], []),
      (
        [excluded: "0.0.0.0/0,10.0.0.0/8"],
        [
          "\(excluded) is \"0.0.0.0/0\": this disables SNAT",
          "\(excluded) is \"10.0.0.0/8\": no effect, it is within 0.0.0.0/0",
        ]
      ),
      (
        [services: "10.0.0.0/16,10.0.5.0/24,10.0.0.9/16"],
        ["\(services) is \"10.0.5.0/24\": no effect, it is within 10.0.0.0/16"]
      ),
      (
        ["AWS_VPC_K8S_CNI_CONNMARK": "0x4000", "VPC_CNI_ENI_MARK_MASK": "0x3000"],
        [
          "AWS_VPC_K8S_CNI_CONNMARK is \"0x4000\": shares a bit with kube-proxy",
          "VPC_CNI_ENI_MARK_MASK is \"0x3000\": shares a bit with the portmap",
        ]
      ),
    ] as [([String: String], [String])])
  func whatDoesNotGoTogetherIsNamed(_ environment: [String: String], _ expected: [String]) throws {
    let settings = try Settings(environment: environment)
    let found = settings.conflicts.map(\.description)
    #expect(found.count == expected.count, "\(found)")
    for (text, beginning) in zip(found, expected) { #expect(text.hasPrefix(beginning), "\(text)") }
    #expect(settings.warnings.isEmpty)
  }

  @Test func rubbishInAListIsNamedAndTheRestUsed() throws {
    let list = [
      " 10.0.0.7/16 ", "", "10.0.0.0/16", "10.0.0.0", "fd00::/8", "1.2.3.4/33", "a\u{0}b", "172.16.0.0/12",
      "10.0.0.0/-1",
      "01.2.3.4/8", "\t192.168.0.0/20\n", "10.0.0.0/16/8", "١٠.0.0.0/8",
    ]
    let settings = try Settings(environment: [Self.excluded: list.joined(separator: ",")])
    #expect(settings.excludedSNATCIDRs.map(\.description) == ["10.0.0.0/16", "172.16.0.0/12", "192.168.0.0/20"])
    #expect(settings.warnings.map(\.value) == list.filter { settings.warnings.map(\.value).contains($0) })
    #expect(settings.warnings.count == 8)
    #expect(settings.warnings.allSatisfy { $0.name == Self.excluded && $0.used == "the rest of the list" })
  }

  @Test func aListHasAnEnd() throws {
    let many = (0..<300).map { "10.\($0 / 256).\($0 % 256).0/24" }.joined(separator: ",")
    let settings = try Settings(environment: [Self.services: many])
    #expect(settings.externalServiceCIDRs.count == 200)
    #expect(settings.warnings.map(\.description).first?.contains("using the 200 before it") == true)
    let rubbish = String(repeating: "x,", count: 5_000) + "10.0.0.0/8"
    let other = try Settings(environment: [Self.services: rubbish])
    #expect(other.externalServiceCIDRs.map(\.description) == ["10.0.0.0/8"])
    #expect(other.warnings.count <= 200)
    #expect(try Settings(environment: [Self.services: ",, ,"]).externalServiceCIDRs.isEmpty)
  }
}
