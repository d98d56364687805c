// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@Suite struct JSONTests {
  static func parse(_ text: String, _ limits: JSONParser.Limits = .init()) throws -> JSONValue {
    try JSONParser.parse(Array(text.utf8), limits: limits)
  }

  /// JSON text in, JSON text out.
  @Test(arguments: [
    ("null", "null"), (" true ", "true"), ("-0", "-0"), ("1.50e+2", "1.50e+2"), ("\"\"", "\"\""),
    ("\"\\u0041\\/\\n\\u0001\"", "\"A/\\n\\u0001\""), ("\"\\ud83d\\ude00\"", "\"😀\""),
    ("\"\\ud83d\"", "\"\u{fffd}\""), ("\"\\ud83d\\u0041\"", "\"\u{fffd}A\""), ("[ ]", "[]"), ("{ }", "{}"),
    ("[1, [2], {\"a\" : 3}]", "[1,[2],{\"a\":3}]"), ("{\"b\":1,\"a\":2}", "{\"b\":1,\"a\":2}"),
    ("12345678901234567890123", "12345678901234567890123"),
  ])
  func readsAndWrites(text: String, written: String) throws {
    #expect(try Self.parse(text).text == written)
  }

  @Test(arguments: [
    "", " ", "nul", "truee", "01", "1.", ".5", "+1", "1e", "--1", "\"", "\"\\x\"", "\"\\u12\"", "\"\n\"", "[", "[1",
    "[1,]",
    "[1 2]", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "1 2", "[]]", "'a'", "\u{feff}1", "NaN",
  ])
  func refuses(_ text: String) {
    #expect(throws: JSONParser.Failure.self) { try Self.parse(text) }
  }

  /// The parser keeps only the selected fields; the rest must still be valid JSON.
  @Test func selectionKeepsWhatIsWanted() throws {
    let fields: JSONSelection = ["a": ["b": .all], "l": ["x": .all]]
    func read(_ text: String) throws -> String { try JSONParser.parse(Array(text.utf8), keeping: fields).text }
    #expect(
      try read(#"{"z":[1,{"q":"\\"}],"a":{"b":{"c":1},"d":"e\\"},"l":[{"x":1,"y":2},3],"n":null,"t":true}"#)
        == #"{"a":{"b":{"c":1}},"l":[{"x":1},3]}"#)
    for bad in [
      #"{"z":[1,}"#, #"{"z":{"q" 1}}"#, #"{"z":"x}"#, #"{"z":tru}"#, #"{"z":01}"#, "{\"z\":\"\n\"}", #"{"z":1 "y":2}"#,
      #"{"z":"\"#,
    ] {
      #expect(throws: JSONParser.Failure.self, "\(bad)") { try read(bad) }
    }
    let deep = "{\"z\":" + String(repeating: "[", count: 100) + String(repeating: "]", count: 100) + "}"
    #expect(throws: JSONParser.Failure.self) { try read(deep) }
  }

  @Test func refusesWhatIsNotUTF8() {
    #expect(throws: JSONParser.Failure.self) { try JSONParser.parse([0x22, 0xff, 0x22]) }
    #expect(throws: JSONParser.Failure.self) { try JSONParser.parse([0x22, 0xc0, 0x80, 0x22]) }
  }

  @Test func bounds() throws {
    let deep = String(repeating: "[", count: 30) + String(repeating: "]", count: 30)
    #expect(throws: JSONParser.Failure.self) { try Self.parse(deep, .init(depth: 20)) }
    _ = try Self.parse(deep, .init(depth: 30))
    let failure = #expect(throws: JSONParser.Failure.self) { try Self.parse("[1,2,3]", .init(size: 6)) }
    #expect(failure.map { "\($0)" } == "invalid JSON at byte 6: 7 bytes are more than the 6 allowed")
    let bottomless = String(repeating: "[", count: 100_000)
    #expect(throws: JSONParser.Failure.self) { try Self.parse(bottomless) }
  }

  @Test func members() throws {
    var object = try #require(try Self.parse(#"{"a":1,"b":"x","a":2}"#).object)
    #expect(object["a"]?.int == 2, "the last of a name counts")
    object["b"] = nil
    object["c"] = true
    #expect(JSONValue.object(object).text == #"{"a":1,"a":2,"c":true}"#)
    #expect(try Self.parse("1.5").int == nil)
    #expect(try Self.parse("[1]")["a"] == nil)
    #expect(try Self.parse(#"{"a":[]}"#).indented(by: 2) == "{\n  \"a\": []\n}")
  }

  @Test func errorsAreTold() {
    struct Outer: CausedError {
      let cause: (any Error)?
      var description: String { "read the file" }
    }
    let inner = #expect(throws: JSONParser.Failure.self) { try Self.parse("x") }
    #expect(CauseChain.text(Outer(cause: inner)) == "read the file: invalid JSON at byte 0: no value begins here")
  }
}
