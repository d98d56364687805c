// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing
import VPCModel
import VPCSystem

@testable import VPCLinux

/// The files of host-local, byte for byte, and host-local itself in the same folder.
@Suite struct ReservationStoreTests {
  struct NoStore: Error {}

  let folder = TemporaryFolder()
  var path: String { folder.path("data/aws-cni") }

  static func ranges(_ subnet: String = "169.254.172.0/22") throws -> [AddressRange] {
    let subnet = try #require(IPPrefix(subnet))
    return [try #require(AddressRange(subnet: subnet))]
  }

  func with<Value>(_ body: (borrowing ReservationStore) throws -> Value) throws -> Value {
    guard let store = try ReservationStore.open(path, creates: true) else {
      throw NoStore()
    }
    return try body(store)
  }

  /// Whether there is a folder to open.
  static func opens(
    _ path: String, creates: Bool, patience: Duration = .seconds(10)
  ) throws(ReservationError) -> Bool {
    guard let store = try ReservationStore.open(path, creates: creates, patience: patience) else { return false }
    return try store.addresses(of: .init(containerID: "x", interface: "x")).isEmpty
  }

  @discardableResult
  func reserve(_ container: String, _ subnet: String = "169.254.172.0/22") throws -> String {
    try with { store in
      "\(try store.reserve(for: .init(containerID: container, interface: "eth0"), from: Self.ranges(subnet)).address)"
    }
  }

  func release(_ container: String) throws -> [String] {
    try with { try $0.release(.init(containerID: container, interface: "eth0")).map(\.description) }
  }

  func mode(_ name: String) -> mode_t {
    var status = stat()
    return stat("\(path)/\(name)", &status) == 0 ? status.st_mode & 0o7777 : 0
  }

  func names() throws -> [String] {
    try CommandResult.run(["ls", path]).get().split(separator: "\n").map(String.init)
  }

  @Test func theFilesAreHostLocals() throws {
    #expect(try reserve("abc") == "169.254.172.2")
    #expect(try folder.text("data/aws-cni/169.254.172.2") == "abc\r\neth0")
    #expect(try folder.text("data/aws-cni/last_reserved_ip.0") == "169.254.172.2")
    #expect(try folder.text("data/aws-cni/lock").isEmpty)
    #expect(try names() == ["169.254.172.2", "last_reserved_ip.0", "lock"])
    #expect(mode("169.254.172.2") == 0o600 && mode("last_reserved_ip.0") == 0o600)
    #expect(mode(".") == 0o755)
    #expect(try reserve("def", "fd00::ac:0/118") == "fd00::ac:2")
    #expect(try folder.text("data/aws-cni/fd00::ac:2") == "def\r\neth0")
  }

  @Test func anAddressIsGivenAgainLast() throws {
    #expect(try reserve("a", "10.0.0.0/29") == "10.0.0.2")
    #expect(try release("a") == ["10.0.0.2"])
    #expect(try (1...5).map { try reserve("b\($0)", "10.0.0.0/29") }.last == "10.0.0.2")
    let error = #expect(throws: ReservationError.self) { try reserve("c", "10.0.0.0/29") }
    #expect(error?.code == .exhausted)
    #expect("\(try #require(error))".hasPrefix("no IP addresses available in range set: 10.0.0.1-10.0.0.6: all 5"))
    #expect(try names().count == 7, "the failed one left nothing")
    #expect(try release("b3") == ["10.0.0.5"])
    #expect(try reserve("c", "10.0.0.0/29") == "10.0.0.5")
  }

  @Test func aContainerHasOneAddress() throws {
    try reserve("abc")
    let error = #expect(throws: ReservationError.self) { try reserve("abc") }
    #expect(error?.code == .duplicate)
    #expect("\(try #require(error))".contains("169.254.172.2 has been allocated to abc, duplicate allocation"))
    #expect(try reserve("ab") == "169.254.172.3", "the id is compared as a whole")
    #expect(try release("abc") == ["169.254.172.2"])
    #expect(try release("abc").isEmpty && release("never").isEmpty)
  }

  @Test(arguments: [
    ("abc\r\neth0", true), ("abc\r\neth0\n", true), ("abc", true), (" abc \n", true), ("abc\neth0", false),
    ("abc\r\neth1", false), ("abcd", false), ("ab", false),
  ])
  func everyFileOfTheContainerIsReleased(content: String, isOurs: Bool) throws {
    try with { _ in }
    try folder.write("data/aws-cni/169.254.172.9", content)
    try folder.write("data/aws-cni/note", content)
    #expect(try release("abc") == (isOurs ? ["169.254.172.9"] : []))
    #expect(try names().contains("note"))
  }

  @Test func aKnownReservationIsReleasedIfItIsStillTheOwners() throws {
    let mine = try #require(IPAddress(try reserve("abc")))
    let others = try #require(IPAddress(try reserve("def")))
    let free = try #require(IPAddress("169.254.172.77"))
    let owner = ReservationStore.Owner(containerID: "abc", interface: "eth0")
    #expect(try with { try $0.release(owner, known: [mine, others, free]) } == [mine])
    #expect(try with { try $0.release(owner, known: [mine]) }.isEmpty)
    #expect(try names() == ["\(others)", "last_reserved_ip.0", "lock"])
  }

  @Test func damageInTheFolderIsSurvived() throws {
    try with { _ in }
    // Of a host-local that was killed between two steps.
    try folder.write("data/aws-cni/169.254.172.2", "")
    try folder.write("data/aws-cni/last_reserved_ip.0", "")
    _ = try CommandResult.run(["mkdir", "\(path)/169.254.172.3"]).get()
    _ = try CommandResult.run(["ln", "-s", "/etc/passwd", "\(path)/169.254.172.4"]).get()
    try folder.write("data/aws-cni/169.254.172.5", String(repeating: "x", count: 100_000))
    #expect(try reserve("abc") == "169.254.172.2")
    #expect(try reserve("def") == "169.254.172.6", "names that are taken stay")
  }

  @Test func aMissingFolderIsNotMade() throws {
    #expect(try !Self.opens(path, creates: false))
    let error = #expect(throws: ReservationError.self) {
      try Self.opens("/proc/no/such", creates: true)
    }
    #expect(error?.code == .failed)
  }

