// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging
import Testing
import VPCLinux
import VPCModel

@testable import AgentMode

/// A folder that is removed when the test ends.
final class TemporaryFolder: Sendable {
  let path: String

  init() throws {
    var template = Array("/tmp/vpc-cni-agent.XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit { remove() }

  func make() { mkdir(path, 0o755) }

  /// Removes the folder and the files directly in it.
  func remove() {
    if let folder = opendir(path) {
      while let entry = readdir(folder) {
        // SAFETY: d_name is a C string that lives until the next readdir; it is copied here.
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        unlink("\(path)/\(name)")
      }
      closedir(folder)
    }
    rmdir(path)
  }

  var names: Set<String> {
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var found: Set<String> = []
    while let entry = readdir(folder) {
      // SAFETY: d_name is a C string that lives until the next readdir; it is copied here.
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { found.insert(name) }
    }
    return found
  }
}

/// A pool on a fake EC2, with its checkpoint in a folder of its own.
struct PoolFixture {
  let folder: TemporaryFolder
  let file: CheckpointFile
  let enis: FakeENIs
  let pool: AddressPool

  /// - Parameter change: changes the settings, which otherwise fit an instance of three ENIs with four addresses each.
  init(
    _ enis: FakeENIs, metrics: AgentMetrics? = nil, change: (inout PoolSettings) -> Void = { _ in }
  ) throws {
    folder = try TemporaryFolder()
    file = CheckpointFile(path: "\(folder.path)/ipam.json")
    self.enis = enis
    var settings = PoolSettings(
      instanceENILimit: enis.eniLimit, slotsPerENI: enis.slots, warmENITarget: 0, cooldown: .zero)
    settings.timings.backoff = .milliseconds(1) ... .milliseconds(5)
    change(&settings)
    pool = try AddressPool(
      pool: Pool(settings: settings, seed: 7), operations: enis, checkpoint: file,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, metrics: metrics)
  }

  /// Starts with what the fake EC2 has.
  func started(_ checkpoint: Checkpoint = Checkpoint()) async -> PoolFixture {
    await pool.start(PoolStart(enis: enis.observations, checkpoint: checkpoint))
    return self
  }

  static func key(_ name: String) -> AttachmentKey {
    AttachmentKey(networkName: "aws-cni", containerID: name, ifName: "eth0")
  }

  func add(_ name: String, timeout: Duration = .seconds(20)) async -> AddAnswer {
    await pool.add(
      key: Self.key(name), pod: PodName(namespace: "default", name: name),
      deadline: PoolClock.now().instant + timeout)
  }

  func delete(_ name: String) async -> DeleteAnswer { await pool.delete(Self.key(name)) }

  /// The current contents of the checkpoint file, by attachment.
  var written: [AttachmentKey: IPAddress] {
    Dictionary(file.read().checkpoint.allocations.map { ($0.key, $0.address) }) { _, last in last }
  }
}

extension AddAnswer {
  var address: IPAddress? { if case .assigned(let assignment) = self { assignment.address } else { nil } }
  var cause: FailureCause? { if case .failed(let cause) = self { cause } else { nil } }
}

extension DeleteAnswer {
  var address: IPAddress? { if case .released(let assignment) = self { assignment.address } else { nil } }
}

/// Checks repeatedly until the condition holds, for one minute at most.
func eventually(_ what: Comment, _ look: () async -> Bool) async throws {
  let deadline = ContinuousClock.now.advanced(by: .seconds(60))
  while await !look() {
    try #require(ContinuousClock.now < deadline, what)
    try await Task.sleep(for: .milliseconds(1))  // pause between looks
  }
}
