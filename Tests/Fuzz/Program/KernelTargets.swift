// SPDX-License-Identifier: Apache-2.0

import CNetlink
import VPCModel

@testable import VPCLinux

/// Parsers of data from netlink sockets.
enum KernelTargets {
  @Sendable static func netlink(_ bytes: UnsafeRawBufferPointer) {
    _ = try? NetlinkReply.forEach(in: bytes) { (reply) throws(NetlinkError) in
      _ = Link(reply: reply)
      _ = InterfaceAddress(reply: reply)
      _ = Route(reply: reply)
      _ = PolicyRule(reply: reply)
      _ = Neighbour(reply: reply)
      _ = NftablesMonitor.Notice.Event(reply: reply)
    }
  }

  private static let isLoaded = (try? NftablesLibrary.load()) != nil
  private static let tables = [AddressFamily.ipv4, .ipv6].map { NftablesTableID(family: $0, name: "vpc-cni") }

  /// One datagram, parsed by every reader of nf_tables objects.
  @Sendable static func nftables(_ bytes: UnsafeRawBufferPointer) {
    require(isLoaded, "libmnl and libnftnl are installed")
    // The receive buffer is aligned. libFuzzer's memory is aligned too, but libFuzzer does not guarantee it.
    let datagram = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
    defer { datagram.deallocate() }
    datagram.copyMemory(from: bytes)
    for message in NetlinkMessages(UnsafeRawBufferPointer(datagram)) where message.error == nil {
      _ = NftablesAnswer.generation(message.header)
      _ = NftablesAnswer.tableFlags(message.header)
      for table in tables {
        _ = NftablesAnswer.chain(message.header, of: table.name)
        _ = NftablesAnswer.rule(message.header, of: table.name)
        _ = NftablesAnswer.map(message.header, of: table)
        for isInterval in [false, true] {
          let reader = NftablesElementReader(shape: NftablesMap.Shape(family: table.family, isInterval: isInterval))
          reader.append(message.header)
          _ = reader.elements()
        }
      }
    }
  }
}
