// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCCloud

@Suite struct ServiceEndpointTests {
  private func resolve(
    _ service: AWSService, _ variables: [String: String], region: String = "us-east-1"
  ) throws(InvalidSetting) -> String {
    try ServiceEndpoint.resolve(service, region: region, environment: CloudEnvironment(variables)).url.text
  }

  @Test func agreesWithBotocore() throws {
    for vector in BotocoreVectors.endpoints {
      var variables: [String: String] = [:]
      if vector.fips { variables["AWS_USE_FIPS_ENDPOINT"] = "true" }
      if vector.dualStack { variables["AWS_USE_DUALSTACK_ENDPOINT"] = "true" }
      #expect(try resolve(vector.service, variables, region: vector.region) == vector.url, "\(vector)")
    }
  }

  @Test func customEndpoints() throws {
    let all = [
      "AWS_ENDPOINT_URL_EC2": "http://ec2:1", "AWS_ENDPOINT_URL": "http://all:2/", "AWS_EC2_ENDPOINT": "http://old:3",
    ]
    #expect(try resolve(.ec2, all) == "http://ec2:1")
    #expect(try resolve(.sts, all) == "http://all:2")
    #expect(try resolve(.cloudWatch, all) == "http://all:2")
    let own = all.merging(["AWS_ENDPOINT_URL_CLOUDWATCH": "http://watch:4"]) { $1 }
    #expect(try resolve(.cloudWatch, own) == "http://watch:4")
    #expect(try resolve(.ec2, all.filter { $0.key != "AWS_ENDPOINT_URL_EC2" }) == "http://all:2")
    #expect(try resolve(.ec2, ["AWS_EC2_ENDPOINT": "http://old:3"]) == "http://old:3")
    let ignoring = all.merging(["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"]) { $1 }
    #expect(try resolve(.ec2, ignoring) == "http://old:3")
    #expect(try resolve(.sts, ignoring) == "https://sts.us-east-1.amazonaws.com")
  }

  @Test(arguments: [
    ["AWS_ENDPOINT_URL": "ftp://x"], ["AWS_ENDPOINT_URL_EC2": "http://user:secret@x/"], ["AWS_USE_FIPS_ENDPOINT": "1"],
    ["AWS_ENDPOINT_URL": "http://x", "AWS_USE_FIPS_ENDPOINT": "true"], ["AWS_ENDPOINT_URL": "http://x:0"],
    ["AWS_ENDPOINT_URL": "http://x:99999"], ["AWS_ENDPOINT_URL": "http://"],
  ])
  func refused(_ variables: [String: String]) {
    let error = #expect(throws: InvalidSetting.self) { try resolve(.ec2, variables) }
    #expect(error.map { variables.keys.contains($0.name) && !"\($0)".contains("secret") } == true)
  }

  @Test(arguments: ["", "US-EAST-1", "a/b", "evil.com#", "-x-1", "x y"])
  func regionsThatAreNone(_ region: String) {
    #expect(throws: InvalidSetting.self) { try resolve(.ec2, [:], region: region) }
  }

  @Test func regionFromTheEnvironment() {
    #expect(CloudEnvironment(["AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"]).region == "a")
    #expect(CloudEnvironment(["AWS_REGION": "", "AWS_DEFAULT_REGION": "b"]).region == "b")
    #expect(CloudEnvironment([:]).region == nil)
  }
}
