// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCCloud
import VPCModel
import VPCSystem
import VPCTransport

/// The client against moto, an independent EC2 that verifies every signature.
@Suite struct MotoTests {
  private static let isWanted = TestNeeds.mustRun || MotoServer.python != nil

  private func client(_ moto: MotoServer, secret: String? = nil) throws -> EC2Client {
    let environment = CloudEnvironment([
      "AWS_ACCESS_KEY_ID": moto.accessKeyID, "AWS_SECRET_ACCESS_KEY": secret ?? moto.secretAccessKey,
      "AWS_ENDPOINT_URL": moto.url,
    ])
    return EC2Client(
      transport: PatientTransport(),
      endpoint: try ServiceEndpoint.resolve(.ec2, region: "us-east-1", environment: environment),
      credentials: CredentialsProvider(sources: [EnvironmentSource(environment: environment)]),
      userAgent: "amazon-vpc-cni-k8s/test")
  }

  @Test(.enabled(if: isWanted, "needs a python3 that can import moto and boto3 (VPC_CNI_TEST_PYTHON names one)"))
  func interfaceFromCreationToDeletion() async throws {
    let moto = try await MotoServer.start()
    let ec2 = try client(moto)

    let instance = try #require(try await ec2.describeInstance(moto.instanceID))
    #expect(instance.type == "m5.large" && instance.attachments.map(\.deviceIndex) == [0])
    let limits = try #require(try await ec2.describeInstanceType("m5.large"))
    #expect(limits.maximumInterfaces == 3 && limits.ipv4PerInterface == 10 && limits.cards.count == 1)
    #expect(limits.hypervisor == "nitro" && !limits.isBareMetal)
    let subnet = try #require(try await ec2.describeSubnet(moto.subnetID))
    #expect(subnet.ipv4CIDR?.length == 20)
    let groups = try await ec2.describeSecurityGroups(filters: [EC2Filter("group-id", [moto.securityGroupID])])
    #expect(groups.map(\.name) == ["g"])

    let created = try await ec2.createNetworkInterface(
      .init(
        subnetID: moto.subnetID, securityGroupIDs: [moto.securityGroupID], demand: .addresses(3),
        description: "aws-K8S-\(moto.instanceID)",
        tags: ["node.k8s.amazonaws.com/instance_id": moto.instanceID, "ü & +": "="]))
    #expect(created.secondaryIPv4.count == 3 && created.attachment == nil)
    #expect(created.tags["ü & +"] == "=")

    let attachment = try await ec2.attachNetworkInterface(created.id, instanceID: moto.instanceID, deviceIndex: 1)
    try await ec2.createTags(["k": "v"], interface: created.id)
    let attached = try #require(try await ec2.describeNetworkInterfaces([created.id]).first)
    #expect(attached.attachment?.id == attachment && attached.attachment?.deviceIndex == 1)
    #expect(attached.attachment?.instanceID == moto.instanceID && attached.status == "in-use")
    #expect(attached.tags["k"] == "v" && attached.securityGroupIDs == [moto.securityGroupID])
    #expect(try await ec2.describeNetworkInterfaces(instanceID: moto.instanceID).count == 2)

    let assigned = try await ec2.assignAddresses(.addresses(2), to: created.id)
    #expect(assigned.count >= 2)
    let after = try #require(try await ec2.describeNetworkInterfaces([created.id]).first)
    #expect(after.secondaryIPv4.count == 5)
    let back = after.secondaryIPv4.prefix(2).map { IPPrefix(single: $0) }
    try await ec2.unassignAddresses(back, from: created.id)
    #expect(try await ec2.describeNetworkInterfaces([created.id]).first?.secondaryIPv4.count == 3)

    #expect(try await ec2.detachNetworkInterface(attachmentID: attachment) == .removed)
    #expect(try await ec2.deleteNetworkInterface(created.id) == .removed)
    #expect(try await ec2.deleteNetworkInterface(created.id) == .alreadyGone)
    await #expect(throws: EC2Error.self) { try await ec2.describeNetworkInterfaces([created.id]) }
    #expect(try await ec2.describeInstance("i-00000000000000000") == nil)

    // Moto really verifies the signature.
    let forger = try client(moto, secret: "not the secret")
    do throws(EC2Error) {
      _ = try await forger.describeSubnet(moto.subnetID)
      Issue.record("a wrong signature was accepted")
    } catch {
      #expect(["SignatureDoesNotMatch", "AuthFailure"].contains(error.code.text), "\(error)")
    }
  }

  @Test(.enabled(if: isWanted, "needs a python3 that can import moto and boto3 (VPC_CNI_TEST_PYTHON names one)"))
  func valuesAreReadBackFromCloudWatch() async throws {
    let moto = try await MotoServer.start()
    let now = UTCTime.now.seconds
    func client(secret: String) throws -> CloudWatchClient {
      let environment = CloudEnvironment([
        "AWS_ACCESS_KEY_ID": moto.accessKeyID, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": moto.url,
      ])
      return CloudWatchClient(
        transport: PatientTransport(),
        endpoint: try ServiceEndpoint.resolve(.cloudWatch, region: "us-east-1", environment: environment),
        credentials: CredentialsProvider(sources: [EnvironmentSource(environment: environment)]),
        userAgent: "amazon-vpc-cni-k8s/test")
    }
    func datum(_ index: Int, _ value: Double, unit: MetricDatum.Unit = .count) -> MetricDatum {
      MetricDatum(
        name: "m\(index % 4)", dimensions: ["CLUSTER_ID": "c1"], value: value, unit: unit,
        time: UTCTime(seconds: now - 100 + Int64(index)))
    }
    let cloudWatch = try client(secret: moto.secretAccessKey)
    try await cloudWatch.putMetricData((0..<20).map { datum($0, Double($0) + 0.5) }, namespace: "Kubernetes")
    #expect(
      try await moto.metricValues("Kubernetes", "m1", cluster: "c1").filter { $0 != 0 } == [1.5, 5.5, 9.5, 13.5, 17.5])
    #expect(try await moto.metricValues("Kubernetes", "m1", cluster: "other").filter { $0 != 0 }.isEmpty)

    let tags = try await self.client(moto).instanceTags(moto.instanceID, keys: ["eks:cluster-name", "Name"])
    #expect(tags == ["eks:cluster-name": "moto"])

    let forger = try client(secret: "not the secret")
    do throws(CloudWatchError) {
      try await forger.putMetricData([datum(0, 1)], namespace: "Kubernetes")
      Issue.record("a wrong signature was accepted")
    } catch {
      #expect(error.code == "SignatureDoesNotMatch", "\(error)")
    }
  }
}
