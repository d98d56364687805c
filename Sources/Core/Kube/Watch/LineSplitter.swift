// SPDX-License-Identifier: Apache-2.0

/// Splits a byte stream into lines, and drops lines above a limit.
struct LineSplitter {
  enum Line: Hashable {
    /// Without its line end, never empty.
    case whole([UInt8])
    /// A line above the limit: nothing of it is kept.
    case tooLong
  }

  private let limit: Int
  private var part: [UInt8] = []
  private var isSkipping = false

  init(limit: Int) { self.limit = limit }

  /// Whether a line was begun and not ended.
  var hasRest: Bool { !part.isEmpty || isSkipping }

  mutating func feed(_ bytes: [UInt8]) -> [Line] {
    var lines: [Line] = []
    var rest = bytes[...]
    while let end = rest.firstIndex(of: 0x0a) {
      take(rest[..<end])
      if isSkipping {
        lines.append(.tooLong)
      } else if !part.isEmpty {
        lines.append(.whole(part))
      }
      part = []
      isSkipping = false
      rest = rest[(end + 1)...]
    }
    take(rest)
    return lines
  }

  private mutating func take(_ bytes: ArraySlice<UInt8>) {
    guard !isSkipping else { return }
    if part.count + bytes.count > limit {
      part = []
      isSkipping = true
    } else {
      part += bytes
    }
  }
}
