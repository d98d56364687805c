// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import HealthMode
@testable import VPCObserve
@testable import VPCRPC

@Suite struct HealthModeTests {
  private func run(_ arguments: String...) async throws -> (status: Int32, messages: [String]) {
    let folder = TemporaryFolder()
    let log = folder.path("log")
    let status = try await onThread { HealthMode.run(arguments: arguments, log: LineWriter(.file(path: log))) }
    let text = (try? folder.text("log")) ?? ""
    let messages = text.split(separator: "\n").compactMap {
      (try? foreignJSON($0) as? [String: Any])?["msg"] as? String
    }
    return (status, messages)
  }

  @Test func statusesAreTheReferences() async throws {
    let server = try await TestServer()
    let address = "unix://" + server.folder.socket
    #expect(try await run("-addr=\(address)", "-rpc-timeout=1m") == (0, ["status: SERVING"]))
    #expect(try await run("--addr", address, "-service", "other", "-rpc-timeout=1m").status == 3)
    server.health.set(.notServing)
    let down = try await run("-addr", address, "-connect-timeout=1m", "-rpc-timeout=1m")
    #expect(down == (4, ["service unhealthy (responded with \"NOT_SERVING\")"]))
    let verbose = try await run("-addr", address, "-v")
    #expect(verbose.messages.contains("> remoteUrl=\(address) conn-timeout=1s rpc-timeout=1s"))
    await server.server.shutdown()
  }

  @Test func anAbsentServerIsWaitedForAndTold() async throws {
    let start = ContinuousClock.now
    let result = try await run("-addr=unix:///tmp/none.sock", "-connect-timeout=300ms")
    #expect(result == (2, ["timeout: failed to connect service \"unix:///tmp/none.sock\" within 300ms"]))
    #expect(start.duration(to: .now) >= .milliseconds(300))
  }

  @Test func aServerWithoutTheServiceIsTold() async throws {
    let folder = TemporaryFolder()
    let server = try await RPCServer.start(path: folder.socket, methods: RPCMethodTable())
    let result = try await run("-addr=unix:\(folder.socket)", "-connect-timeout=1m", "-rpc-timeout=1m")
    #expect(result.status == 3)
    #expect(
      result.messages == ["error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"])
    await server.shutdown()
  }

  @Test(
    arguments: [
      ([], "error: --addr not specified"), (["-addr"], "flag needs an argument: -addr"),
      (["-addr=x:1", "-rpc-timeout=0s"], "error: --rpc-timeout must be greater than zero (specified: 0s)"),
      (["-addr=x:1", "-connect-timeout=-1s"], "error: --connect-timeout must be greater than zero (specified: -1s)"),
      (["-addr=x:1", "-rpc-timeout=1"], "invalid value \"1\" for flag -rpc-timeout: parse error"),
      (["-nothing"], "flag provided but not defined: -nothing"),
      (["-v=maybe"], "invalid boolean value \"maybe\" for -v"),
      (["-addr=nowhere"], "error: --addr is no host:port and no unix:///path: nowhere"),
    ] as [([String], String)])
  func wrongArgumentsAreOne(_ arguments: [String], _ text: String) async throws {
    let folder = TemporaryFolder()
    let log = folder.path("log")
    #expect(HealthMode.run(arguments: arguments, log: LineWriter(.file(path: log))) == 1)
    let written = try folder.text("log")
    #expect(written.replacing("\\\"", with: "\"").contains("\"msg\":\"\(text)\""))
  }

  @Test(
    arguments: [
      ("1s", Duration.seconds(1), "1s"), ("300ms", .milliseconds(300), "300ms"), ("1m30s", .seconds(90), "1m30s"),
      ("1.5h", .seconds(5_400), "1h30m0s"), ("2h45m", .seconds(9_900), "2h45m0s"), (".5s", .milliseconds(500), "500ms"),
      ("1.s", .seconds(1), "1s"), ("10us", .microseconds(10), "10µs"), ("7ns", .nanoseconds(7), "7ns"),
      ("-1500ms", .milliseconds(-1_500), "-1.5s"), ("0", .zero, "0s"), ("1500µs", .microseconds(1_500), "1.5ms"),
    ] as [(String, Duration, String)])
  func durationsAreGos(_ text: String, _ duration: Duration, _ written: String) {
    #expect(GoDuration.parse(text) == duration)
    #expect(GoDuration.text(duration) == written)
  }

  @Test(arguments: ["", "1", "s", ".s", "1d", "1s2", "-", "1..5s", "9e9s", "99999999999999999h"])
  func otherTextsAreNoDurations(_ text: String) {
    #expect(GoDuration.parse(text) == nil)
  }
}
