// SPDX-License-Identifier: Apache-2.0

/// One parser under libFuzzer. A finding is a trap, a failed `precondition`, a sanitizer's report, or an input that
/// takes more than ten seconds.
struct FuzzTarget: Sendable {
  /// The name of the parser and of its corpus, Tests/Fuzz/corpus/NAME.
  let name: String
  /// The bytes are valid during the call. The parser must not read beyond them.
  let run: @Sendable (UnsafeRawBufferPointer) -> Void

  /// The input is a netlink datagram whose attributes keep their lengths (`AttributeMutator`).
  let keepsAttributes: Bool

  /// A parser that takes an array.
  init(_ name: String, _ run: @escaping @Sendable ([UInt8]) -> Void) {
    self.init(name, raw: { run(Array($0)) })
  }

  /// A parser that reads memory in place.
  init(
    _ name: String, keepsAttributes: Bool = false, raw run: @escaping @Sendable (UnsafeRawBufferPointer) -> Void
  ) {
    self.name = name
    self.keepsAttributes = keepsAttributes
    self.run = run
  }

  /// Written once before libFuzzer's first call, read on its thread.
  nonisolated(unsafe) static var chosen: FuzzTarget?

  static let all: [FuzzTarget] = [
    FuzzTarget("json", DocumentTargets.json),
    FuzzTarget("checkpoint", DocumentTargets.checkpoint),
    FuzzTarget("cni-config", DocumentTargets.cniConfiguration),
    FuzzTarget("conflist", DocumentTargets.conflist),
    FuzzTarget("kubeconfig", DocumentTargets.kubeconfig),
    FuzzTarget("kube-objects", DocumentTargets.kubeObjects),
    FuzzTarget("xml", TextTargets.xml),
    FuzzTarget("metrics", TextTargets.metrics),
    FuzzTarget("iptables", TextTargets.iptables),
    FuzzTarget("redaction", TextTargets.redaction),
    FuzzTarget("values", TextTargets.values),
    FuzzTarget("http2-server", WireTargets.server),
    FuzzTarget("http2-client", WireTargets.client),
    FuzzTarget("protobuf", WireTargets.protobuf),
    FuzzTarget("netlink", raw: KernelTargets.netlink),
    FuzzTarget("nftables", keepsAttributes: true, raw: KernelTargets.nftables),
  ]
}
