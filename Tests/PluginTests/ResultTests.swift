// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCLinux
import VPCModel
import VPCRPC

@testable import PluginMode

/// What a successful ADD prints, byte for byte, and how it is read back.
@Suite struct ResultTests {
  static let hash = "0d7763386da"

  @Test func vethNamesAreTheContracts() throws {
    // The first 11 digits of `printf %s default.web-0 | sha1sum`, and of default.web-0.1.
    let suffix = HostVethName.suffix(namespace: "default", pod: "web-0")
    #expect(suffix == ResultTests.hash)
    #expect(HostVethName.suffix(namespace: "default", pod: "web-0", index: 1).count == 11)
    #expect(HostVethName.name(prefix: "eni", namespace: "default", pod: "web-0")?.text == "eni\(suffix)")
    #expect(HostVethName.name(prefix: "e/i", namespace: "default", pod: "web-0") == nil)
  }

  static let interfaces =
    #""interfaces":[{"name":"eni\#(hash)"},{"name":"eth0","mac":"2","sandbox":"/var/run/netns/pod"},"#
    + #"{"name":"dummy\#(hash)","mac":"0","sandbox":"1"}],"#

  static let results: [(String, String)] =
    ["0.1.0", "0.2.0"].map { ($0, #"{"cniVersion":"\#($0)","ip4":{"ip":"10.0.3.7/32"},"dns":{}}"#) }
    + ["0.3.0", "0.3.1", "0.4.0"].map {
      (
        $0,
        #"{"cniVersion":"\#($0)",\#(interfaces)"ips":[{"version":"4","interface":1,"address":"10.0.3.7/32"}],"dns":{}}"#
      )
    }
    + ["1.0.0", "1.1.0"].map {
      ($0, #"{"cniVersion":"\#($0)",\#(interfaces)"ips":[{"interface":1,"address":"10.0.3.7/32"}]}"#)
    }

  @Test(arguments: results) func addPrints(version: String, result: String) {
    let answer = Call(command: "ADD", input: Call.configuration(version)).run()
    #expect(answer.text == result + "\n")
    #expect(answer.status == 0)
  }

  @Test func severalAddresses() throws {
    var call = Call(command: "ADD", input: Call.configuration("1.0.0"))
    call.node.addresses.append(("10.1.3.7", 0, 10100))
    let json = try #require(call.run().json)
    let names = json["interfaces"]?.array?.compactMap { $0["name"]?.string } ?? []
    #expect(names.count == 5 && names[1] == "eth0" && names[3] == "mNicIf1" && names[4].hasPrefix("dummy"))
    #expect(json["ips"]?.array?.map { $0["interface"]?.int } == [1, 3])
    #expect(json["interfaces"]?.array?[3]["mac"]?.string == "10100")
    call = Call(
      command: "ADD",
      input: Call.configuration(
        "0.4.0",
        #","runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"#
          + #""k8s.amazonaws.com/nicConfig":"multi-nic-attachment"}}"#))
    #expect(call.run().status == 0)
    #expect(call.node.addRequests.first?.requiresMultiNicattachment == true)
  }

  @Test(arguments: results) func readsItsOwnResult(version: String, result: String) throws {
    let version = try #require(CNIVersion(rawValue: version))
    let read = try CNIResult(try JSONParser.parse(Array(result.utf8)), version: version)
    #expect(read.addresses.map(\.prefix.description) == ["10.0.3.7/32"])
    let arguments = try PodArguments(text: "K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=default")
    let previous = PreviousPod(read, interface: try #require(InterfaceName("eth0")), arguments: arguments)
    guard !version.hasOneAddressPerFamily else {
      #expect(previous == nil)
      return
    }
    let only = try #require(previous?.interfaces.first)
    #expect(previous?.vlan == 0 && previous?.interfaces.count == 1)
    #expect(only.hostName?.text == "eni\(ResultTests.hash)" && only.eniTable == RouteTable(2))
    #expect(read.json(version: version).text == result)
  }

  struct Malformed: Sendable {
    let json: String
    let text: String
    var version = CNIVersion.v040
  }

  @Test(arguments: [
    Malformed(json: "7", text: "prevResult: is a number, not an object"),
    Malformed(json: #"{"cniVersion":"9"}"#, text: #"unknown cniVersion "9""#),
    Malformed(json: #"{"interfaces":{}}"#, text: "interfaces is an object, not an array"),
    Malformed(json: #"{"interfaces":[7]}"#, text: "interfaces[0] is a number, not an object"),
    Malformed(json: #"{"interfaces":[{"name":7}]}"#, text: "interfaces[0].name is a number"),
    Malformed(json: #"{"ips":[{"address":"10.0.0.1"}]}"#, text: "ips[0].address is not an address"),
    Malformed(json: #"{"ips":[{"address":"10.0.0.1/32","interface":0}]}"#, text: "ips[0].interface is not the index"),
    Malformed(json: #"{"ips":[{"address":"10.0.0.1/32","gateway":"x"}]}"#, text: "ips[0].gateway is not an address"),
    Malformed(json: #"{"cniVersion":"0.2.0","ip4":{}}"#, text: "ip4.ip is not an address", version: .v020),
    Malformed(json: #"{"cniVersion":"0.2.0","ip4":{}}"#, text: "does not fit the configuration's 0.4.0"),
  ])
  func malformedResults(_ malformed: Malformed) throws {
    let json = try JSONParser.parse(Array(malformed.json.utf8))
    let error = #expect(throws: CNIResult.Malformed.self) { try CNIResult(json, version: malformed.version) }
    #expect(error?.description.contains(malformed.text) == true, "\(error?.description ?? "")")
  }

  @Test func olderResultNamesTheDevice() throws {
    let json =
      #"{"interfaces":[{"name":"eni\#(ResultTests.hash)"},{"name":"eth0","sandbox":"/n"},"#
      + #"{"name":"dummy\#(ResultTests.hash)","mac":"0","sandbox":"3"},{"name":"veth1"},{"name":"v4if0","sandbox":"/n"}],"#
      + #""ips":[{"version":"4","interface":1,"address":"10.0.3.7/32"}]}"#
    let result = try CNIResult(try JSONParser.parse(Array(json.utf8)), version: .v040)
    let arguments = try PodArguments(text: "K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=default")
    let previous = PreviousPod(result, interface: try #require(InterfaceName("eth0")), arguments: arguments)
    #expect(previous?.interfaces.map(\.eniTable) == [RouteTable(4)])
  }
}
