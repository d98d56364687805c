// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The program's arguments. Invalid arguments end the program with status 64.
struct Options {
  static let usage = """
    usage: burst [--json] [--nodes N] [--seed N] [--case NAME] [--wait SECONDS] [--no-sdk-tokens] [--no-tail]
    Pods on N nodes (500) all at once, by our pool and by the reference's policy, in virtual time.
      --case NAME       m5.4xlarge, m5.large or m5.4xlarge-prefixes; all three otherwise
      --wait SECONDS    how long our plugin waits for an address (20)
      --no-sdk-tokens   the reference's SDK without its client token bucket
      --no-tail         ours gives up an ENI whose Attach was refused once, to show what that costs

    """

  private(set) var nodes = 500
  private(set) var seed: UInt64 = 1
  private(set) var isJSON = false
  private(set) var name: String?
  private(set) var wait = 20
  private(set) var hasTokens = true
  private(set) var hasTail = true

  init(_ arguments: [String]) {
    var words = arguments[...]
    while let word = words.popFirst() {
      switch word {
      case "--json": isJSON = true
      case "--nodes": nodes = Options.number(word, words.popFirst(), 1...500)
      case "--seed": seed = UInt64(Options.number(word, words.popFirst(), 0...Int.max))
      case "--wait": wait = Options.number(word, words.popFirst(), 1...3600)
      case "--no-sdk-tokens": hasTokens = false
      case "--no-tail": hasTail = false
      case "--case":
        name = words.popFirst()
        if name == nil { Options.refuse("--case needs a name") }
      default: Options.refuse("\(word) is unknown")
      }
    }
  }

  private static func number(_ word: String, _ text: String?, _ range: ClosedRange<Int>) -> Int {
    guard let text, let value = Int(text), range.contains(value) else {
      refuse("\(word) needs a number of \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  static func refuse(_ text: String) -> Never {
    let bytes = Array("burst: \(text)\n\(usage)".utf8)
    _ = write(STDERR_FILENO, bytes, bytes.count)
    exit(64)
  }
}
