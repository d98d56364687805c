// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VPCModel
import VPCSystem

@Suite struct SocketAddressTests {
  @Test func aPathHasRoomForItsTerminator() {
    #expect(SocketAddress(unix: String(repeating: "a", count: 107))?.family == AF_UNIX)
    #expect(SocketAddress(unix: String(repeating: "a", count: 108)) == nil)
    #expect(SocketAddress(unix: "") == nil)
    #expect(SocketAddress(unix: "/run/a\0b") == nil)
  }

  @Test(arguments: [
    ("127.0.0.1", AF_INET, [0x1f, 0x90, 127, 0, 0, 1]),
    ("2001:db8::1", AF_INET6, [0x1f, 0x90, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
  ])
  func anAddressIsInNetworkOrder(text: String, family: Int32, bytes: [UInt8]) throws {
    let address = SocketAddress(try #require(IPAddress(text)), port: 8080)
    #expect(address.family == family)
    let matches = address.withPointer { pointer, size in
      // SAFETY: `size` bytes are behind the pointer; those of the family come first.
      let raw = UnsafeRawBufferPointer(start: pointer, count: Int(size)).dropFirst(2)
      return raw.prefix(bytes.count).elementsEqual(bytes) ? 1 : 0
    }
    #expect(matches == 1)
  }
}
