// SPDX-License-Identifier: Apache-2.0

/// Which members of a JSON document are kept while it is read. A selection of an array is one of each of its items.
///
/// For documents of which only a small part is used, such as Kubernetes objects.
package indirect enum JSONSelection: Sendable, Hashable {
  /// Everything from here on.
  case all
  /// These members of an object, with a selection for each.
  case members([String: JSONSelection])

  /// The selection of that member; nil to drop it.
  package func member(_ name: String) -> JSONSelection? {
    switch self {
    case .all: .all
    case .members(let wanted): wanted[name]
    }
  }
}

extension JSONSelection: ExpressibleByDictionaryLiteral {
  package init(dictionaryLiteral elements: (String, JSONSelection)...) {
    self = .members(Dictionary(elements, uniquingKeysWith: { $1 }))
  }
}
