// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCCloud

@Suite struct XMLParserTests {
  private func parse(_ text: String, _ limits: XMLParser.Limits = XMLParser.Limits()) throws -> XMLElement {
    try XMLParser.parse(Array(text.utf8), limits: limits)
  }

  @Test func tree() throws {
    let root = try parse(
      """
      <?xml version="1.0" encoding="UTF-8"?>
      <r xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"> <a> x &amp; &#252; </a><!-- no -->
        <set><item><b>1</b></item><item><b/></item><other/></set><c><![CDATA[<raw>]]></c></r>
      """)
    #expect(root.name == "r")
    #expect(root.text("a") == "x & ü")
    #expect(root.items("set").map { $0.text("b") } == ["1", nil])
    #expect(root.text("c") == "<raw>")
    #expect(root.text("missing") == nil)
    #expect(root.firstDescendant("b")?.text == "1")
  }

  @Test(arguments: [
    "", "   ", "<", "<a>", "<a></b>", "<a/><b/>", "text", "<a>&undefined;</a>", "<a b></a>", "\u{0}", "<a>\u{1}</a>",
    "{\"json\": 1}", "<?xml version=\"1.0\" encoding=\"no-such\"?><a/>",
  ])
  func broken(_ text: String) {
    #expect(throws: XMLParser.Failure.self) { try parse(text) }
  }

  @Test(arguments: [
    "<!DOCTYPE a><a/>",
    "<!DOCTYPE a [<!ENTITY x \"xxxxxxxxxx\"><!ENTITY y \"&x;&x;&x;&x;\">]><a>&y;</a>",
    "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
    "<!DOCTYPE a [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><a>&e;</a>",
  ])
  func documentTypeIsRefused(_ text: String) {
    let failure = #expect(throws: XMLParser.Failure.self) { try parse(text) }
    #expect(failure?.reason == "a document type declaration is not allowed")
  }

  @Test func bounds() throws {
    let deep = String(repeating: "<a>", count: 9) + String(repeating: "</a>", count: 9)
    #expect(try parse(deep, XMLParser.Limits(depth: 9)).name == "a")
    #expect(throws: XMLParser.Failure.self) { try parse(deep, XMLParser.Limits(depth: 8)) }
    let wide = "<a>\(String(repeating: "<b/>", count: 10))</a>"
    #expect(try parse(wide, XMLParser.Limits(elements: 11)).children.count == 10)
    #expect(throws: XMLParser.Failure.self) { try parse(wide, XMLParser.Limits(elements: 10)) }
    #expect(throws: XMLParser.Failure.self) { try parse(wide, XMLParser.Limits(size: wide.utf8.count - 1)) }
    #expect(throws: XMLParser.Failure.self) { try parse(String(repeating: "<a>", count: 1_000_000)) }
  }
}
