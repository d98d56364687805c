// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCKube
import VPCModel
import VPCTransport

@Suite(.requiresKubeServer) struct WatchTests {
  /// Over HTTP/2 and HTTP/1.1: objects are created, changed, leave the selection, and are deleted.
  @Test(arguments: [[], ["--http1"]])
  func followsItsOwnObjectsAlone(_ options: [String]) async throws {
    let server = try await options.isEmpty ? KubeServer.start() : KubeServer.start("--http1")
    try server.put("pods", KubeServer.pod("a", node: "n1"), KubeServer.pod("x", node: "n2"))
    try await watching(KubePod.self, server.client(), .onNode("n1")) { log in
      #expect(await eventually { log.lines == ["listed 1"] })
      #expect(await eventually { (try? server.watches()) == 1 })
      try server.put("pods", KubeServer.pod("b", node: "n1"), KubeServer.pod("y", node: "n2"))
      try server.patch("pods", "a", ["metadata": ["annotations": ["k": "v"]]])
      try server.delete("pods", "b")
      try server.patch("pods", "a", ["spec": ["nodeName": "n2"]])
      #expect(await eventually { log.lines.last == "deleted a" })
      #expect(log.lines == ["listed 1", "changed b", "changed a", "deleted b", "deleted a"])
      #expect(try server.requests("list").count == 1)
    }
    #expect(await eventually { (try? server.watches()) == 0 })
  }

  /// A regular end, a broken one, half an event, invalid JSON: the watch resumes from the last version without a gap.
  @Test(
    arguments: [
      ["end": true], ["cut": true], ["garbage": true], ["cut": true, "after": 1], ["status": 500], ["status": 503],
    ] as [JSONObject])
  func goesOnFromTheLastVersion(_ fault: JSONObject) async throws {
    let server = try await KubeServer.start()
    try server.put("pods", KubeServer.pod("a", node: "n1"))
    var fields = fault
    fields["verb"] = "watch"
    try server.ask("fault", fields)
    try await watching(KubePod.self, server.client(), .onNode("n1")) { log in
      #expect(await eventually { log.lines.first == "listed 1" })
      for number in 0..<5 { try server.patch("pods", "a", ["metadata": ["annotations": ["k": .string("\(number)")]]]) }
      #expect(await eventually { log.object("a")?.metadata.annotations["k"] == "4" })
      #expect(try server.requests("list").count == 1)
      #expect(log.lines.filter { $0.hasPrefix("listed") }.count == 1)
    }
  }

  /// 410, as an event and as a status: the watch lists again, and objects that were deleted meanwhile are gone.
  @Test(arguments: [["expire": true], ["status": 410]] as [JSONObject])
  func tooOldVersionsAreListedAnew(_ fault: JSONObject) async throws {
    let server = try await KubeServer.start()
    try server.put("pods", KubeServer.pod("a", node: "n1"), KubeServer.pod("b", node: "n1"))
    var fields = fault
    fields["verb"] = "watch"
    try server.ask("fault", fields)
    try await watching(KubePod.self, server.client(), .onNode("n1")) { log in
      #expect(await eventually { log.lines.filter { $0.hasPrefix("listed") }.count == 2 })
      #expect(log.lines.filter { $0.hasPrefix("lost") } == [])
      let lists = try server.requests("list")
      #expect(lists.map { $0["query"]?["resourceVersion"] } == ["0", nil])
    }
  }

  /// The server is killed, its objects change while nobody is watching, it forgets its history, and it comes back.
  @Test func serverThatGoesAndComesBack() async throws {
    let server = try await KubeServer.start()
    try server.put("pods", KubeServer.pod("a", node: "n1"), KubeServer.pod("b", node: "n1"))
    try await watching(KubePod.self, server.client(), .onNode("n1")) { log in
      #expect(await eventually { (try? server.watches()) == 1 })
      try server.ask("down")
      #expect(await eventually { log.lines.last == "lost unreachable" })
      try server.delete("pods", "a")
      try server.put("pods", KubeServer.pod("c", node: "n1"))
      try server.ask("compact")
      try server.ask("up")
      #expect(await eventually { log.names == ["b", "c"] })
      #expect(log.lines == ["listed 2", "lost unreachable", "recovered", "listed 2"])
    }
  }

  @Test func bookmarksMoveTheVersionOn() async throws {
    let server = try await KubeServer.start("--history", "50")
    try server.ask("bookmarks", ["seconds": .number("0.001")])
    try server.put("pods", KubeServer.pod("a", node: "n1"), KubeServer.pod("other", node: "n2"))
    try await watching(KubePod.self, server.client(), .onNode("n1")) { log in
      #expect(await eventually { (try? server.watches()) == 1 })
      // Other objects change more often than the server remembers: without bookmarks, the next watch would be too old.
      for round in 0..<6 {
        for number in 0..<20 {
          try server.patch("pods", "other", ["metadata": ["annotations": ["k": .string("\(round).\(number)")]]])
        }
        #expect(await eventually { (try? server.watches()) == 1 })
      }
      let before = try server.requests("watch").count
      try server.ask("end_watches")
      #expect(await eventually { ((try? server.requests("watch").count) ?? 0) > before })
      try server.patch("pods", "a", ["metadata": ["annotations": ["k": "v"]]])
      #expect(await eventually { log.object("a")?.metadata.annotations["k"] == "v" })
      #expect(try server.requests("list").count == 1)
    }
  }

  /// An object without a name, one with a non-numeric capacity, an event that is too long: reported and skipped.
  @Test func unreadableObjectsArePassedOver() async throws {
    let server = try await KubeServer.start()
    var odd = KubeServer.node("odd").object ?? [:]
    odd["status"] = ["capacity": ["pods": "many"]]
    try server.put("nodes", KubeServer.node("good"), .object(odd))
    try server.ask("fault", ["verb": "watch", "big": 5_000_000])
    try await watching(KubeNode.self, server.client()) { log in
      #expect(await eventually { log.lines.contains("listed 1") })
      #expect(log.lines.first?.contains("odd: status.capacity.pods is \"many\"") == true)
      try server.patch("nodes", "good", ["status": ["capacity": ["pods": "3"]]])
      try server.patch("nodes", "odd", ["status": ["capacity": ["pods": "5"]]])
      #expect(await eventually { log.object("odd")?.podCapacity == 5 })
      #expect(log.lines.contains { $0.hasPrefix("unreadable an event of more than") })
    }
  }

  /// A thousand changes a second for three seconds while the reader is slow: pausing the stream bounds the memory.
  @Test func slowReaderHoldsTheServerUp() async throws {
    // The server remembers more events than it sends, so that no reader is too slow to resume.
    let server = try await KubeServer.start("--history", "10000")
    try server.put("pods", KubeServer.pod("a", node: "n1"))
    try await watching(KubePod.self, server.client(), .onNode("n1")) { log in
      #expect(await eventually { (try? server.watches()) == 1 })
      try server.ask("flood", ["plural": "pods", "name": "a", "rate": 1000, "seconds": 3])
      let made = try server.ask("flooded").int ?? 0
      #expect(made > 1500)
      #expect(await eventually { log.object("a")?.metadata.labels["flood"] == "\(made)" })
      #expect(log.changes == made)
    }
  }
}
