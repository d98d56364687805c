// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VPCModel
internal import VPCSystem

/// The addresses that containers of one network hold on this node: the files of the CNI plugin host-local.
///
/// | file | content |
/// |---|---|
/// | `ADDRESS` | `CONTAINER` CR LF `INTERFACE`, without an end of line; mode 0600 |
/// | `last_reserved_ip.0` | the address that was given last; the next search begins after it |
/// | `lock` | nothing; locked by flock while a program works in the folder |
///
/// host-local itself can work in the same folder, before and after. The folder is locked as long as this value lives.
/// Source: containernetworking/plugins, host-local, as egress-cni of amazon-vpc-cni-k8s v1.23 uses it.
package struct ReservationStore: ~Copyable {
  /// Who holds an address.
  package struct Owner: Sendable, Hashable {
    package let containerID: String
    /// CNI_IFNAME.
    package let interface: String

    package init(containerID: String, interface: String) {
      self.containerID = containerID
      self.interface = interface
    }
  }

  private let folder: String
  private let directory: Int32
  private let lock: Int32

  /// The number of names that are read at most: more than any range that a node's pods share.
  private static let maximumNames = 100_000
  /// A container's and an interface's name, and room.
  private static let maximumSize = 1024
  private static let lastName = "last_reserved_ip.0"
  private static let lockName = "lock"
  private static let pause: useconds_t = 5_000

  /// Opens and locks the folder.
  ///
  /// - Parameters:
  ///   - folder: DATADIR/NETWORK, absolute.
  ///   - creates: make it, with mode 0755, if it is missing.
  ///   - patience: how long to wait for the lock.
  /// - Returns: nil if the folder is missing and `creates` is false.
  /// - Throws: `ReservationError`, `.locked` or `.failed`.
  package static func open(
    _ folder: String, creates: Bool, patience: Duration = .seconds(10)
  ) throws(ReservationError) -> ReservationStore? {
    if creates { try make(folder) }
    let directory = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard directory >= 0 else {
      if errno == ENOENT && !creates { return nil }
      throw ReservationError(FileError(verb: "open", path: folder, errno: errno))
    }
    let lock = openat(directory, lockName, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o750)
    guard lock >= 0 else {
      let error = FileError(verb: "open", path: "\(folder)/\(lockName)", errno: errno)
      close(directory)
      throw ReservationError(error)
    }
    let store = ReservationStore(folder: folder, directory: directory, lock: lock)
    try waitForLock(
      lock, path: "\(folder)/\(lockName)", patience, for: "lock the address reservations", holder: "another program")
    return store
  }

  private init(folder: String, directory: Int32, lock: Int32) {
    self.folder = folder
    self.directory = directory
    self.lock = lock
  }

  deinit {
    close(lock)
    close(directory)
  }

  /// Waits for an exclusive lock, which has no time limit of its own.
  ///
  /// - Parameters:
  ///   - what: verb and object, for errors.
  ///   - holder: who has the lock if the wait ends without it.
  fileprivate static func waitForLock(
    _ file: Int32, path: String, _ patience: Duration, for what: String, holder: String
  ) throws(ReservationError) {
    let end = ContinuousClock.now + patience
    while flock(file, LOCK_EX | LOCK_NB) != 0 {
      let code = errno
      guard code == EWOULDBLOCK || code == EINTR else {
        throw ReservationError(FileError(verb: "lock", path: path, errno: code))
      }
      guard ContinuousClock.now < end else {
        throw ReservationError(.locked, what, detail: "\(holder) has held \(path) for more than \(patience.brief)")
      }
      usleep(pause)
    }
  }

  /// The addresses that this owner holds, sorted. A file of host-local's old format names no interface.
  package func addresses(of owner: Owner) throws(ReservationError) -> [IPAddress] { try scan(for: owner).owned }

  /// Reserves the next free address.
  ///
  /// - Parameter ranges: of one family; not empty.
  /// - Returns: the address, and the range that it comes from.
  /// - Throws: `ReservationError`, `.duplicate` if the owner has an address of these ranges, `.exhausted`, `.failed`.
  package func reserve(
    for owner: Owner, from ranges: [AddressRange]
  ) throws(ReservationError) -> (address: IPAddress, range: AddressRange) {
    let scan = try scan(for: owner)
    if let held = scan.owned.first(where: { address in ranges.contains { $0.contains(address) } }) {
      throw ReservationError(
        .duplicate, "\(held) has been allocated to \(owner.containerID), duplicate allocation is not allowed",
        detail: "call DEL first; the reservation is \(folder)/\(held)")
    }
    var walk = AddressWalk(ranges, after: last())
    while let (address, range) = walk.next() {
      guard !scan.taken.contains(address) else { continue }
      guard try write(owner, to: "\(address)") else { continue }
      try writeLast(address)
      return (address, range)
    }
    let set = ranges.map(\.description).joined(separator: ",")
    throw ReservationError(
      .exhausted, "no IP addresses available in range set: \(set)",
      detail:
        "all \(scan.taken.count) are reserved by files in \(folder); the file of a container that is gone may be deleted"
    )
  }

  /// Removes reservations of this owner. Nothing to remove is no error.
  ///
  /// - Parameter known: the addresses that `addresses` or `reserve` returned, which saves reading all files; nil for every
  ///   address of the owner. What is another owner's by now stays.
  /// - Returns: the addresses.
  @discardableResult
  package func release(_ owner: Owner, known: [IPAddress]? = nil) throws(ReservationError) -> [IPAddress] {
    var owned: [IPAddress] = []
    if let known {
      let texts = [Self.content(owner), Array(owner.containerID.utf8)]
      for address in known {
        if let content = try read("\(address)"), texts.contains(Self.trimmed(content)) { owned.append(address) }
      }
    } else {
      owned = try scan(for: owner).owned
    }
    for address in owned where unlinkat(directory, "\(address)", 0) != 0 && errno != ENOENT {
      throw ReservationError(FileError(verb: "delete", path: "\(folder)/\(address)", errno: errno))
    }
    return owned
  }

  // MARK: files

  private struct Scan {
    var taken: Set<IPAddress> = []
    var owned: [IPAddress] = []
  }

  private func scan(for owner: Owner) throws(ReservationError) -> Scan {
    guard var names = FolderNames(folder) else {
      throw ReservationError(FileError(verb: "read", path: folder, errno: errno))
    }
    let wanted = Self.content(owner)
    let old = Array(owner.containerID.utf8)
    var scan = Scan()
    var withoutInterface: [IPAddress] = []
    let all = names.next(atMost: Self.maximumNames)
    guard all.count < Self.maximumNames else {
      throw ReservationError(FileError(verb: "read", path: folder, reason: "\(Self.maximumNames) files or more"))
    }
    for name in all {
      guard let address = IPAddress(name), address.description == name else { continue }
      guard let content = try read(name) else { continue }
      // A writer that was killed before it wrote; it held the lock, which is ours now.
      if content.isEmpty {
        unlinkat(directory, name, 0)
        continue
      }
      scan.taken.insert(address)
      let text = Self.trimmed(content)
      if text == wanted { scan.owned.append(address) } else if text == old { withoutInterface.append(address) }
    }
    if scan.owned.isEmpty { scan.owned = withoutInterface }
    scan.owned.sort()
    return scan
  }

  static func content(_ owner: Owner) -> [UInt8] { Array("\(owner.containerID)\r\n\(owner.interface)".utf8) }

  private static func trimmed(_ bytes: [UInt8]) -> [UInt8] {
    let isSpace = { (byte: UInt8) in byte == 0x20 || 0x09...0x0d ~= byte }
    guard let first = bytes.firstIndex(where: { !isSpace($0) }), let last = bytes.lastIndex(where: { !isSpace($0) })
    else { return [] }
    return Array(bytes[first...last])
  }

  /// The beginning of a file; nil if it is gone, or not a file.
  private func read(_ name: String) throws(ReservationError) -> [UInt8]? {
    let file = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard file >= 0 else {
      if [ENOENT, ELOOP, ENXIO].contains(errno) { return nil }
      throw ReservationError(FileError(verb: "open", path: "\(folder)/\(name)", errno: errno))
    }
    defer { close(file) }
    var code: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: Self.maximumSize) { buffer, count in
      // SAFETY: the kernel writes at most that many bytes into the buffer, and `count` says how many.
      let got = Glibc.read(file, buffer.baseAddress, Self.maximumSize)
      if got < 0 { code = errno }
      count = max(got, 0)
    }
    if code == EISDIR { return nil }
    guard code == 0 else { throw ReservationError(FileError(verb: "read", path: "\(folder)/\(name)", errno: code)) }
    return bytes
  }

  /// Makes a reservation, complete or not at all: the file gets its name after its content.
  ///
  /// - Returns: false if the name is taken.
  private func write(_ owner: Owner, to name: String) throws(ReservationError) -> Bool {
    let path = "\(folder)/\(name)"
    // O_TMPFILE, which Swift does not import. A file system without it gets the name first, as from host-local.
    var file = openat(directory, ".", 0o20000000 | O_DIRECTORY | O_WRONLY | O_CLOEXEC, 0o600)
    let isNamed = file < 0
    if isNamed { file = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600) }
    guard file >= 0 else {
      if errno == EEXIST { return false }
      throw ReservationError(FileError(verb: "create", path: path, errno: errno))
    }
    defer { close(file) }
    do throws(FileError) {
      try AtomicFile.writeAll(Self.content(owner), to: file, path: path)
      if !isNamed, linkat(AT_FDCWD, "/proc/self/fd/\(file)", directory, name, AT_SYMLINK_FOLLOW) != 0 {
        if errno == EEXIST { return false }
        throw FileError(verb: "create", path: path, errno: errno)
      }
    } catch {
      if isNamed { unlinkat(directory, name, 0) }
      throw ReservationError(error)
    }
    return true
  }

  private func last() -> IPAddress? {
    // Damaged or missing: the search begins at the start of the range.
    guard let bytes = try? read(Self.lastName) else { return nil }
    return IPAddress(String(decoding: Self.trimmed(bytes), as: UTF8.self))
  }

  /// On failure the reservation goes too.
  private func writeLast(_ address: IPAddress) throws(ReservationError) {
    let path = "\(folder)/\(Self.lastName)"
    do throws(FileError) {
      let file = openat(directory, Self.lastName, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
      guard file >= 0 else { throw FileError(verb: "write", path: path, errno: errno) }
      defer { close(file) }
      try AtomicFile.writeAll(Array("\(address)".utf8), to: file, path: path)
    } catch {
      unlinkat(directory, "\(address)", 0)
      throw ReservationError(error)
    }
  }

  /// Makes a folder and those above it.
  private static func make(_ folder: String) throws(ReservationError) {
    var path = ""
    for part in folder.split(separator: "/") {
      path += "/\(part)"
      guard mkdir(path, 0o755) == 0 || errno == EEXIST else {
        throw ReservationError(FileError(verb: "create folder", path: path, errno: errno))
      }
    }
  }
}

