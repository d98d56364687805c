// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// An event of events.k8s.io/v1 about another object.
package struct KubeEvent: Sendable, Hashable {
  /// What it is about.
  package struct Subject: Sendable, Hashable {
    package var kind: String
    package var metadata: KubeMetadata

    package init(kind: String, metadata: KubeMetadata) {
      self.kind = kind
      self.metadata = metadata
    }
  }

  package var subject: Subject
  /// Whether something is wrong.
  package var isWarning: Bool
  /// Why, in CamelCase; at most 128 bytes.
  package var reason: String
  /// What was done or failed; at most 128 bytes.
  package var action: String
  /// For people; truncated to 1024 bytes, the API's limit.
  package var note: String
  /// Who says so, such as `aws-node`.
  package var controller: String
  /// Which of them.
  package var instance: String

  package init(
    subject: Subject, isWarning: Bool, reason: String, action: String, note: String, controller: String,
    instance: String
  ) {
    self.subject = subject
    self.isWarning = isWarning
    self.reason = reason
    self.action = action
    self.note = note
    self.controller = controller
    self.instance = instance
  }

  /// - Parameters:
  ///   - name: of the event object; unique in the subject's namespace.
  ///   - time: RFC 3339 with microseconds, UTC: `2026-01-31T12:00:00.000000Z`.
  package func json(name: String, time: String) -> JSONValue {
    let namespace = subject.metadata.namespace.isEmpty ? "default" : subject.metadata.namespace
    return [
      "apiVersion": "events.k8s.io/v1", "kind": "Event",
      "metadata": ["name": .string(name), "namespace": .string(namespace)],
      "eventTime": .string(time), "reportingController": .string(controller),
      "reportingInstance": .string(KubeEvent.cut(instance, 128)), "action": .string(KubeEvent.cut(action, 128)),
      "reason": .string(KubeEvent.cut(reason, 128)), "type": .string(isWarning ? "Warning" : "Normal"),
      "note": .string(KubeEvent.cut(note, 1024)),
      "regarding": [
        "apiVersion": "v1", "kind": .string(subject.kind), "name": .string(subject.metadata.name),
        "namespace": .string(subject.metadata.namespace), "uid": .string(subject.metadata.uid),
      ],
    ]
  }

  /// At most this number of bytes, never half a character.
  private static func cut(_ text: String, _ limit: Int) -> String {
    guard text.utf8.count > limit else { return text }
    var short = text
    while short.utf8.count > limit { short.removeLast() }
    return short
  }
}
