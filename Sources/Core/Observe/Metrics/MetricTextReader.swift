// SPDX-License-Identifier: Apache-2.0

/// Parses Prometheus's text format piece by piece from an untrusted source. Only the current line is kept.
///
/// An invalid line is skipped and counted. Parsing fails for the text as a whole if it is too large, ends in the middle
/// of a line, or has more invalid lines than samples. Comments, time stamps and OpenMetrics additions after a value are
/// ignored.
///
/// Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4)
package struct MetricTextReader: Sendable {
  /// Limits for any text.
  package struct Limits: Sendable {
    /// Bytes of the text.
    package var size: Int
    /// Bytes of a line; a longer one is skipped.
    package var line: Int
    /// Labels of a sample; a line with more is skipped.
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

  /// A sample of a requested series.
  package struct Sample: Sendable, Hashable {
    /// The index among the requested names.
    package let name: Int
    /// In the order of the line.
    package let labels: [Label]
    /// May be NaN or infinite, as in the text.
    package let value: Double

    package func label(_ name: String) -> String? { labels.first { $0.name == name }?.value }
  }

  /// Why a text as a whole cannot be used.
  package enum Problem: Error, Sendable, Hashable, CustomStringConvertible {
    case tooLarge(limit: Int)
    /// It ends in the middle of a line.
    case truncated
    /// It has no samples, or more invalid lines than samples.
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
  /// The current line is too long: nothing of it is kept.
  private var isSkipping = false

  /// Lines with samples, requested or not.
  package private(set) var sampleCount = 0
  /// Lines that were neither samples nor comments.
  package private(set) var skippedCount = 0

  /// - Parameter names: the requested series; samples refer to them by index.
  package init(names: [String], limits: Limits = Limits()) {
    self.names = names.map { Array($0.utf8) }
    self.limits = limits
  }

  /// Consumes the next bytes and calls `found` for every sample in the completed lines.
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

  /// Checks the text as a whole at its end.
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
