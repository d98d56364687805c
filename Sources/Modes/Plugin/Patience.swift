// SPDX-License-Identifier: Apache-2.0

/// How long the plugin waits for others. A pod's start is retried by the kubelet, whose own limit is two minutes.
enum Patience {
  /// ADD: the agent may need to attach an ENI first.
  static let add: Duration = .seconds(20)
  static let delete: Duration = .seconds(10)
  /// GC makes one request per stale attachment, all within this limit.
  static let collect: Duration = .seconds(30)
  static let status: Duration = .seconds(5)
  /// The connect alone has 2 seconds of it (`NPBackendClient`).
  static let policy: Duration = .seconds(10)
  /// How long the runtime may take to write the configuration and close the pipe.
  static let input: Duration = .seconds(10)
}
