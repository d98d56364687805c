// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import VPCObserve

@Suite struct MetricTextReaderTests {
  private typealias Sample = MetricTextReader.Sample
  private static let names = ["a", "b_total", "c:d"]

  /// The result for a text that arrives in parts of `size` bytes.
  private static func read(
    _ text: [UInt8], size: Int = .max, limits: MetricTextReader.Limits = .init()
  ) throws(MetricTextReader.Problem) -> (samples: [MetricTextReader.Sample], skipped: Int, all: Int) {
    var reader = MetricTextReader(names: names, limits: limits)
    var samples: [MetricTextReader.Sample] = []
    var rest = text[...]
    while !rest.isEmpty {
      let part = Array(rest.prefix(size))
      try reader.read(part.span) { samples.append($0) }
      rest = rest.dropFirst(part.count)
    }
    try reader.finish()
    return (samples, reader.skippedCount, reader.sampleCount)
  }

  private static func read(_ text: String) throws(MetricTextReader.Problem) -> (
    samples: [MetricTextReader.Sample], skipped: Int, all: Int
  ) {
    try read(Array(text.utf8))
  }

  private static let text = """
    # HELP a help with "quotes" and \\n
    # TYPE a gauge
    a 1
    a{x="1",y="two\\"\\\\\\n"} 2.5e3 1700000000000
    unknown{x="1"} 7

    b_total{fn="π"} +Inf # {trace_id="t"} 1 2
    \t c:d  {  x = "" , }  -4\r
    a{} NaN

    """

  @Test func samplesAreWhatTheTextSays() throws {
    let found = try Self.read(Self.text)
    #expect(found.skipped == 0 && found.all == 6)
    let values = found.samples.map(\.value)
    try #require(values.count == 5)
    #expect(values[..<4] == [1, 2500, .infinity, -4] && values[4].isNaN)
    #expect(found.samples.map(\.name) == [0, 0, 1, 2, 0])
    #expect(found.samples[1].label("x") == "1" && found.samples[1].label("y") == "two\"\\\n")
    #expect(found.samples[2].label("fn") == "π" && found.samples[2].label("none") == nil)
    #expect(found.samples[3].labels == [.init(name: "x", value: "")])
  }

  @Test(arguments: [1, 2, 3, 7, 64])
  func partsMakeNoDifference(size: Int) throws {
    let text = Array(Self.text.replacing("NaN", with: "0").utf8)
    let whole = try Self.read(text)
    let parts = try Self.read(text, size: size)
    #expect(parts.samples == whole.samples && parts.all == whole.all)
  }

  @Test(arguments: [
    "a", "a ", "a one", "a 1 2 3", "a 1 x", "a{ 1", "a{x} 1", "a{x=1} 1", "a{x=\"1} 1", "a{x=\"1\"y=\"2\"} 1",
    "a{x=\"\\t\"} 1", "a{=\"1\"} 1", "a{,} 1", "{} 1", "1a 1", "a+1", "<html>", "a{x=\"1\"", "a{x=\"1\\",
    "a 11111111111111111111111111111111111111111111111111111111111111111",
  ])
  func aLineThatIsNoneIsPassedOver(line: String) throws {
    let found = try Self.read("a 1\n\(line)\na 2\n")
    #expect(found.samples.map(\.value) == [1, 2] && found.skipped == 1)
  }

  @Test func anEndInTheMiddleOfALineIsTold() {
    // `a 12` may have been `a 123`.
    for text in ["a 1\na 12", "a 1\n# TYPE", "a 1\na{x=\""] {
      #expect(throws: MetricTextReader.Problem.truncated) { try Self.read(text) }
    }
  }

  @Test(arguments: ["", "\n\n", "# only comments\n", "<html>\n<body>\na 1\n", "{\"json\": 1}\n", "a 1\nx\ny\n"])
  func whatIsNotInTheFormatIsTold(text: String) {
    #expect(throws: MetricTextReader.Problem.notMetrics) { try Self.read(text) }
  }

  @Test func boundsHold() throws {
    let limits = MetricTextReader.Limits(size: 100, line: 40, labels: 2)
    let long = "a{x=\"\(String(repeating: "l", count: 40))\"} 1\n"
    for size in [1, 16, 1000] {
      let found = try Self.read(Array("a 1\n\(long)a 2\n".utf8), size: size, limits: limits)
      #expect(found.samples.map(\.value) == [1, 2] && found.skipped == 1)
    }
    let labels = try Self.read(Array("a 1\na{x=\"\",y=\"\",z=\"\"} 1\n".utf8), limits: limits)
    #expect(labels.skipped == 1)
    #expect(throws: MetricTextReader.Problem.tooLarge(limit: 100)) {
      try Self.read(Array(String(repeating: "a 1\n", count: 30).utf8), size: 9, limits: limits)
    }
    // The reader never keeps a whole line that does not end.
    #expect(throws: MetricTextReader.Problem.truncated) {
      try Self.read(Array("a 1\n".utf8) + Array(repeating: 0x61, count: 80), size: 10, limits: limits)
    }
  }

  @Test func whatTheRegistryWritesIsReadBack() throws {
    let registry = MetricRegistry()
    let counter = registry.counter("a", "help\nwith \\ lines", labels: ["fn", "error"])
    counter.increment(by: 2.5, "x\"\\\n", "")
    registry.gauge("b_total", "b").set(-1)
    let found = try Self.read(registry.text())
    #expect(found.samples.map(\.value) == [2.5, -1] && found.samples[0].label("fn") == "x\"\\\n")
  }

  /// Whatever the text is, the reader ends without a crash and within its bounds, and the parts make no difference.
  @Test(arguments: [UInt64(1), 2, 3, 4])
  func mutatedTextsDoNoHarm(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    for _ in 0..<3_000 {
      let text = random.mutate(Array(Self.text.replacing("NaN", with: "0").utf8))
      let whole = Result { () throws(MetricTextReader.Problem) in try Self.read(text) }
      let size = Int.random(in: 1...20, using: &random)
      let parts = Result { () throws(MetricTextReader.Problem) in try Self.read(text, size: size) }
      switch (whole, parts) {
      case (.success(let whole), .success(let parts)):
        let isSame =
          whole.samples.map { "\($0)" } == parts.samples.map { "\($0)" } && whole.skipped == parts.skipped
        #expect(isSame, "seed \(seed), \(size): \(String(decoding: text, as: UTF8.self))")
      case (.failure(let whole), .failure(let parts)): #expect(whole == parts)
      default: Issue.record("seed \(seed), \(size): \(String(decoding: text, as: UTF8.self))")
      }
    }
  }
}
