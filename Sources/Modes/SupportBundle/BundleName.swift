// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The archive's name, as in amazon-eks-ami's log collector: `eks_INSTANCE_DATE_TIME-UTC_VERSION.tar.gz`.
enum BundleName {
  /// - Parameter instance: characters not allowed in a file name become `-`.
  static func stem(instance: String, at time: UTCTime, version: String) -> String {
    let clock = time.description.prefix(16)
    let date = clock.prefix(10)
    let hours = clock.suffix(5).filter { $0 != ":" }
    return "eks_\(clean(instance))_\(date)_\(hours)-UTC_\(clean(version))"
  }

  static func clean(_ text: String) -> String {
    let kept = text.utf8.prefix(80).map { byte -> Character in
      let isWord = 0x30...0x39 ~= byte || 0x41...0x5a ~= byte || 0x61...0x7a ~= byte || byte == 0x2d || byte == 0x2e
      return isWord ? Character(UnicodeScalar(byte)) : "-"
    }
    let word = String(kept.drop { $0 == "." || $0 == "-" })
    return word.isEmpty ? "unknown" : word
  }
}

/// Where the archive goes.
enum BundleTarget: Sendable, Hashable {
  /// A folder and, if the user chose one, the file name.
  case file(folder: String, name: String?)
  case standardOutput

  static let defaultFolder = "/var/log"

  /// `--output`: a folder, a path that ends in `.tar.gz` or `.tgz`, or `-`.
  ///
  /// - Parameter current: the working folder, for a relative path.
  init(_ option: String?, current: String) {
    guard let option else {
      self = .file(folder: BundleTarget.defaultFolder, name: nil)
      return
    }
    guard option != "-" else {
      self = .standardOutput
      return
    }
    var path = option.hasPrefix("/") ? option : "\(current)/\(option)"
    if path.hasSuffix(".tar.gz") || path.hasSuffix(".tgz"), let slash = path.lastIndex(of: "/") {
      let folder = path[..<slash]
      self = .file(folder: folder.isEmpty ? "/" : String(folder), name: String(path[path.index(after: slash)...]))
      return
    }
    // A trailing slash would follow a symbolic link.
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    self = .file(folder: path, name: nil)
  }
}
