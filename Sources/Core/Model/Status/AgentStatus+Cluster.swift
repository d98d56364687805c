// SPDX-License-Identifier: Apache-2.0

extension AgentStatus {
  /// The agent's state from the API server, and current failures.
  package struct Cluster: StatusObject, Sendable, Hashable {
    /// Empty if none is configured.
    package var server = ""
    /// MY_NODE_NAME.
    package var node = ""
    /// The node's object was read at least once.
    package var isNodeKnown = false
    /// `status.capacity.pods` of the node; nil if unknown.
    package var podCapacity: Int?
    package var isCordoned = false
    /// The ENIConfig that the node names; nil if unknown.
    package var eniConfig: String?
    /// The essential ones first.
    package var faults: [Fault] = []

    package init() {}

    mutating func fields(_ field: inout StatusFields) {
      field("server", &server)
      field("node", &node)
      field("isNodeKnown", &isNodeKnown)
      field("podCapacity", &podCapacity)
      field("isCordoned", &isCordoned)
      field("eniConfig", &eniConfig)
      field("faults", &faults)
    }

    /// A request to the API server that currently fails.
    package struct Fault: StatusObject, Sendable, Hashable {
      /// What it is about: `node ip-10-0-1-7`, `events`…
      package var subject = ""
      package var error = ""
      /// The permission that RBAC denies, `list and watch nodes`; empty for other causes.
      package var permission = ""
      /// Whether pods' addresses depend on it.
      package var isEssential = false
      package var seconds = 0

      package init() {}

      mutating func fields(_ field: inout StatusFields) {
        field("subject", &subject)
        field("error", &error)
        field("permission", &permission)
        field("isEssential", &isEssential)
        field("seconds", &seconds)
      }

      /// One line of text.
      package var text: String {
        "\(subject): \(error)" + (permission.isEmpty ? "" : "; missing permission: \(permission)")
      }
    }
  }
}
