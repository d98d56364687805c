// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCCloud
import VPCModel
import VPCTransport

/// Answers in the forms that the EC2 API Reference shows.
@Suite struct EC2ResponseTests {
  private let eni: ENIID

  init() throws { eni = try #require(ENIID("eni-0a1b2c3d4e5f67890")) }

  private func client(_ body: String) -> EC2Client { EC2Harness { _ in HTTPResponse(200, body) }.client }

  private func failure<Value>(_ body: () async throws(EC2Error) -> Value) async -> EC2Error? {
    do throws(EC2Error) {
      _ = try await body()
      Issue.record("no error")
      return nil
    } catch {
      return error
    }
  }

  static let interface = """
    <networkInterfaceId>eni-0a1b2c3d4e5f67890</networkInterfaceId><subnetId>subnet-a61dafcf</subnetId>
    <vpcId>vpc-a31dafca</vpcId><availabilityZone>ap-northeast-1b</availabilityZone><description>aws-K8S-i-22197876</description>
    <ownerId>053230519467</ownerId><requesterManaged>false</requesterManaged><status>in-use</status>
    <macAddress>02:74:B0:72:79:61</macAddress><privateIpAddress>10.0.0.146</privateIpAddress>
    <sourceDestCheck>true</sourceDestCheck>
    <groupSet><item><groupId>sg-1a2b3c4d</groupId><groupName>default</groupName></item></groupSet>
    <attachment><attachmentId>eni-attach-08ac3da5d33fc7a02</attachmentId><instanceId>i-01234567890abcdef</instanceId>
      <instanceOwnerId>053230519467</instanceOwnerId><deviceIndex>1</deviceIndex><networkCardIndex>1</networkCardIndex>
      <status>attached</status><attachTime>2013-11-30T23:36:42.000Z</attachTime><deleteOnTermination>true</deleteOnTermination>
    </attachment>
    <tagSet><item><key>k</key><value>v</value></item><item><key>empty</key><value/></item></tagSet>
    <privateIpAddressesSet><item><privateIpAddress>10.0.0.146</privateIpAddress><primary>true</primary></item>
      <item><privateIpAddress>10.0.0.148</privateIpAddress><primary>false</primary></item>
      <item><privateIpAddress>10.0.0.150</privateIpAddress><primary>false</primary></item></privateIpAddressesSet>
    <ipv6AddressesSet><item><ipv6Address>2001:db8:1234:1a00::123</ipv6Address></item></ipv6AddressesSet>
    <ipv4PrefixSet><item><ipv4Prefix>10.0.1.16/28</ipv4Prefix></item></ipv4PrefixSet>
    <ipv6PrefixSet><item><ipv6Prefix>2001:db8:1234:1a00:3::/80</ipv6Prefix></item></ipv6PrefixSet>
    <connectionTrackingConfiguration><tcpEstablishedTimeout>350</tcpEstablishedTimeout></connectionTrackingConfiguration>
    <interfaceType>interface</interfaceType>
    """

  static func description(_ interface: String, token: String = "") -> String {
    """
    <DescribeNetworkInterfacesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>fc45294c</requestId>
    <networkInterfaceSet><item>\(interface)</item></networkInterfaceSet><nextToken>\(token)</nextToken>
    </DescribeNetworkInterfacesResponse>
    """
  }

  @Test func networkInterface() async throws {
    let found = try #require(try await client(Self.description(Self.interface)).describeNetworkInterfaces([eni]).first)
    #expect(found.id == eni && found.mac.description == "02:74:b0:72:79:61" && found.status == "in-use")
    #expect(found.primaryIPv4?.description == "10.0.0.146")
    #expect(found.secondaryIPv4.map(\.description) == ["10.0.0.148", "10.0.0.150"])
    #expect(found.ipv4Prefixes.map(\.description) == ["10.0.1.16/28"])
    #expect(found.ipv6Addresses.count == 1 && found.ipv6Prefixes.map(\.length) == [80])
    #expect(found.attachment?.deviceIndex == 1 && found.attachment?.networkCard == 1)
    #expect(found.attachment?.deleteOnTermination == true)
    #expect(found.tags == ["k": "v", "empty": ""] && found.securityGroupIDs == ["sg-1a2b3c4d"])
    #expect(found.connectionTracking == EC2ConnectionTracking(tcpEstablishedSeconds: 350))
    let create =
      "<CreateNetworkInterfaceResponse><networkInterface>\(Self.interface)</networkInterface></CreateNetworkInterfaceResponse>"
    let created = try await client(create).createNetworkInterface(
      .init(subnetID: "subnet-a61dafcf", securityGroupIDs: ["sg-1"], description: "d"))
    #expect(created == found)
    let elsewhere = await failure { () async throws(EC2Error) in
      try await client(create).createNetworkInterface(
        .init(subnetID: "subnet-1", securityGroupIDs: ["sg-1"], description: "d"))
    }
    #expect(elsewhere?.code == .malformedAnswer, "it is not the one that was asked for")
  }

  @Test(arguments: [
    ("eni-0a1b2c3d4e5f67890", "ENI!", "networkInterfaceId"), ("02:74:B0:72:79:61", "02:74", "macAddress"),
    ("10.0.0.148", "10.0.0.1480", "privateIpAddress"), ("10.0.1.16/28", "10.0.1.17/28", "ipv4Prefix"),
    ("<deviceIndex>1<", "<deviceIndex>x<", "deviceIndex"), ("subnet-a61dafcf", "../..", "subnetId"),
    ("<status>in-use</status>", "", "status"),
  ])
  func fieldsAreChecked(_ good: String, _ bad: String, _ field: String) async {
    let ec2 = client(Self.description(Self.interface.replacing(good, with: bad)))
    let error = await failure { () async throws(EC2Error) in try await ec2.describeNetworkInterfaces([eni]) }
    #expect(error?.code == .malformedAnswer)
    #expect(error?.message.contains(field) == true)
  }

  @Test func pagesAreFollowed() async throws {
    let harness = EC2Harness { HTTPResponse(200, Self.description(Self.interface, token: $0 < 3 ? "page\($0)" : "")) }
    #expect(try await harness.client.describeNetworkInterfaces(instanceID: "i-1").count == 3)
    #expect(harness.transport.requests.map { EC2Harness.fields($0)["NextToken"] } == [nil, "page1", "page2"])
    let endless = EC2Harness { _ in HTTPResponse(200, Self.description(Self.interface, token: "again")) }
    let error = await failure { () async throws(EC2Error) in
      try await endless.client.describeNetworkInterfaces(instanceID: "i-1")
    }
    #expect(error?.code == .malformedAnswer && endless.transport.requests.count == 100)
  }

  @Test func attachAndAssign() async throws {
    let attach =
      "<AttachNetworkInterfaceResponse><attachmentId>eni-attach-1</attachmentId></AttachNetworkInterfaceResponse>"
    #expect(try await client(attach).attachNetworkInterface(eni, instanceID: "i-1", deviceIndex: 1) == "eni-attach-1")
    let assign = """
      <AssignPrivateIpAddressesResponse><requestId>x</requestId><networkInterfaceId>eni-0a1b2c3d4e5f67890</networkInterfaceId>
      <assignedPrivateIpAddressesSet><item><privateIpAddress>10.0.0.7</privateIpAddress></item></assignedPrivateIpAddressesSet>
      <assignedIpv4PrefixSet><item><ipv4Prefix>10.0.2.0/28</ipv4Prefix></item></assignedIpv4PrefixSet><return>true</return>
      </AssignPrivateIpAddressesResponse>
      """
    let assigned = try await client(assign).assignAddresses(.addresses(1), to: eni)
    #expect(assigned.map(\.description) == ["10.0.0.7/32", "10.0.2.0/28"])
    let assignIPv6 = """
      <AssignIpv6AddressesResponse><requestId>x</requestId><networkInterfaceId>eni-0a1b2c3d4e5f67890</networkInterfaceId>
      <assignedIpv6Addresses><item>2001:db8::7</item></assignedIpv6Addresses>
      <assignedIpv6PrefixSet><item>2001:db8:0:0:1::/80</item></assignedIpv6PrefixSet></AssignIpv6AddressesResponse>
      """
    let both = try await client(assignIPv6).assignAddresses(.prefixes(1), .ipv6, to: eni)
    #expect(both.map(\.description) == ["2001:db8::7/128", "2001:db8:0:0:1::/80"])
    let bad = assignIPv6.replacing("2001:db8::7<", with: "10.0.0.7<")
    let refused = await failure { () async throws(EC2Error) in
      try await client(bad).assignAddresses(.prefixes(1), .ipv6, to: eni)
    }
    #expect(refused?.code == .malformedAnswer)
    let other = try #require(ENIID("eni-2"))
    let foreign = await failure { () async throws(EC2Error) in
      try await client(assign).assignAddresses(.addresses(1), to: other)
    }
    #expect(foreign?.code == .malformedAnswer)
  }

  @Test func instanceType() async throws {
    let body = """
      <DescribeInstanceTypesResponse><instanceTypeSet><item><instanceType>p4d.24xlarge</instanceType><bareMetal>false</bareMetal>
      <hypervisor>nitro</hypervisor><networkInfo><networkPerformance>4x 100 Gigabit</networkPerformance>
      <maximumNetworkInterfaces>60</maximumNetworkInterfaces><maximumNetworkCards>4</maximumNetworkCards>
      <defaultNetworkCardIndex>0</defaultNetworkCardIndex><networkCards>
      <item><networkCardIndex>1</networkCardIndex><maximumNetworkInterfaces>15</maximumNetworkInterfaces></item>
      <item><networkCardIndex>0</networkCardIndex><maximumNetworkInterfaces>15</maximumNetworkInterfaces></item></networkCards>
      <ipv4AddressesPerInterface>50</ipv4AddressesPerInterface><ipv6AddressesPerInterface>50</ipv6AddressesPerInterface>
      </networkInfo></item></instanceTypeSet></DescribeInstanceTypesResponse>
      """
    let type = try #require(try await client(body).describeInstanceType("p4d.24xlarge"))
    #expect(type.maximumInterfaces == 15 && type.ipv4PerInterface == 50 && type.cards.map(\.index) == [0, 1])
    #expect(try await client(body).describeInstanceType("other") == nil)
    for broken in [">50</ipv4", ">15</maximumNetworkInterfaces>"] {
      let none = broken.replacing("50", with: "0").replacing("15", with: "0")
      let error = await failure { () async throws(EC2Error) in
        try await client(body.replacing(broken, with: none)).describeInstanceType("p4d.24xlarge")
      }
      #expect(error?.code == .malformedAnswer, "\(broken)")
    }
  }

  @Test func instance() async throws {
    let body = """
      <DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-0a1</instanceId>
      <instanceType>m5.large</instanceType><instanceState><code>16</code><name>running</name></instanceState>
      <subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><tagSet><item><key>Name</key><value>n</value></item></tagSet>
      <networkInterfaceSet><item><networkInterfaceId>eni-2</networkInterfaceId><attachment><attachmentId>eni-attach-2</attachmentId>
      <deviceIndex>1</deviceIndex></attachment></item><item><networkInterfaceId>eni-1</networkInterfaceId><attachment>
      <attachmentId>eni-attach-1</attachmentId><deviceIndex>0</deviceIndex></attachment></item></networkInterfaceSet>
      </item></instancesSet></item></reservationSet></DescribeInstancesResponse>
      """
    let instance = try #require(try await client(body).describeInstance("i-0a1"))
    #expect(instance.state == "running" && instance.tags == ["Name": "n"] && instance.vpcID == "vpc-1")
    #expect(instance.attachments.map(\.interfaceID.text) == ["eni-1", "eni-2"])
    #expect(try await client("<DescribeInstancesResponse/>").describeInstance("i-0a1") == nil)
  }

  @Test func subnets() async throws {
    let body = """
      <DescribeSubnetsResponse><subnetSet><item><subnetId>subnet-1</subnetId><state>available</state><vpcId>vpc-1</vpcId>
      <cidrBlock>10.0.1.0/24</cidrBlock><ipv6CidrBlockAssociationSet><item><ipv6CidrBlock>2001:db8::/64</ipv6CidrBlock></item>
      </ipv6CidrBlockAssociationSet><availableIpAddressCount>251</availableIpAddressCount>
      <availabilityZone>us-east-1a</availabilityZone></item></subnetSet></DescribeSubnetsResponse>
      """
    let subnet = try #require(try await client(body).describeSubnet("subnet-1"))
    #expect(subnet.ipv4CIDR?.description == "10.0.1.0/24" && subnet.availableAddresses == 251)
    #expect(subnet.ipv6CIDRs.map(\.length) == [64])
  }

  /// Changes answers at random. The result is always a value or an error. FUZZ_SECONDS lengthens the test.
  @Test func mutatedAnswersDoNotCrash() async {
    var random = SplitMix64(seed: 7)
    let seeds = [Self.description(Self.interface), EC2Harness.error("A", "b"), "<a><![CDATA[x]]>&amp;</a>"]
      .map { Array($0.utf8) }
    let deadline = ContinuousClock.now.advanced(by: .seconds(fuzzSeconds))
    var accepted = 0
    var rounds = 0
    while rounds < 200 || ContinuousClock.now < deadline {
      rounds += 1
      let bytes = random.mutate(seeds[Int(random.next() % UInt64(seeds.count))])
      if (try? XMLParser.parse(bytes, limits: XMLParser.Limits(size: 1 << 16, depth: 16, elements: 1000))) != nil {
        accepted += 1
      }
      let harness = EC2Harness { _ in HTTPResponse(status: 200, body: bytes) }
      _ = try? await harness.client.describeNetworkInterfaces([eni])
      _ = try? await IMDSClient(
        transport: FakeTransport { (_) async throws(HTTPError) in HTTPResponse(status: 200, body: bytes) },
        time: harness.time.source
      ).interface(MACAddress(bits: 1))
      _ = ProfileFile(bytes, kind: .config)
      _ = UTCTime(iso8601: String(decoding: bytes.prefix(24), as: UTF8.self))
      _ = UTCTime(httpDate: String(decoding: bytes.prefix(32), as: UTF8.self))
      _ = EndpointURL(String(decoding: bytes.prefix(64), as: UTF8.self))
    }
    #expect(accepted > 0)
  }
}
