// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import VPCModel

/// One netlink request under construction: the owner of an `nl_msg` of libnl, which knows sizes and padding.
///
/// A put that does not fit marks the message as failed, and the socket refuses to send it. So building needs no error
/// handling at each step.
final class NetlinkMessage {
  private let message: OpaquePointer?
  private(set) var hasFailed = false

  /// Larger than any request here; a veth pair with all its attributes needs about 200 bytes.
  private static let capacity = 1024

  /// Begins a message of `type` (RTM_…) with NLM_F_REQUEST, `flags` and the family's fixed header.
  init(_ type: Int, flags: Int32 = 0, header: some BitwiseCopyable) {
    message = nlmsg_alloc_size(NetlinkMessage.capacity)
    if nlmsg_put(message, 0, 0, Int32(type), 0, NLM_F_REQUEST | flags) == nil { hasFailed = true }
    append(header)
  }

  deinit { nlmsg_free(message) }

  /// The finished message; nil if something did not fit. Valid while this object lives.
  var header: UnsafeMutablePointer<nlmsghdr>? { hasFailed ? nil : nlmsg_hdr(message) }

  /// Appends a fixed structure: the family's header, or one inside a nest (VETH_INFO_PEER).
  func append(_ structure: some BitwiseCopyable) {
    guard !hasFailed else { return }
    var copy = structure
    // SAFETY: nlmsg_append copies the bytes before it returns.
    let result = withUnsafeMutableBytes(of: &copy) {
      nlmsg_append(message, $0.baseAddress, $0.count, Int32(NLMSG_ALIGNTO))
    }
    if result < 0 { hasFailed = true }
  }

  func put(_ attribute: Int, _ value: UInt32) {
    guard !hasFailed else { return }
    if nla_put_u32(message, Int32(attribute), value) < 0 { hasFailed = true }
  }

  func put(_ attribute: Int, byte value: UInt8) {
    guard !hasFailed else { return }
    if nla_put_u8(message, Int32(attribute), value) < 0 { hasFailed = true }
  }

  /// Puts a text with its closing zero.
  func put(_ attribute: Int, _ text: String) {
    guard !hasFailed else { return }
    if nla_put_string(message, Int32(attribute), text) < 0 { hasFailed = true }
  }

  func put(_ attribute: Int, bytes: [UInt8]) {
    guard !hasFailed else { return }
    // SAFETY: nla_put copies the bytes before it returns.
    let result = bytes.withUnsafeBytes { nla_put(message, Int32(attribute), Int32($0.count), $0.baseAddress) }
    if result < 0 { hasFailed = true }
  }

  func put(_ attribute: Int, _ address: IPAddress) { put(attribute, bytes: address.bytes) }

  func put(_ attribute: Int, _ address: MACAddress) { put(attribute, bytes: address.bytes) }

  func put(_ attribute: Int, _ name: InterfaceName) { put(attribute, name.text) }

  /// Puts what `body` puts inside one nested attribute.
  func nest(_ attribute: Int, _ body: () -> Void) {
    guard !hasFailed, let start = nla_nest_start(message, Int32(attribute)) else {
      hasFailed = true
      return
    }
    body()
    if !hasFailed, nla_nest_end(message, start) < 0 { hasFailed = true }
  }
}
