// SPDX-License-Identifier: Apache-2.0

import Glibc
import VPCModel

/// The values of CNI_COMMAND.
enum CNICommand: String, Sendable, CaseIterable {
  case add = "ADD"
  case delete = "DEL"
  case check = "CHECK"
  case status = "STATUS"
  case collectGarbage = "GC"
  case version = "VERSION"

  /// The required non-empty parameters, in the order in which the CNI library names them.
  var needs: [CNIParameter] {
    switch self {
    case .add, .check: [.containerID, .netns, .interface, .path]
    case .delete: [.containerID, .interface, .path]
    case .status, .collectGarbage: [.path]
    case .version: []
    }
  }
}

/// The environment variables of the protocol. The plugin reads no others.
enum CNIParameter: String, Sendable, CaseIterable {
  case command = "CNI_COMMAND"
  case containerID = "CNI_CONTAINERID"
  case netns = "CNI_NETNS"
  case netnsOverride = "CNI_NETNS_OVERRIDE"
  case interface = "CNI_IFNAME"
  case arguments = "CNI_ARGS"
  case path = "CNI_PATH"

  /// The maximum size of a value in bytes. A path has the kernel's PATH_MAX, CNI_PATH is a list of paths.
  var limit: Int {
    switch self {
    case .command: 16
    case .containerID: 256
    case .interface: 256
    case .netnsOverride: 16
    case .netns: 4095
    case .arguments, .path: 32768
    }
  }

  /// The process's own values of all of them; those that are not set are left out.
  static func environment() -> [String: String] {
    var values: [String: String] = [:]
    for parameter in allCases {
      if let value = getenv(parameter.rawValue) { values[parameter.rawValue] = String(cString: value) }
    }
    return values
  }
}
