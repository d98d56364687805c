// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCCloud
import VPCKube
import VPCModel
import VPCTransport

@testable import AgentMode

@Suite struct ClusterStateTests {
  /// The order is: external label, annotation, label, `default`. An empty value names nothing.
  @Test(
    arguments: [
      (["vpc.amazonaws.com/externalEniConfig": "e", "l": "x"], ["a": "y"], "e"), (["l": "x"], ["a": "y"], "y"),
      (["l": "x"], [:], "x"), (["l": "x"], ["a": ""], "x"), (["other": "x"], ["b": "y"], "default"),
      ([:], [:], "default"),
    ] as [([String: String], [String: String], String)])
  func nameOfTheENIConfig(_ labels: [String: String], _ annotations: [String: String], _ name: String) {
    let node = KubeMetadata(name: "n", labels: labels, annotations: annotations)
    #expect(ClusterState.eniConfigName(of: node, annotationKey: "a", labelKey: "l") == name)
  }

  /// The faults that status and doctor show: essential ones first, each until it is settled or has long not occurred.
  @Test func faultsAreToldUntilTheyAreSettled() {
    let state = ClusterState()
    state.found(server: "https://a")
    state.failed("events", because: "403", permission: "create events", isEssential: false, for: .seconds(60))
    state.failed("old events", because: "403", isEssential: false, for: .zero)
    state.failed("node n1", because: "unreachable")
    state.failed("node n1", because: "403", permission: "list and watch nodes")
    let status = state.status(nodeName: "n1")
    #expect(status.server == "https://a" && status.node == "n1" && !status.isNodeKnown)
    #expect(status.faults.map(\.subject) == ["node n1", "events"])
    #expect(status.faults.first?.text == "node n1: 403; missing permission: list and watch nodes")
    #expect(state.hasFault("node n1"))
    state.settled("node n1")
    #expect(state.status(nodeName: "n1").faults.map(\.subject) == ["events"])
    // Names of ENIConfigs come from labels: they must not fill the memory.
    for number in 0..<100 { state.failed("ENIConfig \(number)", because: "x") }
    #expect(state.status(nodeName: "n1").faults.count <= 32)
  }

  @Test func waitingEndsWithWhatIsWaitedForOrTheLimit() async {
    let state = ClusterState()
    #expect(await state.wait(within: .milliseconds(20), time: .system) { $0.eniConfigName == "x" } == false)
    async let seen = state.wait(within: .seconds(60), time: .system) { $0.eniConfigName == "x" }
    state.update { $0.eniConfigName = "y" }
    state.update { $0.eniConfigName = "x" }
    #expect(await seen)
  }
}

@Suite struct CustomNetworkTests {
  private func config(groups: [JSONValue] = []) throws -> ENIConfig {
    try ENIConfig([
      "metadata": ["name": "z"], "spec": ["subnet": "subnet-1", "securityGroups": .array(groups)],
    ])
  }

  @Test func subnetMustBeWhereTheNodeIs() async throws {
    let fixture = try await CloudFixture()
    let subnet = try #require(try await fixture.ec2.describeSubnet(fixture.identity.primarySubnet.text))
    let config = try config()
    let vpc = subnet.vpcID
    let zone = subnet.availabilityZone
    #expect(CustomNetwork.fault(config, subnet: subnet, zone: zone, vpcID: vpc) == nil)
    #expect(
      CustomNetwork.fault(config, subnet: nil, zone: zone, vpcID: vpc)
        == "ENIConfig z: spec.subnet subnet-1 does not exist")
    #expect(
      CustomNetwork.fault(config, subnet: subnet, zone: "zz-1a", vpcID: vpc)
        == "ENIConfig z: spec.subnet subnet-1 is in zone \(zone), and the node in zz-1a")
    #expect(
      CustomNetwork.fault(config, subnet: subnet, zone: zone, vpcID: "vpc-9")?.contains("the node in vpc-9") == true)
  }

  @Test func groupsAreThePrimarysUnlessItNamesSome() throws {
    let network = CustomNetwork()
    #expect(network.groups(primary: ["sg-1"]) == nil, "nothing is known yet")
    let subnet = try #require(SubnetID("subnet-1"))
    network.set(CustomNetwork.Choice(name: "z", subnet: subnet, groups: []))
    #expect(network.groups(primary: ["sg-1"]) == ["sg-1"])
    network.set(CustomNetwork.Choice(name: "z", subnet: subnet, groups: ["sg-2"]))
    #expect(network.groups(primary: ["sg-1"]) == ["sg-2"])
  }

  @Test func newENIsHaveItsGroups() async throws {
    let fixture = try await CloudFixture()
    var enis = fixture.enis
    let network = CustomNetwork()
    network.set(CustomNetwork.Choice(name: "z", subnet: fixture.identity.primarySubnet, groups: ["sg-7"]))
    enis.customNetwork = network
    guard case .attached(let eni) = await enis.attach(fixture.request()) else {
      Issue.record("not attached")
      return
    }
    #expect(fixture.cloud.eni(eni.id.text)?.groups == ["sg-7"])
  }
}

