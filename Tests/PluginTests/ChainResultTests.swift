// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCLinux
import VPCModel

@testable import PluginMode

/// ADD after another plugin of the chain: our plugin passes on the result of that one.
@Suite struct ChainResultTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let version: String
    let previous: String
    let answer: String
  }

  static let own =
    #"{"name":"eni0d7763386da"},{"name":"eth0","mac":"2","sandbox":"/var/run/netns/pod"},"#
    + #"{"name":"dummy0d7763386da","mac":"0","sandbox":"1"}"#

  static let cases: [Case] = [
    Case(
      testDescription: "everything of another plugin, known and unknown", version: "1.0.0",
      previous: #"{"cniVersion":"1.0.0","interfaces":[{"name":"lo","mac":"00:00:00:00:00:00","sandbox":"/n","mtu":9}],"#
        + #""ips":[{"address":"127.0.0.1/8","interface":0}],"routes":[{"dst":"10.9.0.0/16","gw":"10.0.0.1","mtu":1400}],"#
        + #""dns":{"nameservers":["10.0.0.2"]},"meta.example/id":7}"#,
      answer:
        #"{"cniVersion":"1.0.0","interfaces":[{"name":"lo","mac":"00:00:00:00:00:00","sandbox":"/n","mtu":9},\#(own)],"#
        + #""ips":[{"address":"127.0.0.1/8","interface":0},{"interface":2,"address":"10.0.3.7/32"}],"#
        + #""routes":[{"dst":"10.9.0.0/16","gw":"10.0.0.1","mtu":1400}],"dns":{"nameservers":["10.0.0.2"]},"#
        + #""meta.example/id":7}"#),
    Case(
      testDescription: "nothing but a version", version: "0.4.0", previous: #"{"cniVersion":"0.4.0"}"#,
      answer: #"{"cniVersion":"0.4.0","interfaces":[\#(own)],"#
        + #""ips":[{"version":"4","interface":1,"address":"10.0.3.7/32"}],"dns":{}}"#),
    Case(
      testDescription: "an address without interface", version: "0.3.1",
      previous:
        #"{"cniVersion":"0.3.1","ips":[{"version":"6","address":"2001:db8::7/64","gateway":"2001:db8::1"}],"dns":{}}"#,
      answer: #"{"cniVersion":"0.3.1","ips":[{"version":"6","address":"2001:db8::7/64","gateway":"2001:db8::1"},"#
        + #"{"version":"4","interface":1,"address":"10.0.3.7/32"}],"dns":{},"interfaces":[\#(own)]}"#),
    Case(
      testDescription: "a newer result in an older list", version: "0.4.0",
      previous:
        #"{"cniVersion":"1.1.0","interfaces":[{"name":"x"}],"ips":[{"address":"2001:db8::7/64"},{"address":"10.1.1.1/24"}]}"#,
      answer: #"{"cniVersion":"0.4.0","interfaces":[{"name":"x"},\#(own)],"#
        + #""ips":[{"address":"2001:db8::7/64","version":"6"},{"address":"10.1.1.1/24","version":"4"},"#
        + #"{"version":"4","interface":2,"address":"10.0.3.7/32"}],"dns":{}}"#),
    Case(
      testDescription: "an older result in a newer list", version: "1.1.0",
      previous: #"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.1.1/24"}],"dns":{}}"#,
      answer: #"{"cniVersion":"1.1.0","ips":[{"address":"10.1.1.1/24"},{"interface":1,"address":"10.0.3.7/32"}],"#
        + #""dns":{},"interfaces":[\#(own)]}"#),
    Case(
      testDescription: "a version that knows no chains", version: "0.2.0",
      previous: #"{"cniVersion":"0.2.0","ip4":{"ip":"10.9.9.9/32"}}"#,
      answer: #"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.3.7/32"},"dns":{}}"#),
  ]

  @Test(arguments: cases) func passesOn(_ each: Case) {
    let input = Call.configuration(each.version, #","prevResult":\#(each.previous)"#)
    let answer = Call(command: "ADD", input: input).run()
    #expect(answer.text == each.answer + "\n")
    #expect(answer.status == 0)
  }

  /// DEL gets the chain's result, in which other plugins' entries precede and follow ours.
  @Test func findsItsOwnInTheChainsResult() throws {
    let first = ChainResultTests.cases[0]
    var result = try #require(try JSONParser.parse(Array(first.answer.utf8)).object)
    result["interfaces"] = .array((result["interfaces"]?.array ?? []) + [["name": "v4if0", "sandbox": "/n"]])
    let call = Call(
      command: "DEL",
      input: Call.configuration(
        "1.0.0", #","prevResult":\#(String(decoding: JSONValue.object(result).bytes, as: UTF8.self))"#))
    call.node.mood = .down
    #expect(call.run().status == 0)
    #expect(call.node.events == ["agent delete PodDeleted", "remove 10.0.3.7 table 2 veth"])
  }

  @Test func damagedResultsAreRefused() {
    let call = Call(command: "ADD", input: Call.configuration("1.0.0", #","prevResult":{"ips":[{"address":"x"}]}"#))
    let answer = call.run()
    #expect(answer.code == 7 && answer.message.contains("prevResult: ips[0].address is not an address"))
    #expect(call.node.events.isEmpty)
  }
}
