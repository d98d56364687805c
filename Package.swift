// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// The targets in layer order. What a target may import is said here by its dependencies and again, for every
// `import` line, by the table in Tests/ModelTests/ImportTableTests.swift.

import PackageDescription

/// One list of settings for every target of ours.
let swift: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  // libnl's headers stand in a folder of their own. A `pkgConfig` entry would find them, but it also makes SwiftPM
  // link the shared library whatever else is said (docs/decisions/0003-static-linking.md).
  .unsafeFlags(["-Xcc", "-I/usr/include/libnl3"]),
]

let log = Target.Dependency.product(name: "Logging", package: "swift-log")
let protobuf = Target.Dependency.product(name: "SwiftProtobuf", package: "swift-protobuf")
let collections = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioHTTP2 = Target.Dependency.product(name: "NIOHTTP2", package: "swift-nio-http2")
let nioHPACK = Target.Dependency.product(name: "NIOHPACK", package: "swift-nio-http2")

let package = Package(
  name: "vpc-cni",
  products: [
    .executable(name: "vpc-cni", targets: ["vpc-cni"])
  ],
  // Tested with Swift 6.3.1 and collections 1.6.0, log 1.16.2, nio 2.101.2, nio-http2 1.46.0, protobuf 1.39.0 (which brings
  // atomics 1.3.0 and system 1.8.1). There is no Package.resolved in the tree: the registries of the machines that build it
  // have one version of each package, and a pinned revision of another origin would not resolve there. `swift package
  // show-dependencies` says what a build used.
  dependencies: [
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
  ],
  targets: [
    // C libraries. Archives are named where the Swift target that uses them is declared; libcurl, libmnl and libnftnl
    // are opened with dlopen on first use by a small loader, so that the plugin's process never pays for them.
    .systemLibrary(name: "CNettle", path: "Sources/CSystem/CNettle"),
    .systemLibrary(name: "CNghttp2", path: "Sources/CSystem/CNghttp2"),
    .systemLibrary(name: "CExpat", path: "Sources/CSystem/CExpat"),
    .systemLibrary(name: "CYaml", path: "Sources/CSystem/CYaml"),
    .systemLibrary(name: "CZlib", path: "Sources/CSystem/CZlib"),
    .target(name: "CGlibcFloor", path: "Sources/CSystem/CGlibcFloor"),
    .target(name: "CArguments", path: "Sources/CSystem/CArguments"),
    .target(name: "CCurl", path: "Sources/CSystem/CCurl"),
    .target(
      name: "CNetlink", path: "Sources/CSystem/CNetlink", cSettings: [.unsafeFlags(["-I/usr/include/libnl3"])]),
    .systemLibrary(name: "CProcess", path: "Sources/CSystem/CProcess"),
    .target(name: "CBuildFacts", path: "Sources/CSystem/CBuildFacts"),

    // Core: the one library that all modes share. VPCModel computes, VPCSystem calls the system; the rest stands on both.
    .target(
      name: "VPCModel", dependencies: ["CNettle", collections], path: "Sources/Core/Model",
      exclude: ["Limits/instance-limits.tsv", "Limits/generate-table.py"], swiftSettings: swift,
      linkerSettings: [.linkedLibrary(":libnettle.a")]),
    .target(
      name: "VPCSystem", dependencies: ["VPCModel", "CProcess", "CBuildFacts"], path: "Sources/Core/System",
      swiftSettings: swift),
    .target(
      name: "VPCLinux", dependencies: ["VPCModel", "VPCSystem", "CNetlink", "CProcess", "CZlib", log],
      path: "Sources/Core/Linux", swiftSettings: swift,
      linkerSettings: [
        .linkedLibrary(":libnl-route-3.a"), .linkedLibrary(":libnl-3.a"), .linkedLibrary(":libz.a"),
      ]),
    .target(
      name: "VPCTransport", dependencies: ["VPCModel", "VPCSystem", "CCurl", log], path: "Sources/Core/Transport",
      swiftSettings: swift),
    .target(
      name: "VPCCloud", dependencies: ["VPCModel", "VPCSystem", "VPCTransport", "CExpat", log],
      path: "Sources/Core/Cloud",
      swiftSettings: swift, linkerSettings: [.linkedLibrary(":libexpat.a")]),
    .target(
      name: "VPCKube", dependencies: ["VPCModel", "VPCSystem", "VPCTransport", "CYaml", log], path: "Sources/Core/Kube",
      swiftSettings: swift, linkerSettings: [.linkedLibrary(":libyaml.a")]),
    .target(
      name: "VPCRPC",
      dependencies: ["VPCModel", "VPCSystem", "CNghttp2", log, protobuf, nioCore, nioPosix, nioHTTP2, nioHPACK],
      path: "Sources/Core/RPC", exclude: ["Protos"], swiftSettings: swift,
      linkerSettings: [.linkedLibrary(":libnghttp2.a")]),
    .target(
      name: "VPCObserve", dependencies: ["VPCModel", "VPCSystem", log, nioCore, nioPosix, nioHTTP1],
      path: "Sources/Core/Observe",
      swiftSettings: swift),

    // Modes: parse input, build the parts, call Core, map errors to the outer protocol.
    .target(
      name: "PluginMode", dependencies: ["VPCModel", "VPCSystem", "VPCLinux", "VPCRPC", "VPCObserve", log],
      path: "Sources/Modes/Plugin", swiftSettings: swift),
    .target(
      name: "AgentMode",
      dependencies: [
        "VPCModel", "VPCSystem", "VPCLinux", "VPCTransport", "VPCCloud", "VPCKube", "VPCRPC", "VPCObserve", log,
      ],
      path: "Sources/Modes/Agent", swiftSettings: swift),
    .target(
      name: "HealthMode", dependencies: ["VPCModel", "VPCSystem", "VPCRPC", "VPCObserve", log],
      path: "Sources/Modes/Health",
      swiftSettings: swift),
    .target(
      name: "InitMode",
      dependencies: ["VPCModel", "VPCSystem", "VPCLinux", "VPCTransport", "VPCCloud", "VPCObserve", log],
      path: "Sources/Modes/Init", swiftSettings: swift),
    .target(
      name: "NodeMode",
      dependencies: [
        "VPCModel", "VPCSystem", "VPCLinux", "VPCTransport", "VPCCloud", "VPCRPC", "VPCObserve", log,
      ],
      path: "Sources/Modes/Node", swiftSettings: swift),
    .target(
      name: "MetricsHelperMode",
      dependencies: ["VPCModel", "VPCSystem", "VPCTransport", "VPCCloud", "VPCKube", "VPCObserve", log],
      path: "Sources/Modes/MetricsHelper", swiftSettings: swift),
    .target(
      name: "StatusMode", dependencies: ["VPCModel", "VPCSystem", "VPCLinux", "VPCObserve"],
      path: "Sources/Modes/Status",
      swiftSettings: swift),
    .target(
      name: "DoctorMode",
      dependencies: [
        "VPCModel", "VPCSystem", "VPCLinux", "VPCTransport", "VPCCloud", "VPCKube", "VPCRPC", "VPCObserve",
      ],
      path: "Sources/Modes/Doctor", swiftSettings: swift),
    .target(
      name: "SupportBundleMode",
      dependencies: ["VPCModel", "VPCSystem", "VPCLinux", "VPCTransport", "VPCCloud", "VPCKube", "VPCObserve"],
      path: "Sources/Modes/SupportBundle", swiftSettings: swift),
    .target(
      name: "HelpMode", dependencies: ["VPCModel", "VPCSystem"], path: "Sources/Modes/Help", swiftSettings: swift),
    .executableTarget(
      name: "vpc-cni",
      dependencies: [
        "VPCModel", "PluginMode", "AgentMode", "HealthMode", "InitMode", "NodeMode", "MetricsHelperMode", "StatusMode",
        "DoctorMode", "SupportBundleMode", "HelpMode", "CGlibcFloor", "CArguments",
      ],
      path: "Sources/vpc-cni", swiftSettings: swift),

    // The burst simulator: the pool alone on many nodes, in virtual time. Built by `make bench`.
    .target(
      name: "BurstSimulation", dependencies: ["VPCModel"], path: "Tests/Benchmarks/Burst/Simulation",
      swiftSettings: swift),
    .executableTarget(
      name: "pool-rate", dependencies: ["VPCModel"], path: "Tests/Benchmarks/PoolRate", swiftSettings: swift),
    .executableTarget(
      name: "burst", dependencies: ["BurstSimulation", "VPCModel"], path: "Tests/Benchmarks/Burst/Program",
      swiftSettings: swift),

    // Tests. Unit suites need nothing; KernelTests need root and make their own namespaces.
    .target(
      name: "TestSupport", dependencies: ["VPCModel", "VPCSystem", "VPCLinux", "VPCTransport", "CProcess"],
      path: "Tests/Support",
      swiftSettings: swift),
    .testTarget(
      name: "ModelTests", dependencies: ["VPCModel", "TestSupport"], path: "Tests/ModelTests", swiftSettings: swift),
    .testTarget(
      name: "SystemTests", dependencies: ["VPCModel", "VPCSystem", "TestSupport"], path: "Tests/SystemTests",
      swiftSettings: swift),
    .testTarget(
      name: "LinuxTests", dependencies: ["VPCLinux", "VPCSystem", "TestSupport"], path: "Tests/LinuxTests",
      swiftSettings: swift),
    .testTarget(
      name: "CloudTests", dependencies: ["VPCCloud", "VPCSystem", "VPCTransport", "TestSupport"],
      path: "Tests/CloudTests",
      swiftSettings: swift),
    .testTarget(
      name: "KubeTests", dependencies: ["VPCKube", "VPCTransport", "TestSupport"], path: "Tests/KubeTests",
      swiftSettings: swift),
    .testTarget(
      name: "RPCTests",
      dependencies: [
        "VPCRPC", "VPCSystem", "VPCObserve", "HealthMode", "TestSupport", log, protobuf, nioCore, nioPosix,
      ],
      path: "Tests/RPCTests", exclude: ["Peers"], swiftSettings: swift),
    .testTarget(
      name: "PluginTests", dependencies: ["PluginMode", "TestSupport"], path: "Tests/PluginTests",
      swiftSettings: swift),
    .testTarget(
      name: "AgentTests", dependencies: ["AgentMode", "VPCSystem", "TestSupport"], path: "Tests/AgentTests",
      swiftSettings: swift),
    .testTarget(
      name: "NodeTests", dependencies: ["NodeMode", "InitMode", "VPCModel", "VPCSystem", "VPCLinux", "TestSupport"],
      path: "Tests/NodeTests", exclude: ["Golden"], swiftSettings: swift),
    .testTarget(
      name: "MetricsHelperTests", dependencies: ["MetricsHelperMode", "VPCCloud", "VPCObserve", "TestSupport"],
      path: "Tests/MetricsHelperTests", swiftSettings: swift),
    .testTarget(
      name: "BurstTests", dependencies: ["BurstSimulation", "VPCModel"], path: "Tests/BurstTests",
      swiftSettings: swift),
    .testTarget(
      name: "ToolTests",
      dependencies: [
        "StatusMode", "DoctorMode", "SupportBundleMode", "HelpMode", "VPCSystem", "VPCObserve", "TestSupport",
      ],
      path: "Tests/ToolTests", swiftSettings: swift),
    .testTarget(
      name: "KernelTests", dependencies: ["VPCLinux", "VPCSystem", "TestSupport"], path: "Tests/KernelTests",
      swiftSettings: swift),
  ]
)

// The fuzzer needs a runtime that only `make fuzz` links.
if Context.environment["VPC_CNI_FUZZ"] != nil {
  package.targets += [
    .systemLibrary(name: "CFuzzer", path: "Tests/Fuzz/Driver"),
    .executableTarget(
      name: "fuzz",
      dependencies: [
        "VPCModel", "VPCSystem", "VPCLinux", "VPCTransport", "VPCCloud", "VPCKube", "VPCRPC", "VPCObserve",
        "PluginMode",
        "NodeMode", "MetricsHelperMode", "CFuzzer", "CNetlink", protobuf, nioCore,
        .product(name: "NIOEmbedded", package: "swift-nio"),
      ],
      path: "Tests/Fuzz/Program", swiftSettings: swift),
  ]
}
