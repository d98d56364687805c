// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCCloud
import VPCLinux
import VPCModel

@testable import AgentMode

/// The pool's actions as EC2 calls: which calls, how many, and what remains when one of them fails.
@Suite struct ENIOperationTests {
  private func attached(_ result: ActionResult) throws -> ENIObservation {
    guard case .attached(let observation) = result else {
      Issue.record("\(result)")
      throw CancellationError()
    }
    return observation
  }

  private func failure(_ result: ActionResult) -> ActionFailure? {
    if case .failed(let failure) = result { failure } else { nil }
  }

  @Test func oneMoreENIIsThreeCalls() async throws {
    let fixture = try await CloudFixture(clusterName: "blue", additionalTags: ["team": "a"])
    let tracking = "<tcpEstablishedTimeout>350</tcpEstablishedTimeout>"
    fixture.cloud.change {
      $0.date = UTCTime(iso8601: "2026-03-01T12:00:00Z")
      $0.enis["eni-1"]?.tracking = "<connectionTrackingConfiguration>\(tracking)</connectionTrackingConfiguration>"
    }
    _ = try await fixture.enis.describe()
    fixture.cloud.forgetCalls()
    let eni = try attached(await fixture.enis.attach(fixture.request(3)))
    #expect(
      fixture.cloud.actions == [
        "CreateNetworkInterface", "AttachNetworkInterface", "ModifyNetworkInterfaceAttribute",
      ])
    #expect(eni.cidrs.count == 3 && eni.device == 1 && !eni.isWired)
    let made = try #require(fixture.cloud.eni(eni.id.text))
    #expect(made.isMarked && made.description == "aws-K8S-i-1" && made.groups == ["sg-1"])
    #expect(
      Set(made.tags.keys) == [
        "node.k8s.amazonaws.com/instance_id", "node.k8s.amazonaws.com/createdAt", "cluster.k8s.amazonaws.com/name",
        "eks:eni:owner", "team",
      ])
    // The time is EC2's, because nodes share that clock.
    #expect(made.tags["node.k8s.amazonaws.com/createdAt"] == "2026-03-01T12:00:00Z")
    // The idle timeouts of the primary ENI apply to every ENI.
    let create = try #require(fixture.cloud.calls("CreateNetworkInterface").first)
    #expect(create.fields["ConnectionTrackingSpecification.TcpEstablishedTimeout"] == "350")
    #expect(create.fields["SecondaryPrivateIpAddressCount"] == "3" && create.fields["ClientToken"]?.count == 32)
    // An ENI that was created with all its tags needs no care.
    _ = try await fixture.enis.describe()
    #expect(fixture.enis.directory.entry(for: eni.id)?.needsCare == false)
  }

  /// A throttled call is retried; the results of earlier calls are kept.
  @Test(arguments: ["AttachNetworkInterface", "ModifyNetworkInterfaceAttribute"])
  func throttledHalfwayIsFinished(_ action: String) async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.fail(action, "RequestLimitExceeded", times: 5, status: 503)
    let eni = try attached(await fixture.enis.attach(fixture.request()))
    #expect(fixture.cloud.calls("CreateNetworkInterface").count == 1)
    #expect(fixture.cloud.calls(action).count == 6)
    #expect(fixture.cloud.eni(eni.id.text)?.isMarked == true)
    #expect(fixture.time.slept.count == 5 && fixture.time.elapsed < .seconds(90))
    #expect(Set(fixture.time.slept).count == 5, "the waits are random")
  }

  /// EC2 is eventually consistent: the next call may not know an ENI that was created a moment ago.
  @Test(arguments: [
    ("AttachNetworkInterface", "InvalidNetworkInterfaceID.NotFound"),
    ("ModifyNetworkInterfaceAttribute", "InvalidNetworkInterfaceID.NotFound"),
    ("ModifyNetworkInterfaceAttribute", "InvalidAttachmentID.NotFound"),
  ])
  func notKnownYetIsTriedAgain(_ action: String, _ code: String) async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.fail(action, code, times: 3)
    let eni = try attached(await fixture.enis.attach(fixture.request()))
    #expect(fixture.cloud.calls("CreateNetworkInterface").count == 1 && fixture.cloud.calls(action).count == 4)
    #expect(fixture.cloud.eni(eni.id.text)?.isMarked == true && fixture.time.elapsed < .seconds(30))
    let gone = try await CloudFixture()
    gone.cloud.fail(action, code, times: 1000)
    #expect(failure(await gone.enis.attach(gone.request())) != nil)
    #expect(gone.cloud.calls(action).count < 10 && gone.time.elapsed < .seconds(40), "not for ever")
    #expect(gone.cloud.enis.count == 1)
  }

  @Test func throttledForLongIsTakenBack() async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.fail("AttachNetworkInterface", "RequestLimitExceeded", times: 1000, status: 503)
    let failure = failure(await fixture.enis.attach(fixture.request()))
    #expect(failure?.fault == .throttled(call: "AttachNetworkInterface"))
    #expect(fixture.cloud.calls("AttachNetworkInterface").count <= 12 && fixture.time.elapsed <= .seconds(90))
    #expect(fixture.cloud.enis.count == 1, "nothing is left behind")
  }

  /// An ENI that carries pods is kept; it is marked later.
  @Test func markThatWillNotSucceedComesLater() async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.fail("ModifyNetworkInterfaceAttribute", "RequestLimitExceeded", times: 12, status: 503)
    let eni = try attached(await fixture.enis.attach(fixture.request()))
    #expect(fixture.cloud.eni(eni.id.text)?.isMarked == false)
    #expect(fixture.enis.directory.entry(for: eni.id)?.isUnmarked == true)
    fixture.cloud.change { $0.faults = [:] }
    var told: Set<ENIID> = []
    #expect(await fixture.enis.care(&told))
    #expect(fixture.cloud.eni(eni.id.text)?.isMarked == true && told.isEmpty)
  }

  @Test(arguments: [
    ("CreateNetworkInterface", "ec2:CreateNetworkInterface"), ("AttachNetworkInterface", "ec2:AttachNetworkInterface"),
    ("ModifyNetworkInterfaceAttribute", "ec2:ModifyNetworkInterfaceAttribute"),
  ])
  func refusedLeavesNothing(_ action: String, _ permission: String) async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.change { $0.denied = [action] }
    let failure = failure(await fixture.enis.attach(fixture.request()))
    #expect(failure?.fault == .unauthorized(permission: permission) && failure?.mayBeDone == false)
    #expect(fixture.cloud.enis.count == 1)
  }

  /// A lost answer does not make the agent create or attach anything twice.
  @Test(arguments: ["CreateNetworkInterface", "AttachNetworkInterface", "ModifyNetworkInterfaceAttribute"])
  func lostAnswers(_ action: String) async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.change { $0.lost = [action] }
    let eni = try attached(await fixture.enis.attach(fixture.request()))
    #expect(fixture.cloud.eni(eni.id.text)?.device == 1 && fixture.cloud.eni(eni.id.text)?.isMarked == true)
    let tokens = Set(fixture.cloud.calls("CreateNetworkInterface").map { $0.fields["ClientToken"] })
    #expect(tokens.count == 1, "one token, so that EC2 makes one ENI")
    if action == "AttachNetworkInterface" { #expect(fixture.cloud.calls(action).count == 1) }
  }

  /// If EC2 does not say either whether it attached the ENI, the agent deletes the ENI. EC2 refuses that if the ENI is
  /// attached.
  @Test(arguments: [false, true])
  func attachmentThatNobodyTellsOf(isDone: Bool) async throws {
    let fixture = try await CloudFixture()
    if isDone {
      fixture.cloud.change { $0.lost = ["AttachNetworkInterface"] }
    } else {
      fixture.cloud.fail("AttachNetworkInterface", "InternalError", times: 10, status: 500)
    }
    fixture.cloud.change { $0.denied = ["DescribeNetworkInterfaces"] }
    let failure = failure(await fixture.enis.attach(fixture.request()))
    #expect(failure?.fault == .unauthorized(permission: "ec2:DescribeNetworkInterfaces"))
    #expect(fixture.cloud.enis.count == (isDone ? 2 : 1))
    #expect(failure?.mayBeDone == isDone, "the pool looks for what is attached")
    #expect(fixture.time.elapsed < .seconds(20), "the pool waits for the end of it")
  }

  /// Freeing an ENI: if the detach fails, the ENI is kept; if the delete fails, the sweep deletes it later, and the
  /// failure is reported.
  @Test(arguments: [
    (
      "DetachNetworkInterface", "UnauthorizedOperation", 1,
      ActionFailure.Fault?.some(.unauthorized(permission: "ec2:DetachNetworkInterface")), true
    ),
    ("DetachNetworkInterface", "InvalidAttachmentID.NotFound", 1, nil, false),
    ("DeleteNetworkInterface", "InvalidNetworkInterface.InUse", 4, nil, false),
    ("DeleteNetworkInterface", "InvalidNetworkInterfaceID.NotFound", 1, nil, true),
    ("DeleteNetworkInterface", "RequestLimitExceeded", 3, nil, false),
    ("DeleteNetworkInterface", "UnauthorizedOperation", 1, nil, true),
  ])
  func freeing(_ action: String, _ code: String, _ times: Int, _ fault: ActionFailure.Fault?, _ isLeft: Bool)
    async throws
  {
    let fixture = try await CloudFixture()
    let eni = try attached(await fixture.enis.attach(fixture.request(3)))
    // This is the state after a detach whose answer was lost.
    if code == "InvalidAttachmentID.NotFound" { fixture.cloud.change { $0.enis[eni.id.text]?.device = nil } }
    fixture.cloud.fail(action, code, times: times)
    let result = await fixture.enis.free(eni.id)
    #expect(failure(result)?.fault == fault)
    #expect((fixture.cloud.eni(eni.id.text) != nil) == isLeft)
    #expect((fixture.enis.directory.entry(for: eni.id) != nil) == (fault != nil), "kept where it is still attached")
    #expect(fixture.time.elapsed < .seconds(180))
  }

  /// Somebody else took the ENI away, and the agent finds out while freeing it. It forgets everything about the ENI.
  @Test func goneBeforeItIsFreed() async throws {
    let fixture = try await CloudFixture()
    let eni = try attached(await fixture.enis.attach(fixture.request(3)))
    fixture.enis.directory.update(eni.id) { $0.attachmentID = nil }
    fixture.cloud.change { $0.enis[eni.id.text] = nil }
    fixture.cloud.fail("DescribeNetworkInterfaces", "InvalidNetworkInterfaceID.NotFound")
    let result = await fixture.enis.free(eni.id)
    guard case .done = result else {
      Issue.record("\(result)")
      return
    }
    #expect(fixture.enis.directory.entry(for: eni.id) == nil, "its addresses may be another ENI's by now")
  }

  /// An ENI that was tagged `no_manage` under running pods is still one that the kernel must route.
  @Test func whatThePoolWantsIsWantedOfTheKernel() async throws {
    let fixture = try await CloudFixture()
    var eni = try attached(await fixture.enis.attach(fixture.request(3)))
    eni.isManaged = false
    let wanted = fixture.enis.nodeWanted(WantedENIs(generation: 7, enis: [eni]))
    let entry = try #require(fixture.enis.directory.entry(for: eni.id))
    #expect(wanted.generation == 7 && wanted.enis[eni.id]?.sources == Set(eni.cidrs))
    #expect(wanted.enis[eni.id]?.mac == entry.mac && wanted.enis[eni.id]?.subnet == fixture.identity.primarySubnetCIDR)
  }

  // MARK: answers that cannot be true

  /// Each is an AssignPrivateIpAddresses answer to "two addresses for eni-1"; none may reach a pod.
  @Test(arguments: [
    ("another subnet", "10.0.0.50 10.9.0.1"), ("one address twice", "10.0.0.50 10.0.0.50"),
    ("more than asked", "10.0.0.50 10.0.0.51 10.0.0.52"), ("the own address of another ENI", "10.0.0.50 10.0.0.20"),
    ("its own address", "10.0.0.50 10.0.0.10"), ("a prefix", "10.0.0.64/28"), ("no address", "10.0.0.300"),
  ])
  func assignLies(_ what: String, _ items: String) async throws {
    let fixture = try await CloudFixture(liar())
    _ = try await fixture.enis.describe()
    fixture.cloud.change { $0.lies["AssignPrivateIpAddresses"] = answer(items) }
    let failure = failure(await fixture.enis.assign(2, .address, to: try CloudFixture.eni("eni-1")))
    #expect(failure?.mayBeDone == true, "\(what): a listing must decide")
  }

  @Test(arguments: [
    ("another size", "10.0.1.0/27"), ("an address", "10.0.0.50"), ("around its own address", "10.0.0.0/28"),
    ("outside", "10.200.0.0/28"),
  ])
  func prefixLies(_ what: String, _ items: String) async throws {
    let fixture = try await CloudFixture(liar())
    _ = try await fixture.enis.describe()
    fixture.cloud.change { $0.lies["AssignPrivateIpAddresses"] = answer(items) }
    let failure = failure(await fixture.enis.assign(1, .prefix, to: try CloudFixture.eni("eni-1")))
    #expect(failure?.mayBeDone == true, "\(what)")
  }

  /// A listing that shows the same address on another ENI is older than the answer.
  @Test(arguments: ["10.0.0.50 10.0.3.3", "10.0.0.50 10.0.8.5"]) func anAnswerIsNewerThanAListing(_ items: String)
    async throws
  {
    let fixture = try await CloudFixture(liar())
    _ = try await fixture.enis.describe()
    fixture.cloud.change { $0.lies["AssignPrivateIpAddresses"] = answer(items) }
    guard case .assigned(let got) = await fixture.enis.assign(2, .address, to: try CloudFixture.eni("eni-1")) else {
      Issue.record("not assigned")
      return
    }
    #expect(got.map { "\($0.address)" }.joined(separator: " ") == items)
  }

  @Test func answerAboutAnotherENI() async throws {
    let fixture = try await CloudFixture(liar())
    fixture.cloud.change {
      $0.lies["AssignPrivateIpAddresses"] =
        "<networkInterfaceId>eni-2</networkInterfaceId>" + answer("10.0.0.50")
    }
    #expect(failure(await fixture.enis.assign(1, .address, to: try CloudFixture.eni("eni-1")))?.mayBeDone == true)
  }

  @Test func fewerThanAskedIsAnAnswer() async throws {
    let fixture = try await CloudFixture(liar())
    fixture.cloud.change { $0.lies["AssignPrivateIpAddresses"] = answer("10.0.0.50") }
    guard case .assigned(let got) = await fixture.enis.assign(5, .address, to: try CloudFixture.eni("eni-1")) else {
      Issue.record("not assigned")
      return
    }
    #expect(got.map(\.description) == ["10.0.0.50/32"])
  }

  @Test func newENIWithStrangeAddresses() async throws {
    let fixture = try await CloudFixture()
    var lie = FakeCloud.ENI(id: "eni-101", mac: "02:00:00:00:01:65", own: "10.0.1.1")
    lie.singles = ["10.0.1.2", "172.31.0.1"]
    let xml = "<networkInterface>\(FakeCloud.xml(lie))</networkInterface>"
    fixture.cloud.change { $0.lies["CreateNetworkInterface"] = xml }
    let eni = try attached(await fixture.enis.attach(fixture.request(2)))
    #expect(eni.cidrs.isEmpty && fixture.log.count("EC2 response is inconsistent") == 1)
  }

  @Test func newENIInAnotherSubnet() async throws {
    let fixture = try await CloudFixture()
    var lie = FakeCloud.ENI(id: "eni-101", mac: "02:00:00:00:01:65", own: "10.0.1.1")
    lie.subnet = "subnet-9"
    let xml = "<networkInterface>\(FakeCloud.xml(lie))</networkInterface>"
    fixture.cloud.change { $0.lies["CreateNetworkInterface"] = xml }
    #expect(failure(await fixture.enis.attach(fixture.request()))?.mayBeDone == true)
    #expect(fixture.cloud.calls("AttachNetworkInterface").isEmpty)
  }

  /// A listing shows the same address on two ENIs, or addresses outside the ENI's subnet. Those addresses are left out.
  @Test func listingThatContradictsItself() async throws {
    let fixture = try await CloudFixture(liar())
    fixture.cloud.change {
      $0.enis["eni-1"]?.singles = ["10.0.0.50", "10.0.3.3", "192.168.7.7", "10.0.8.9"]
      $0.enis["eni-1"]?.prefixes = ["10.0.2.0/28", "10.0.2.32/27"]
    }
    let listed = try await fixture.enis.describe()
    let first = try #require(listed.first { $0.id.text == "eni-1" })
    let second = try #require(listed.first { $0.id.text == "eni-2" })
    #expect(first.cidrs.map(\.description) == ["10.0.0.50/32", "10.0.2.0/28"])
    #expect(second.cidrs.isEmpty, "of both that hold it")
    #expect(fixture.log.count("contradicts") == 1)
  }

  private func liar() -> FakeCloud {
    let cloud = FakeCloud()
    cloud.change {
      $0.enis["eni-2"] = FakeCloud.ENI(
        id: "eni-2", mac: "02:00:00:00:00:02", own: "10.0.0.20", singles: ["10.0.3.3"], prefixes: ["10.0.8.0/28"],
        tags: [ENITags.instanceKey: "i-1"], device: 1, isMarked: true)
    }
    return cloud
  }
}

/// An AssignPrivateIpAddresses answer with these items, separated by spaces; items with a length are prefixes.
private func answer(_ items: String) -> String {
  var singles = ""
  var prefixes = ""
  for item in items.split(separator: " ") {
    if item.contains("/") {
      prefixes += "<item><ipv4Prefix>\(item)</ipv4Prefix></item>"
    } else {
      singles += "<item><privateIpAddress>\(item)</privateIpAddress></item>"
    }
  }
  return "<assignedPrivateIpAddressesSet>\(singles)</assignedPrivateIpAddressesSet>"
    + "<assignedIpv4PrefixSet>\(prefixes)</assignedIpv4PrefixSet>"
}
