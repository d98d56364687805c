// SPDX-License-Identifier: Apache-2.0

extension InstanceLimits {
  /// The limits of a built-in instance type, nil for a type that the table does not have (ask DescribeInstanceTypes).
  ///
  /// Looked up in the text of the table by halving, so that it costs nothing at start and no memory.
  package init?(instanceType: String) {
    // SAFETY: the table is a literal, its bytes live as long as the program; none leaves the closure.
    let row = InstanceLimits.table.withUTF8Buffer { InstanceLimits.row(of: Array(instanceType.utf8), in: $0) }
    guard let row, let limits = InstanceLimits(row: row) else { return nil }
    self = limits
  }

  /// The row after `NAME=`; nil if there is no such row.
  private static func row(of name: [UInt8], in table: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    let isBetween = { (byte: UInt8) in byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") }
    var low = 0
    var high = table.count
    while low < high {
      var start = (low + high) / 2
      while start > low, !isBetween(table[start - 1]) { start -= 1 }
      let row = table[start..<high].prefix { !isBetween($0) }
      let key = row.prefix { $0 != UInt8(ascii: "=") }
      if key.elementsEqual(name) { return Array(row.dropFirst(key.count + 1)) }
      if key.lexicographicallyPrecedes(name) { low = row.endIndex + 1 } else { high = max(start - 1, low) }
    }
    return nil
  }

  /// Reads `4/15n`, `2/4xm:8*2,…`.
  private init?(row: [UInt8]) {
    let parts = String(decoding: row, as: UTF8.self).split(separator: ":")
    guard let head = parts.first else { return nil }
    let numbers = head.prefix { $0.isNumber || $0 == "/" }.split(separator: "/").compactMap { Int($0) }
    let letters = head.drop { $0.isNumber || $0 == "/" }
    guard numbers.count == 2 else { return nil }
    let hypervisor: Hypervisor =
      switch letters.first {
      case "n": .nitro
      case "x": .xen
      default: .unknown
      }
    var cards: [Int]?
    if parts.count == 2 {
      cards = parts[1].split(separator: ",").flatMap { run in
        let pair = run.split(separator: "*").compactMap { Int($0) }
        return pair.count == 2 ? [Int](repeating: pair[0], count: min(pair[1], 64)) : []
      }
    }
    self.init(
      eniLimit: numbers[0], ipv4Limit: numbers[1], cards: cards, hypervisor: hypervisor,
      isBareMetal: letters.contains("m"))
  }
}
