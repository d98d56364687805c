// SPDX-License-Identifier: Apache-2.0

/// A moment of the wall clock in UTC, to the millisecond: signatures, expiry times, Date headers, log lines.
///
/// Only calendar arithmetic; reading the machine's clock is elsewhere.
package struct UTCTime: Sendable, Hashable, Comparable {
  /// Milliseconds since 1970-01-01T00:00:00Z, leap seconds left out; negative before.
  package let milliseconds: Int64

  package init(milliseconds: Int64) { self.milliseconds = milliseconds }

  package init(seconds: Int64) { milliseconds = seconds * 1000 }

  /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
  package var seconds: Int64 { UTCTime.quotient(milliseconds, 1000) }

  package static func < (left: UTCTime, right: UTCTime) -> Bool { left.milliseconds < right.milliseconds }

  package func advanced(by seconds: Int64) -> UTCTime { UTCTime(milliseconds: milliseconds + seconds * 1000) }

  /// Whole seconds from `other` to this moment, negative where this one is earlier.
  package func seconds(since other: UTCTime) -> Int64 { seconds - other.seconds }

  /// Rounded down, also below zero; `divisor` is positive.
  private static func quotient(_ value: Int64, _ divisor: Int64) -> Int64 {
    (value - (value < 0 ? divisor - 1 : 0)) / divisor
  }
}

extension UTCTime: CustomStringConvertible {
  /// `20150830`, the day of a signature's scope.
  package var day: String { date(separator: "") }

  /// `20150830T123600Z`, the form of X-Amz-Date.
  package var basic: String { "\(day)T\(clock(separator: ""))Z" }

  /// `2015-08-30T12:36:00Z`, the milliseconds left out.
  package var description: String { "\(date(separator: "-"))T\(clock(separator: ":"))Z" }

  /// `2026-11-23T03:45:42.123Z`, with another separator between hours, minutes and seconds for file names.
  package func text(timeSeparator separator: String = ":") -> String {
    let fraction = UTCTime.digits(milliseconds - seconds * 1000, 3)
    return "\(date(separator: "-"))T\(clock(separator: separator)).\(fraction)Z"
  }

  private func date(separator: String) -> String {
    let (year, month, day) = civil
    return [UTCTime.digits(year, 4), UTCTime.digits(month, 2), UTCTime.digits(day, 2)].joined(separator: separator)
  }

  private func clock(separator: String) -> String {
    let rest = seconds - days * 86_400
    return [rest / 3600, rest / 60 % 60, rest % 60].map { UTCTime.digits($0, 2) }.joined(separator: separator)
  }

  private static func digits(_ value: Int64, _ width: Int) -> String {
    let text = String(value)
    return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
  }

  private var days: Int64 { UTCTime.quotient(seconds, 86_400) }

  /// Year, month and day of the proleptic Gregorian calendar. Years that begin in March put the leap day last; an era
  /// is 400 of them, 146097 days.
  ///
  /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
  private var civil: (Int64, Int64, Int64) {
    let shifted = days + 719_468
    let era = UTCTime.quotient(shifted, 146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
    let month = monthFromMarch + (monthFromMarch < 10 ? 3 : -9)
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
  }
}

extension UTCTime {
  /// Nil if a field is out of range (a second of 60 counts as 59).
  package init?(year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int) {
    let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    guard (1...9999).contains(year), (1...12).contains(month), (1...lengths[month - 1]).contains(day),
      (0...23).contains(hour), (0...59).contains(minute), (0...60).contains(second)
    else { return nil }
    let shifted = month <= 2 ? year - 1 : year
    let era = shifted / 400
    let yearOfEra = shifted - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    self.init(seconds: Int64(days * 86_400 + hour * 3600 + minute * 60 + min(second, 59)))
  }

  /// Reads `2015-08-30T12:36:00Z`, also with a fraction (dropped) or an offset such as `+02:00`.
  package init?(iso8601 text: String) {
    let bytes = Array(text.utf8)
    guard (20...40).contains(bytes.count), bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-"),
      bytes[10] | 0x20 == UInt8(ascii: "t") || bytes[10] == 0x20, bytes[13] == UInt8(ascii: ":"),
      bytes[16] == UInt8(ascii: ":"),
      let year = UTCTime.number(bytes[0..<4]), let month = UTCTime.number(bytes[5..<7]),
      let day = UTCTime.number(bytes[8..<10]), let hour = UTCTime.number(bytes[11..<13]),
      let minute = UTCTime.number(bytes[14..<16]), let second = UTCTime.number(bytes[17..<19]),
      let local = UTCTime(year: year, month: month, day: day, hour: hour, minute: minute, second: second)
    else { return nil }
    var zone = bytes[19...]
    if zone.first == UInt8(ascii: ".") { zone = zone.dropFirst().drop { 48...57 ~= $0 } }
    if zone.elementsEqual("Z".utf8) || zone.elementsEqual("z".utf8) {
      self = local
      return
    }
    let offset = Array(zone)
    guard offset.count == 6, offset[0] == UInt8(ascii: "+") || offset[0] == UInt8(ascii: "-"),
      offset[3] == UInt8(ascii: ":"), let hours = UTCTime.number(offset[1..<3]), hours < 24,
      let minutes = UTCTime.number(offset[4..<6]), minutes < 60
    else { return nil }
    let ahead = Int64(hours * 3600 + minutes * 60)
    self = local.advanced(by: offset[0] == UInt8(ascii: "+") ? -ahead : ahead)
  }

  /// Reads the preferred form of an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT`.
  package init?(httpDate text: String) {
    let parts = text.split(separator: " ", maxSplits: 8).map(String.init)
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    guard parts.count == 6, parts[5] == "GMT", let month = months.firstIndex(of: parts[2]),
      let day = UTCTime.number(Array(parts[1].utf8)[...]), let year = UTCTime.number(Array(parts[3].utf8)[...])
    else { return nil }
    let time = parts[4].utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
      .map { UTCTime.number(Array($0)[...]) }
    guard time.count == 3, let hour = time[0], let minute = time[1], let second = time[2] else { return nil }
    self.init(year: year, month: month + 1, day: day, hour: hour, minute: minute, second: second)
  }

  private static func number(_ text: ArraySlice<UInt8>) -> Int? {
    guard (1...4).contains(text.count), text.allSatisfy({ 48...57 ~= $0 }) else { return nil }
    return text.reduce(0) { $0 * 10 + Int($1 - 48) }
  }
}