  @Test func theLockIsWaitedForAndNamed() throws {
    try with { _ in
      let error = #expect(throws: ReservationError.self) {
        try Self.opens(path, creates: false, patience: .milliseconds(20))
      }
      #expect(error?.code == .locked)
      #expect(error?.detail?.contains("\(path)/lock") == true)
    }
    try reserve("abc")
  }

  @Test func aReservationIsHeldByProgramsToo() throws {
    let address = try #require(IPAddress(try reserve("abc")))
    func wait() throws { try ReservationHold.wait(for: address, in: path, patience: .milliseconds(20)) }
    try wait()
    let ready = folder.path("ready")
    do {
      let hold = try ReservationHold(address, in: path)
      var command = Command("sh", ["-c", "(exec >/dev/null 2>&1; : >\(ready); read _ <\(folder.path("end"))) &"])
      command.heldDescriptor = hold.descriptor
      _ = try CommandResult.run(["mkfifo", folder.path("end")]).get()
      #expect(try SpawnedCommand().run(command).succeeded)
      #expect(throws: ReservationError.self) { try wait() }
    }
    // This process has let go; the one that the program left behind has not.
    let error = #expect(throws: ReservationError.self) { try wait() }
    #expect(error?.code == .locked)
    try folder.write("end", "\n")
    try ReservationHold.wait(for: address, in: path)
    #expect(throws: Never.self) { _ = try release("abc") }
    try wait()
  }

  @Test func manyAtOnceGetDifferentAddresses() async throws {
    let path = path
    let all = try await withThrowingTaskGroup(of: String.self) { group in
      for number in 0..<40 {
        group.addTask {
          guard let store = try ReservationStore.open(path, creates: true) else { return "" }
          return try
            "\(store.reserve(for: .init(containerID: "c\(number)", interface: "eth0"), from: Self.ranges()).address)"
        }
      }
      return try await group.reduce(into: Set<String>()) { $0.insert($1) }
    }
    #expect(all.count == 40 && !all.contains(""))
  }

  static let hostLocal = "/usr/lib/cni/host-local"

  func callHostLocal(_ command: String, _ container: String) throws -> CommandResult {
    let config = """
      {"cniVersion":"0.4.0","name":"aws-cni","ipam":{"type":"host-local","dataDir":"\(folder.path("data"))",
       "ranges":[[{"subnet":"169.254.172.0/22"}]],"routes":[{"dst":"0.0.0.0/0"}]}}
      """
    return try CommandResult.run(
      [
        "env", "CNI_COMMAND=\(command)", "CNI_CONTAINERID=\(container)", "CNI_IFNAME=eth0",
        "CNI_NETNS=/proc/self/ns/net",
        "CNI_PATH=/usr/lib/cni", Self.hostLocal,
      ], input: config)
  }

  @Test(.enabled(if: TestNeeds.mustRun || access(hostLocal, X_OK) == 0, "needs containernetworking-plugins"))
  func hostLocalAndThisShareTheFolder() throws {
    #expect(try callHostLocal("ADD", "theirs").get().contains("169.254.172.2/22"))
    let theirs = try folder.text("data/aws-cni/169.254.172.2")
    let lockMode = mode("lock")
    #expect(try reserve("ours") == "169.254.172.3", "after theirs")
    #expect(try folder.text("data/aws-cni/169.254.172.3") == theirs.replacing("theirs", with: "ours"))
    #expect(try callHostLocal("ADD", "third").get().contains("169.254.172.4/22"), "after ours")
    #expect(try callHostLocal("ADD", "ours").output.contains("duplicate allocation is not allowed"))
    #expect(throws: ReservationError.self) { try reserve("theirs") }
    #expect(try release("theirs") == ["169.254.172.2"])
    #expect(try callHostLocal("DEL", "ours").status == 0)
    #expect(try names() == ["169.254.172.4", "last_reserved_ip.0", "lock"])
    // Made by this program in a folder of its own, the lock looks the same.
    _ = try CommandResult.run(["rm", "-r", path]).get()
    try reserve("ours")
    #expect(mode("lock") == lockMode)
  }
}
