// SPDX-License-Identifier: Apache-2.0

package import Logging
import VPCModel
import VPCSystem

/// Writes each record as one line of JSON: `level`, `ts`, `caller`, `msg`, then the metadata in the order of its keys.
///
/// Source: the log lines of amazon-vpc-cni-k8s (zap's JSON encoder with ISO 8601 times).
package struct JSONLineLogHandler: LogHandler {
  package var logLevel: Logger.Level
  package var metadata: Logger.Metadata = [:]
  package var metadataProvider: Logger.MetadataProvider?

  private let writer: any LineSink

  package init(writer: any LineSink, level: Logger.Level) {
    self.writer = writer
    logLevel = level
  }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    let now = UTCTime.now
    let head: JSONObject = [
      "level": .string(event.level.lineName), "ts": .string(now.text()),
      "caller": .string("\(event.file):\(event.line)"),
      "msg": .string(event.message.description.bounded(to: Self.textLimit)),
    ]
    var record = head
    var fields = metadata
    if let provided = metadataProvider?.get() { fields.merge(provided) { _, new in new } }
    if let own = event.metadata { fields.merge(own) { _, new in new } }
    if let error = event.error { fields["error"] = .string(CauseChain.text(error)) }
    for (key, value) in fields.sorted(by: { $0.key < $1.key }).prefix(Self.fieldLimit) {
      record[head[key] == nil ? key : "_" + key] = Self.json(value, depth: 0)
    }
    var line = JSONValue.object(record).bytes
    if line.count > Self.lineLimit {
      // A truncated line would not be JSON: the metadata is dropped instead.
      record = head
      record["dropped"] = .string("metadata of \(line.count) bytes")
      line = JSONValue.object(record).bytes
    }
    line.append(0x0a)
    writer.write(line, at: now, isUrgent: event.level >= .warning)
  }

  /// Bytes of one text, of a line, and the count of metadata keys.
  private static let textLimit = 8 * 1_024
  private static let lineLimit = 64 * 1_024
  private static let fieldLimit = 64

  private static func json(_ value: Logger.Metadata.Value, depth: Int) -> JSONValue {
    guard depth < 4 else { return .string("…") }
    switch value {
    case .string(let text): return .string(text.bounded(to: textLimit))
    case .stringConvertible(let value): return .string(value.description.bounded(to: textLimit))
    case .array(let items): return .array(items.prefix(fieldLimit).map { json($0, depth: depth + 1) })
    case .dictionary(let items):
      var object = JSONObject()
      for (key, value) in items.sorted(by: { $0.key < $1.key }).prefix(fieldLimit) {
        object[key] = json(value, depth: depth + 1)
      }
      return .object(object)
    }
  }
}

extension Logger {
  /// A logger that writes JSON lines; `.refused` gives one that writes nothing.
  ///
  /// The file is opened with the first line. A second logger on the same file in one process shares nothing with the
  /// first, which is as safe as two processes are.
  ///
  /// - Parameter sparesStdout: as for `LineWriter`.
  package static func jsonLines(
    label: String, to destination: LogDestination, level: Logger.Level, rotation: LogRotation = LogRotation(),
    sparesStdout: Bool = false
  ) -> Logger {
    if destination == .refused { return Logger(label: label) { _ in SwiftLogNoOpLogHandler() } }
    let writer = LineWriter(destination, rotation: rotation, sparesStdout: sparesStdout)
    return jsonLines(label: label, to: writer, level: level)
  }

  /// The same for another sink of lines.
  package static func jsonLines(label: String, to sink: any LineSink, level: Logger.Level) -> Logger {
    Logger(label: label) { _ in JSONLineLogHandler(writer: sink, level: level) }
  }
}

extension String {
  /// The text, or its beginning and an ellipsis when it is longer than `limit` bytes.
  fileprivate func bounded(to limit: Int) -> String {
    guard utf8.count > limit else { return self }
    return String(decoding: utf8.prefix(limit), as: UTF8.self) + "…"
  }
}
