// SPDX-License-Identifier: Apache-2.0

/// Reads Prometheus's text format piece by piece as it arrives, from somebody whom nobody vouches for. Only the line under
/// way is kept.
///
/// A line that is no sample is passed over and counted; what says something of the text as a whole ends the reading: too
/// much of it, an end in the middle of a line, more lines that are none than lines that are. Comments, time stamps and
/// what OpenMetrics adds behind a value are passed over.
///
/// Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4)
package struct MetricTextReader: Sendable {
  /// Limits for any text.
  package struct Limits: Sendable {
    /// Bytes of the text.
    package var size: Int
    /// Bytes of a line; a longer one is passed over.
    package var line: Int
    /// Labels of a sample; a line with more is passed over.
    package var labels: Int

    package init(size: Int = 8 << 20, line: Int = 16 << 10, labels: Int = 32) {
      self.size = size
      self.line = line
      self.labels = labels
    }
  }

  package struct Label: Sendable, Hashable {
    package let name: String
    package let value: String
  }

  /// A line's value of a series that was asked for.
  package struct Sample: Sendable, Hashable {
    /// Which of the names that were asked for.
    package let name: Int
    /// In the order of the line.
    package let labels: [Label]
    /// Also not a number, or infinite, where the text says so.
    package let value: Double

    package func label(_ name: String) -> String? { labels.first { $0.name == name }?.value }
  }

  /// Why a text as a whole cannot be used.
  package enum Problem: Error, Sendable, Hashable, CustomStringConvertible {
    case tooLarge(limit: Int)
    /// It ends in the middle of a line.
    case truncated
    /// It has no sample, or more lines that are none.
    case notMetrics

    package var description: String {
      switch self {
      case .tooLarge(let limit): "the text is larger than the \(limit) bytes allowed"
      case .truncated: "the text ends in the middle of a line"
      case .notMetrics: "the text is not in Prometheus's format"
      }
    }
  }

  private let names: [[UInt8]]
  private let limits: Limits
  private var size = 0
  /// The beginning of a line whose end has not come.
  private var pending: [UInt8] = []
  /// The line under way is too long: nothing of it is kept.
  private var isSkipping = false

  /// Lines that were samples, asked for or not.
  package private(set) var sampleCount = 0
  /// Lines that were neither samples nor comments.
  package private(set) var skippedCount = 0

  /// - Parameter names: the series that are asked for; samples name them by their index.
  package init(names: [String], limits: Limits = Limits()) {
    self.names = names.map { Array($0.utf8) }
    self.limits = limits
  }

  /// Takes the next bytes of the text and tells `found` of every sample in the lines that end in them.
  package mutating func read(_ bytes: Span<UInt8>, _ found: (Sample) -> Void) throws(Problem) {
    size += bytes.count
    guard size <= limits.size else { throw .tooLarge(limit: limits.size) }
    var start = 0
    for at in 0..<bytes.count where bytes[at] == UInt8(ascii: "\n") {
      takeEnd(of: bytes.extracting(start..<at), found)
      start = at + 1
    }
    keep(bytes.extracting(start..<bytes.count))
  }

  /// The text has ended; looks at it as a whole.
  package func finish() throws(Problem) {
    guard pending.isEmpty, !isSkipping else { throw .truncated }
    guard sampleCount > 0, sampleCount >= skippedCount else { throw .notMetrics }
  }

  /// The rest of a line, its line feed left out.
  private mutating func takeEnd(of rest: Span<UInt8>, _ found: (Sample) -> Void) {
    if pending.isEmpty, !isSkipping, rest.count <= limits.line { return take(rest, found) }
    keep(rest)
    let (line, isWhole) = (pending, !isSkipping)
    pending.removeAll(keepingCapacity: true)
    isSkipping = false
    if isWhole { take(line.span, found) } else { skippedCount += 1 }
  }

  private mutating func keep(_ part: Span<UInt8>) {
    guard !isSkipping else { return }
    guard pending.count + part.count <= limits.line else {
      isSkipping = true
      return pending.removeAll(keepingCapacity: true)
    }
    for at in 0..<part.count { pending.append(part[at]) }
  }

  private mutating func take(_ line: Span<UInt8>, _ found: (Sample) -> Void) {
    switch MetricLine.read(line, names: names, maximumLabels: limits.labels) {
    case .nothing: break
    case .malformed: skippedCount += 1
    case .other: sampleCount += 1
    case .sample(let sample):
      sampleCount += 1
      found(sample)
    }
  }
}
