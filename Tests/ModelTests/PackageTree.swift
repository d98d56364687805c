// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// The source tree that this test was built from.
enum PackageTree {
  /// The folder of Package.swift: three levels above this file.
  static let root: String = {
    let parts = #filePath.split(separator: "/").dropLast(3)
    return "/" + parts.joined(separator: "/")
  }()

  /// Paths of all files below a folder of the tree, relative to the tree.
  static func files(below folder: String, suffix: String) -> [String] {
    var found: [String] = []
    var folders = [folder]
    while let next = folders.popLast() {
      for name in (try? FileManager.default.contentsOfDirectory(atPath: root + "/" + next)) ?? [] {
        var isFolder = false
        let path = next + "/" + name
        guard FileManager.default.fileExists(atPath: root + "/" + path, isDirectory: &isFolder) else { continue }
        if isFolder { folders.append(path) } else if name.hasSuffix(suffix) { found.append(path) }
      }
    }
    return found.sorted()
  }

  static func text(_ path: String) throws -> String {
    String(decoding: try Data(contentsOf: URL(filePath: root + "/" + path)), as: UTF8.self)
  }
}