@Suite struct EventReporterTests {
  @Test func eachKindOnceInAnInterval() {
    var limit = EventLimit()
    let start = ContinuousClock.now
    let asked: [(String, Int)] = [("a", 0), ("a", 599), ("b", 0), ("a", 600)]
    let answers = asked.map { limit.admits($0.0, start.advanced(by: .seconds($0.1))) }
    #expect(answers == [true, false, true, true])
    for number in 0..<200 { _ = limit.admits("kind \(number)", start.advanced(by: .seconds(600))) }
    let more = [601, 1300].map { limit.admits("one more", start.advanced(by: .seconds($0))) }
    #expect(more == [false, true])
  }

  /// Every cause that leaves a pod without an address has an event reason. Causes that are the fault of the request
  /// have none.
  @Test func reasonsOfCauses() throws {
    let subnet = try #require(SubnetID("subnet-1"))
    #expect(FailureCause.subnetFull(subnet, retryIn: .zero).eventReason == "SubnetFull")
    #expect(FailureCause.noENIConfig("x").eventReason == "NoENIConfig")
    #expect(FailureCause.nodeCordoned.eventReason == "NodeCordoned")
    #expect(FailureCause.badRequest("x").eventReason == nil)
    #expect(FailureCause.missingPermission("ec2:X", retryIn: .zero).eventReason == nil)
  }
}

@Suite struct PodAnnotationsTests {
  private let start = ContinuousClock.now
  private let web = PodName(namespace: "default", name: "web")

  private func pod(
    _ shown: String? = nil, version: String = "1", name: String = "web"
  ) throws -> KubePodMetadata {
    var annotations = JSONObject()
    if let shown { annotations[PodAnnotations.key] = .string(shown) }
    return try KubePodMetadata([
      "metadata": [
        "name": .string(name), "namespace": "default", "resourceVersion": .string(version),
        "annotations": .object(annotations),
      ]
    ])
  }

  private func next(_ plan: inout PodAnnotations) -> [PodAnnotations.Write] { plan.next(start, atOnce: 4) }

  @Test func addressIsWrittenOnceThePodIsSeen() throws {
    var plan = PodAnnotations()
    plan.assigned(web, "10.0.0.1")
    #expect(next(&plan).isEmpty)
    plan.changed(try pod())
    let write = PodAnnotations.Write(pod: web, address: "10.0.0.1", version: nil)
    #expect(next(&plan) == [write])
    #expect(next(&plan).isEmpty, "it is under way")
    plan.written(write, try pod("10.0.0.1", version: "2"))
    #expect(next(&plan).isEmpty)
  }

  @Test func clearedOnlyWhereItStillShowsTheAddress() throws {
    var plan = PodAnnotations()
    plan.assigned(web, "10.0.0.1")
    plan.changed(try pod("10.0.0.1", version: "7"))
    plan.released(web, "10.0.0.1")
    #expect(next(&plan) == [PodAnnotations.Write(pod: web, address: "", version: "7")])
    var other = PodAnnotations()
    other.assigned(web, "10.0.0.1")
    other.changed(try pod("10.0.0.2"))
    other.released(web, "10.0.0.1")
    #expect(next(&other).isEmpty)
  }

