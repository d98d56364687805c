// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCCloud
import VPCModel

@testable import AgentMode

/// EC2's errors and data translated for the pool.
@Suite struct NodeENITests {
  typealias Fault = ActionFailure.Fault

  /// Texts as EC2 sends them, including those whose code alone says too little.
  @Test(arguments: [
    (
      "UnassignPrivateIpAddresses", "InvalidParameterValue", "Some of [10.0.0.9] are not assigned to interface eni-1",
      400,
      Fault.notAssigned
    ),
    (
      "AttachNetworkInterface", "InvalidParameterValue",
      "Instance 'i-0123456789abcdef0' already has an interface attached at device index '1'.", 400, Fault.deviceTaken
    ),
    (
      "AttachNetworkInterface", "AttachmentLimitExceeded", "Interface count 4 exceeds the limit for m5.large", 400,
      .attachmentLimit
    ),
    (
      "AssignPrivateIpAddresses", "PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.",
      400, .addressLimit
    ),
    (
      "AssignPrivateIpAddresses", "InsufficientFreeAddressesInSubnet",
      "The specified subnet does not have enough free addresses to satisfy the request.", 400, .subnetFull
    ),
    (
      "CreateNetworkInterface", "InvalidParameterValue",
      "There aren't sufficient free Ipv4 addresses or prefixes in subnet subnet-1", 400, .subnetFull
    ),
    (
      "AssignPrivateIpAddresses", "InsufficientCidrBlocks",
      "There are not enough free cidr blocks in the specified subnet to satisfy the request.", 400, .noFreePrefix
    ),
    (
      "UnassignPrivateIpAddresses", "InvalidNetworkInterfaceID.NotFound",
      "The networkInterface ID 'eni-0123456789abcdef0' does not exist", 400, .eniGone
    ),
    (
      "CreateNetworkInterface", "RequestLimitExceeded", "Request limit exceeded.", 503,
      .throttled(call: "CreateNetworkInterface")
    ),
    ("DescribeNetworkInterfaces", "Throttling", "Rate exceeded", 400, .throttled(call: "DescribeNetworkInterfaces")),
    (
      "CreateNetworkInterface", "UnauthorizedOperation",
      "You are not authorized to perform this operation. User: arn:aws:sts::1:assumed-role/r/i is not authorized to "
        + "perform: ec2:CreateNetworkInterface. Encoded authorization failure message: AbCd", 403,
      .unauthorized(permission: "ec2:CreateNetworkInterface")
    ),
    (
      "CreateNetworkInterface", "InvalidParameterValue", "Value (x) for parameter groupId is invalid", 400,
      .other("CreateNetworkInterface: InvalidParameterValue: Value (x) for parameter groupId is invalid")
    ),
    ("AttachNetworkInterface", "InternalError", "", 500, .other("AttachNetworkInterface: InternalError")),
  ])
  func faults(_ action: String, _ code: String, _ message: String, _ status: Int, _ fault: Fault) {
    let error = EC2Error(action: action, code: EC2Error.Code(code), message: message, status: status)
    #expect(NodeENIs.fault(of: error) == fault)
  }

  /// If the answer is lost or EC2 fails midway, the action may have been carried out.
  @Test(
    arguments: [
      (EC2Error.Code.noAnswer, nil, false, true), (.noAnswer, nil, true, false), (.malformedAnswer, 200, false, true),
      (EC2Error.Code("InternalError"), 500, false, true), (EC2Error.Code("Unavailable"), 503, false, true),
      (.requestLimitExceeded, 503, false, false), (.invalidParameterValue, 400, false, false),
      (.noCredentials, nil, true, false),
    ] as [(EC2Error.Code, Int?, Bool, Bool)])
  func lostAnswers(_ code: EC2Error.Code, _ status: Int?, _ isUnsent: Bool, _ mayBeDone: Bool) {
    let error = EC2Error(action: "CreateNetworkInterface", code: code, status: status, isUnsent: isUnsent)
    #expect(error.mayBeDone == mayBeDone)
  }

  @Test func detachmentUnderWay() {
    let words = "Network interface 'eni-1' is currently in use."
    #expect(
      EC2Error(action: "DeleteNetworkInterface", code: .invalidParameterValue, message: words, status: 400)
        .isStillAttached)
    #expect(
      !EC2Error(action: "DeleteNetworkInterface", code: .invalidParameterValue, message: "no", status: 400)
        .isStillAttached)
  }

  @Test func tags() {
    let bare = ENITags(instanceID: "i-1", clusterName: "", additional: [:])
    #expect(bare.description == "aws-K8S-i-1")
    #expect(
      bare.forNewENI(created: "2026-01-02T03:04:05Z") == [
        "node.k8s.amazonaws.com/instance_id": "i-1", "node.k8s.amazonaws.com/createdAt": "2026-01-02T03:04:05Z",
      ])
    #expect(bare.missing(from: ["node.k8s.amazonaws.com/instance_id": "i-1", "x": "y"]).isEmpty)
    #expect(
      bare.missing(from: ["node.k8s.amazonaws.com/instance_id": "i-0"]) == ["node.k8s.amazonaws.com/instance_id": "i-1"]
    )
    let full = ENITags(
      instanceID: "i-1", clusterName: "blue", additional: ["team": "a", "eks:eni:owner": "somebody else"])
    #expect(
      full.forNewENI(created: "t") == [
        "node.k8s.amazonaws.com/instance_id": "i-1", "node.k8s.amazonaws.com/createdAt": "t",
        "cluster.k8s.amazonaws.com/name": "blue", "eks:eni:owner": "somebody else", "team": "a",
      ])
    // The creation time is written once: adopting an ENI does not make it younger.
    #expect(
      full.missing(from: ["team": "a", "eks:eni:owner": "amazon-vpc-cni"]) == [
        "node.k8s.amazonaws.com/instance_id": "i-1", "cluster.k8s.amazonaws.com/name": "blue",
        "eks:eni:owner": "somebody else",
      ])
  }

  @Test func directory() throws {
    let directory = ENIDirectory()
    let eni = try #require(ENIID("eni-1"))
    let subnet = try #require(SubnetID("subnet-1"))
    let entry = ENIDirectory.Entry(
      mac: MACAddress(bits: 1), subnet: subnet, device: 1, isManaged: true, isUnmarked: true)
    directory.set(entry, for: eni)
    #expect(directory.entries == [eni: entry] && entry.needsCare && !entry.isPrimary)
    directory.update(eni) { $0.isUnmarked = false }
    #expect(directory.entry(for: eni)?.needsCare == false)
    // A listing requested before the ENI was entered does not know the ENI.
    directory.prune(to: [], askedAt: .now.advanced(by: .seconds(-1)))
    #expect(directory.entry(for: eni) != nil)
    directory.prune(to: [eni], askedAt: .now.advanced(by: .seconds(1)))
    #expect(directory.entry(for: eni) != nil && !directory.isInTransit(eni))
    directory.remove(eni)
    #expect(directory.entry(for: eni) == nil && directory.cidr(of: subnet) == nil)
    // IMDS still shows it for a while.
    #expect(directory.isInTransit(eni))
    directory.set(entry, for: eni)
    directory.prune(to: [], askedAt: .now.advanced(by: .seconds(1)))
    #expect(directory.entries.isEmpty)
  }
}
