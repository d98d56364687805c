// SPDX-License-Identifier: Apache-2.0

package import Glibc
package import VPCModel

/// Where a socket listens or what it connects to, in the kernel's form.
package struct SocketAddress {
  private var storage = sockaddr_storage()
  private let size: Int

  /// A socket in the file system.
  ///
  /// - Returns: nil for an empty path, one of more than 107 bytes, or one with a NUL.
  package init?(unix path: String) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    let room = MemoryLayout.size(ofValue: address.sun_path) - 1
    guard (1...room).contains(bytes.count), !bytes.contains(0) else { return nil }
    // SAFETY: at most `room` bytes go into the zeroed array, which leaves its last byte as the terminator.
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    self.init(copying: address)
  }

  package init(_ host: IPAddress, port: UInt16) {
    switch host.family {
    case .ipv4:
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      withUnsafeMutableBytes(of: &address.sin_addr) { $0.copyBytes(from: host.bytes) }
      self.init(copying: address)
    case .ipv6:
      var address = sockaddr_in6()
      address.sin6_family = sa_family_t(AF_INET6)
      address.sin6_port = port.bigEndian
      withUnsafeMutableBytes(of: &address.sin6_addr) { $0.copyBytes(from: host.bytes) }
      self.init(copying: address)
    }
  }

  private init<Address>(copying address: Address) {
    size = MemoryLayout<Address>.size
    // SAFETY: a sockaddr_storage has room for every address of a socket.
    withUnsafeMutableBytes(of: &storage) { storage in
      withUnsafeBytes(of: address) { storage.copyMemory(from: $0) }
    }
  }

  /// AF_UNIX, AF_INET or AF_INET6.
  package var family: Int32 { Int32(storage.ss_family) }

  /// Calls `body` with what `bind` and `connect` take; the pointer is valid during the call alone.
  package func withPointer(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    // SAFETY: every address of a socket begins as a sockaddr does; its true size is passed along.
    withUnsafePointer(to: storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(size)) }
    }
  }
}
