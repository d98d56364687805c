// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Testing
import VPCObserve

@testable import AgentMode
@testable import VPCModel

/// The JSON shapes that the tools of amazon-vpc-cni-k8s read.
@Suite struct IntrospectionTests {
  /// One ENI with an address in use and one in cooldown, one with a prefix, and one that is not managed.
  private func holdings() throws -> PoolHoldings {
    let pod = PodName(namespace: "shop", name: "web-0")
    let first = FakeENIs.observation("eni-a", device: 0, addresses: ["10.0.0.5", "10.0.0.6"])
    var second = FakeENIs.observation("eni-b", device: 2, addresses: [])
    let prefix = try #require(IPPrefix("10.0.1.16/28"))
    second.cidrs = [prefix]
    second.isExcluded = true
    var foreign = FakeENIs.observation("eni-c", device: 3, addresses: ["10.0.3.3"])
    foreign.isManaged = false
    let snapshot = { (eni: ENIObservation, assigned: [Int]) in
      ENISnapshot(
        eni: eni, isOpen: true, isWired: true, isManaged: eni.isManaged,
        cidrs: zip(eni.cidrs, assigned).map {
          CIDRSnapshot(prefix: $0, isUsable: true, capacity: $0.count, assigned: $1, cooling: 0)
        })
    }
    let assignment = { (address: String, eni: ENIObservation?, device: Int, pod: PodName, count: Int) throws in
      Assignment(
        key: AttachmentKey(networkName: "aws-cni", containerID: "SECRET", ifName: "eth7"), pod: pod,
        address: try #require(IPAddress(address)), eni: eni?.id, device: device, card: 0,
        routeTable: .eni(device: device), assignedUnixNanoseconds: 1_700_000_000_120_000_000, interfacesCount: count,
        isNew: false)
    }
    return PoolHoldings(
      enis: [snapshot(foreign, [0]), snapshot(second, [1]), snapshot(first, [1, 0])],
      assignments: [
        try assignment("10.0.1.17", second, 2, PodName(namespace: "", name: ""), 0),
        try assignment("10.0.0.5", first, 0, pod, 1), try assignment("10.9.9.9", nil, 0, pod, 1),
      ],
      cooldowns: [
        CheckpointCooldown(
          address: try #require(IPAddress("10.0.0.6")), untilUnixNanoseconds: 1_700_000_030_000_000_001)
      ],
      cooldown: .seconds(30))
  }

  @Test func enisAsToday() throws {
    let golden = """
      {"0":{"TotalIPs":18,"AssignedIPs":2,"ENIs":{\
      "eni-a":{"ID":"eni-a","IsPrimary":true,"IsTrunk":false,"IsEFA":false,"DeviceNumber":0,"AvailableIPv4Cidrs":{\
      "10.0.0.5/32":{"Cidr":{"IP":"10.0.0.5","Mask":"/////w=="},"IPAddresses":{"10.0.0.5":{"Address":"10.0.0.5",\
      "IPAMKey":{"networkName":"aws-cni","containerID":"","ifName":""},\
      "IPAMMetadata":{"k8sPodNamespace":"shop","k8sPodName":"web-0","interfacesCount":1},\
      "AssignedTime":"2023-11-14T22:13:20.12Z","UnassignedTime":"0001-01-01T00:00:00Z"}},\
      "IsPrefix":false,"AddressFamily":""},\
      "10.0.0.6/32":{"Cidr":{"IP":"10.0.0.6","Mask":"/////w=="},"IPAddresses":{"10.0.0.6":{"Address":"10.0.0.6",\
      "IPAMKey":{"networkName":"","containerID":"","ifName":""},"IPAMMetadata":{},\
      "AssignedTime":"0001-01-01T00:00:00Z","UnassignedTime":"2023-11-14T22:13:20.000000001Z"}},\
      "IsPrefix":false,"AddressFamily":""}},\
      "IPv6Cidrs":{},"IsExcludedForPodIPs":false,"RouteTableID":254,"SubnetID":"subnet-1"},\
      "eni-b":{"ID":"eni-b","IsPrimary":false,"IsTrunk":false,"IsEFA":false,"DeviceNumber":2,"AvailableIPv4Cidrs":{\
      "10.0.1.16/28":{"Cidr":{"IP":"10.0.1.16","Mask":"////8A=="},"IPAddresses":{"10.0.1.17":{"Address":"10.0.1.17",\
      "IPAMKey":{"networkName":"aws-cni","containerID":"","ifName":""},"IPAMMetadata":{},\
      "AssignedTime":"2023-11-14T22:13:20.12Z","UnassignedTime":"0001-01-01T00:00:00Z"}},\
      "IsPrefix":true,"AddressFamily":""}},\
      "IPv6Cidrs":{},"IsExcludedForPodIPs":true,"RouteTableID":3,"SubnetID":"subnet-1"}}}}
      """
    let json = IntrospectionShapes.enis(try holdings())
    #expect(json.text == golden)
    let cidrs = try #require(json["0"]?["ENIs"]?["eni-b"]?["AvailableIPv4Cidrs"]?["10.0.1.16/28"]?["Cidr"])
    #expect(Data(base64Encoded: cidrs["Mask"]?.string ?? "").map(Array.init) == [255, 255, 255, 240])
  }

  @Test func podsAsInTheGuide() throws {
    let golden = """
      {"__":{"DeviceNumber":2,"IP":"10.0.1.17"},"web-0_shop_":{"DeviceNumber":0,"IP":"10.0.0.5"},\
      "web-0_shop_2":{"DeviceNumber":0,"IP":"10.9.9.9"}}
      """
    #expect(IntrospectionShapes.pods(try holdings()).text == golden)
  }

  @Test func settingsInUse() throws {
    let settings = try Settings(environment: [
      "WARM_IP_TARGET": "5", "WARM_ENI_TARGET": "nonsense", "AWS_VPC_K8S_CNI_RANDOMIZESNAT": "hashrandom",
      "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "10.1.2.3/8,192.168.0.0/16",
    ])
    #expect(
      IntrospectionShapes.networkSettings(settings).text == """
        {"AWS_EXTERNAL_SERVICE_CIDRS":null,"AWS_VPC_CNI_NODE_PORT_SUPPORT":true,"AWS_VPC_ENI_MTU":9001,\
        "AWS_VPC_K8S_CNI_CONNMARK":128,"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS":["10.0.0.0/8","192.168.0.0/16"],\
        "AWS_VPC_K8S_CNI_EXTERNALSNAT":false,"AWS_VPC_K8S_CNI_RANDOMIZESNAT":1,"AWS_VPC_K8S_CNI_VETHPREFIX":"eni"}
        """)
    #expect(
      IntrospectionShapes.poolSettings(settings).text == """
        {"AWS_MANAGE_ENIS_NON_SCHEDULABLE":false,"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG":false,\
        "ENABLE_SUBNET_DISCOVERY":true,"WARM_ENI_TARGET":1,"WARM_IP_TARGET":5}
        """)
  }

  @Test func paths() async throws {
    let fixture = try await PoolFixture(FakeENIs(eniLimit: 1, slots: 2, addresses: 2)).started()
    #expect(await fixture.add("web-0").address != nil)
    #expect(await fixture.add("web-1").address != nil)
    #expect(await fixture.delete("web-1").address != nil)
    var introspection = Introspection(
      settings: try Settings(environment: [:]), pool: fixture.pool, status: { await fixture.pool.status() })
    let commands = JSONValue.array(Introspection.paths.map { .string($0) })
    for path in ["/", "/v1", "/v2/enis", "/v1/enis/", ""] {
      let answer = await introspection.answer(path)
      #expect(answer.status == 200)
      #expect(try JSONParser.parse(answer.body) == ["AvailableCommands": commands])
    }
    for path in Introspection.paths where path != "/v1/eni-configs" {
      let answer = await introspection.answer(path)
      #expect(answer.status == 200 && answer.contentType == "application/json")
      #expect(try JSONParser.parse(answer.body).object?.members.isEmpty == false, "\(path)")
    }
    let enis = try JSONParser.parse(await introspection.answer("/v1/enis").body)
    #expect(enis["0"]?["TotalIPs"]?.int == 2 && enis["0"]?["AssignedIPs"]?.int == 1)
    let pods = try JSONParser.parse(await introspection.answer("/v1/pods").body)
    #expect(pods.object?.members.map(\.key) == ["web-0_default_"])
    #expect(await introspection.answer("/v1/eni-configs").status == 404)
    introspection.eniConfigName = { "az-\"a\"" }
    #expect(await introspection.answer("/v1/eni-configs").body == Array(#""az-\"a\"""#.utf8))
  }

  @Test(arguments: [
    (0, "1970-01-01T00:00:00Z"), (1_700_000_000_000_000_000, "2023-11-14T22:13:20Z"),
    (1_700_000_000_000_000_010, "2023-11-14T22:13:20.00000001Z"), (-1, "1969-12-31T23:59:59.999999999Z"),
  ])
  func timesAsGoWritesThem(_ nanoseconds: Int64, _ text: String) {
    #expect(GoTime.text(unixNanoseconds: nanoseconds) == text)
  }

  /// RFC 4648, section 10, and every mask length.
  @Test func base64() {
    for (text, encoded) in [
      ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
      ("foobar", "Zm9vYmFy"),
    ] {
      #expect(Base64.encode(Array(text.utf8)) == encoded)
    }
    for length in 0...255 {
      let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37) }
      #expect(Data(base64Encoded: Base64.encode(bytes)).map(Array.init) == bytes)
    }
  }
}
