// SPDX-License-Identifier: Apache-2.0

import Testing

/// The layers: what each part of the tree may import. docs/architecture.md describes the same table in words.
@Suite struct ImportTableTests {
  struct Layer: Sendable {
    let folder: String
    let may: Set<String>
  }

  /// Allowed everywhere except in the model.
  static let common: Set<String> = ["Logging", "Synchronization", "Glibc", "FoundationEssentials"]
  /// What every part of the core but these two stands on.
  static let floor: Set<String> = common.union(["VPCModel", "VPCSystem"])
  static let core: Set<String> = [
    "VPCModel", "VPCSystem", "VPCLinux", "VPCTransport", "VPCCloud", "VPCKube", "VPCRPC", "VPCObserve",
  ]
  static let nio: Set<String> = ["NIOCore", "NIOPosix", "NIOHTTP1", "NIOHTTP2", "NIOHPACK", "NIOConcurrencyHelpers"]
  static let modes: Set<String> = [
    "PluginMode", "AgentMode", "HealthMode", "InitMode", "NodeMode", "MetricsHelperMode", "StatusMode", "DoctorMode",
    "SupportBundleMode", "HelpMode",
  ]

  /// The first folder that contains a file decides.
  static let layers: [Layer] = [
    Layer(folder: "Sources/Core/Model/", may: ["DequeModule", "CNettle"]),
    Layer(folder: "Sources/Core/System/", may: common.union(["VPCModel", "CProcess", "CBuildFacts"])),
    Layer(folder: "Sources/Core/Linux/", may: floor.union(["CNetlink", "CNftables", "CProcess", "CZlib"])),
    Layer(folder: "Sources/Core/Transport/", may: floor.union(["CCurl"])),
    Layer(folder: "Sources/Core/Cloud/", may: floor.union(["VPCTransport", "CExpat"])),
    Layer(folder: "Sources/Core/Kube/", may: floor.union(["VPCTransport", "CYaml"])),
    Layer(folder: "Sources/Core/RPC/", may: floor.union(nio).union(["CNghttp2", "SwiftProtobuf"])),
    Layer(folder: "Sources/Core/Observe/", may: floor.union(nio)),
    Layer(folder: "Sources/Modes/Plugin/", may: common.union(core).subtracting(["VPCCloud", "VPCTransport"])),
    Layer(folder: "Sources/Modes/", may: common.union(core).union(["ArgumentParser"])),
    Layer(folder: "Sources/vpc-cni/", may: common.union(modes).union(["VPCModel"])),
    Layer(folder: "Tests/Benchmarks/Burst/Simulation/", may: ["VPCModel"]),
    Layer(folder: "Tests/Benchmarks/Burst/Program/", may: ["VPCModel", "BurstSimulation", "Glibc"]),
  ]

  /// `package import struct A.B` → `A`; nil for any other line.
  static func module(_ line: Substring) -> String? {
    var words = line.split(separator: " ")
    let modifiers: Set<Substring> = [
      "public", "package", "internal", "fileprivate", "private", "@preconcurrency", "@testable",
    ]
    while let first = words.first, modifiers.contains(first) { words.removeFirst() }
    guard words.count >= 2, words.removeFirst() == "import" else { return nil }
    let kinds: Set<Substring> = ["struct", "class", "enum", "func", "protocol", "typealias", "var", "let"]
    if words.count > 1, let first = words.first, kinds.contains(first) { words.removeFirst() }
    return words.first.flatMap { $0.split(separator: ".").first }.map(String.init)
  }

  @Test func everyImportIsAllowed() throws {
    let files =
      PackageTree.files(below: "Sources", suffix: ".swift")
      + PackageTree.files(below: "Tests/Benchmarks/Burst", suffix: ".swift")
    try #require(files.count > 20)
    for file in files {
      let layer = try #require(Self.layers.first { file.hasPrefix($0.folder) }, "\(file) lies in no layer")
      for line in try PackageTree.text(file).split(separator: "\n") {
        guard let module = Self.module(line) else { continue }
        #expect(layer.may.contains(module), "\(file) imports \(module)")
      }
    }
  }

  /// Foundation pulls in 41 MB of ICU, which every pod start would load.
  @Test func nobodyImportsFoundation() throws {
    for file in PackageTree.files(below: "Sources", suffix: ".swift")
      + PackageTree.files(below: "Tests", suffix: ".swift")
    {
      for line in try PackageTree.text(file).split(separator: "\n") {
        #expect(Self.module(line) != "Foundation", "\(file)")
      }
    }
  }

  @Test(arguments: [
    ("import Glibc", "Glibc"), ("package import VPCModel", "VPCModel"), ("internal import struct A.B", "A"),
    ("@preconcurrency import NIOCore", "NIOCore"), ("// import Foundation", nil), ("let import_ = 1", nil),
  ])
  func readsImportLines(line: String, module: String?) {
    #expect(Self.module(line[...]) == module)
  }
}