/// A reservation in use by an ADD, and by the programs that it has started: a shared lock on the reservation's file.
///
/// A program may end after an ADD that was killed, and make rules when DEL has already looked for them. So DEL waits.
package struct ReservationHold: ~Copyable {
  /// For a program to inherit.
  package let descriptor: Int32

  /// - Throws: `ReservationError`, `.failed` if the file is gone.
  package init(_ address: IPAddress, in folder: String) throws(ReservationError) {
    descriptor = open("\(folder)/\(address)", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard descriptor >= 0, flock(descriptor, LOCK_SH | LOCK_NB) == 0 else {
      let code = errno
      if descriptor >= 0 { close(descriptor) }
      throw ReservationError(FileError(verb: "lock", path: "\(folder)/\(address)", errno: code))
    }
  }

  deinit { close(descriptor) }

  /// Waits until nobody holds the reservation. One that does not exist is not held.
  ///
  /// - Throws: `ReservationError`, `.locked` after `patience`.
  package static func wait(
    for address: IPAddress, in folder: String, patience: Duration = .seconds(10)
  ) throws(ReservationError) {
    let file = open("\(folder)/\(address)", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard file >= 0 else { return }
    defer { close(file) }
    try ReservationStore.waitForLock(
      file, path: "\(folder)/\(address)", patience, for: "wait for the reservation of \(address)",
      holder: "an ADD of the same container, or an iptables that it started,")
  }
}

/// A reservation that could not be made, found or removed.
package typealias ReservationError = LayerError<ReservationFault>

package enum ReservationFault: LayerFault {
  /// The owner has an address of the range.
  case duplicate
  /// Every address of the range is reserved.
  case exhausted
  /// Another program works in the folder.
  case locked
  /// A file could not be read or written: the cause names it.
  case failed
}

extension ReservationError {
  fileprivate init(_ error: FileError) { self.init(.failed, "use the address reservations", cause: error) }
}
