// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import MetricsHelperMode

@Suite struct HelperOptionsTests {
  @Test(arguments: [
    ([], true), (["--cloudwatch"], true), (["--cloudwatch=false"], false), (["-cloudwatch=0"], false),
    (["--cloudwatch=false", "--cloudwatch=TRUE"], true),
  ])
  func flags(arguments: [String], cloudWatch: Bool) throws {
    #expect(try HelperOptions(arguments).cloudWatch == cloudWatch)
  }

  @Test(arguments: ["--help", "-h", "-help"])
  func help(argument: String) throws {
    #expect(try HelperOptions([argument]).showsHelp)
  }

  @Test(arguments: ["--cloudwatch=maybe", "--cloudwatch=", "--unknown", "word", "--"])
  func whatIsNotKnownIsRefusedByName(argument: String) {
    let problem = #expect(throws: HelperOptions.Problem.self) { try HelperOptions([argument]) }
    #expect(problem?.text.contains(argument.drop { $0 == "-" }.split(separator: "=").first ?? "") == true)
  }
}