  /// The DEL of a pod's first sandbox arrives after the ADD of its second.
  @Test func lateDeletionOfAnEarlierAddressChangesNothing() throws {
    var plan = PodAnnotations()
    plan.changed(try pod("10.0.0.2"))
    plan.assigned(web, "10.0.0.1")
    plan.assigned(web, "10.0.0.2")
    plan.released(web, "10.0.0.1")
    #expect(next(&plan).isEmpty)
  }

  @Test func podsThatAreGoneAreLeftAlone() throws {
    var plan = PodAnnotations()
    plan.assigned(web, "10.0.0.1")
    plan.changed(try pod())
    plan.deleted(try pod())
    #expect(next(&plan).isEmpty)
    plan.released(web, "10.0.0.1")
    plan.listed([try pod("10.0.0.1")])
    #expect(next(&plan).isEmpty, "a pod of that name that came later")
  }

  @Test func failuresWaitEverLongerAndOthersGoOn() throws {
    var plan = PodAnnotations()
    plan.assigned(web, "10.0.0.1")
    plan.changed(try pod())
    var now = start
    for seconds in [1, 2, 4] {
      let write = try #require(plan.next(now, atOnce: 4).first)
      #expect(plan.failed(write, isGone: false, now) == .seconds(seconds))
      #expect(plan.next(now, atOnce: 4).isEmpty)
      now = now.advanced(by: .seconds(seconds))
    }
    let last = try #require(plan.next(now, atOnce: 4).first)
    #expect(plan.failed(last, isGone: true, now) == nil)
    #expect(plan.next(now.advanced(by: .seconds(100)), atOnce: 4).isEmpty)
  }

  /// A later pod of the same name does not wait because writes for the earlier pod failed.
  @Test func podThatGoesWhileItsWriteFailsIsForgotten() throws {
    var plan = PodAnnotations()
    plan.assigned(web, "10.0.0.1")
    plan.changed(try pod())
    let write = try #require(next(&plan).first)
    plan.deleted(try pod())
    #expect(plan.failed(write, isGone: false, start) == nil)
    plan.changed(try pod(version: "9"))
    #expect(next(&plan).map(\.address) == ["10.0.0.1"])
  }

  /// The watch reports a later change before the answer to a write arrives. With the version in that answer the API
  /// server would refuse every write that clears the annotation.
  @Test func answerThatTheWatchHasOvertakenChangesNothing() throws {
    var plan = PodAnnotations()
    plan.assigned(web, "10.0.0.1")
    plan.changed(try pod(version: "4"))
    let write = try #require(next(&plan).first)
    plan.changed(try pod("10.0.0.1", version: "6"))
    plan.written(write, try pod("10.0.0.1", version: "5"))
    plan.released(web, "10.0.0.1")
    #expect(next(&plan) == [PodAnnotations.Write(pod: web, address: "", version: "6")])
  }

  @Test func onlySoManyAtOnce() throws {
    var plan = PodAnnotations()
    for number in 0..<10 {
      plan.assigned(PodName(namespace: "default", name: "p\(number)"), "10.0.0.\(number)")
      plan.changed(try pod(name: "p\(number)"))
    }
    #expect(next(&plan).count == 4)
    #expect(next(&plan).isEmpty)
  }
}

@Suite struct CNINodeFeatureTests {
  @Test(arguments: [(nil, 1), ("default", 1), ("zone-a", 2)] as [(String?, Int)])
  func customNetworkingIsAnnouncedByName(_ name: String?, _ count: Int) {
    let features = CNINodeFeatures.features(eniConfigName: name)
    #expect(features.count == count && features[0] == CNINode.Feature(name: "SecurityGroupsForPods"))
    if count == 2 { #expect(features[1] == CNINode.Feature(name: "CustomNetworking", value: "zone-a")) }
  }
}
