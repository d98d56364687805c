// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// What a runtime can ask for in CNI_COMMAND.
enum CNICommand: String, Sendable, CaseIterable {
  case add = "ADD"
  case delete = "DEL"
  case check = "CHECK"
  case status = "STATUS"
  case collectGarbage = "GC"
  case version = "VERSION"

  /// The parameters that must be there and not empty, in the order in which the CNI library names them.
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

  /// The most bytes a value may have. A path is the kernel's PATH_MAX, CNI_PATH a list of some.
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
}
