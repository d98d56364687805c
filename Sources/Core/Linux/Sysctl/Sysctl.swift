// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VPCModel
package import VPCSystem

/// A kernel setting under /proc/sys.
///
/// `net/…` belongs to the calling thread's network namespace: use it inside `NetworkNamespace.run` for another.
package struct Sysctl: Sendable, Hashable, CustomStringConvertible {
  /// The path below /proc/sys, parts joined by `/`.
  package let path: String

  /// A name that could leave /proc/sys or is invalid.
  package struct InvalidName: Error, Sendable, Hashable, CustomStringConvertible {
    /// At most 256 characters.
    package let name: String
    package var description: String { "not the name of a kernel setting: \(name)" }
  }

  /// From the parts of the name, each taken verbatim: an interface name may contain dots.
  ///
  /// - Throws: `InvalidName` if a part is empty, `.`, `..`, contains `/` or a non-printable byte, or is longer than 64
  ///   bytes; also for more than 12 parts or none.
  package init(_ parts: String...) throws(InvalidName) { try self.init(parts: parts) }

  /// From a name as people write it: with slashes (`net/ipv4/conf/eth0.5/rp_filter`), or without any slash, with dots
  /// (`net.ipv4.ip_forward`; there no part can contain a dot). Throws as `init(_:)`.
  package init(name: String) throws(InvalidName) {
    let separator: Character = name.contains("/") ? "/" : "."
    try self.init(parts: name.split(separator: separator, omittingEmptySubsequences: false).map(String.init))
  }

  private init(parts: [String]) throws(InvalidName) {
    let sound = parts.allSatisfy { part in
      (1...64).contains(part.utf8.count) && part != "." && part != ".."
        && part.utf8.allSatisfy { 0x21...0x7e ~= $0 && $0 != UInt8(ascii: "/") }
    }
    guard sound, (1...12).contains(parts.count) else {
      throw InvalidName(name: String(parts.joined(separator: "/").prefix(256)))
    }
    path = parts.joined(separator: "/")
  }

  /// `net/FAMILY/conf/INTERFACE/KEY`. The key is a constant without a slash.
  package static func interface(
    _ name: InterfaceName, _ family: AddressFamily, _ key: String
  ) throws(InvalidName) -> Sysctl {
    try Sysctl("net", family == .ipv4 ? "ipv4" : "ipv6", "conf", name.text, key)
  }

  package var description: String { path }

  /// Reads the value without the white space around it.
  ///
  /// - Returns: nil if the kernel has no such setting (a module not loaded, a link gone, IPv6 off).
  /// - Throws: `SystemCallError`.
  package func read() throws(SystemCallError) -> String? {
    guard let descriptor = try open(flags: O_RDONLY) else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = Glibc.read(descriptor, &bytes, bytes.count)
    guard count >= 0 else { throw SystemCallError(errno: errno, call: "read setting \(path)") }
    let text = bytes[..<count]
    let isSpace = { (byte: UInt8) in byte == 0x0a || byte == 0x20 || byte == 0x09 }
    guard let first = text.firstIndex(where: { !isSpace($0) }), let last = text.lastIndex(where: { !isSpace($0) })
    else { return "" }
    return String(decoding: text[first...last], as: UTF8.self)
  }

  /// Writes the value unless it is already set.
  ///
  /// - Returns: `done`, `alreadySo`, or `alreadyGone` if the kernel has no such setting.
  /// - Throws: `SystemCallError`.
  @discardableResult
  package func write(_ value: String) throws(SystemCallError) -> NetlinkOutcome {
    switch try read() {
    case nil: return .alreadyGone
    case value: return .alreadySo
    default: break
    }
    return try writeBlindly(value)
  }

  /// As `write`, without reading first: for a new interface, where reading would cost as much.
  @discardableResult
  package func writeBlindly(_ value: String) throws(SystemCallError) -> NetlinkOutcome {
    guard let descriptor = try open(flags: O_WRONLY) else { return .alreadyGone }
    defer { close(descriptor) }
    let bytes = Array(value.utf8)
    // One write: the kernel needs the whole value.
    guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
      throw SystemCallError(errno: errno, call: "write setting \(path)")
    }
    return .done
  }

  /// Where a container without write access to /proc/sys has the host's `net` mounted (docs/decisions/0030). Its files
  /// act on the opener's network namespace, like those of /proc/sys.
  package static let hostRoot = "/host/proc/sys"

  private func open(flags: Int32) throws(SystemCallError) -> Int32? {
    let descriptor = Glibc.open("/proc/sys/\(path)", flags | O_CLOEXEC | O_NOFOLLOW)
    if descriptor >= 0 { return descriptor }
    let code = errno
    if code == ENOENT { return nil }
    if code == EROFS {
      let host = Glibc.open("\(Sysctl.hostRoot)/\(path)", flags | O_CLOEXEC | O_NOFOLLOW)
      if host >= 0 { return host }
    }
    throw SystemCallError(errno: code, call: "open setting \(path)")
  }
}
