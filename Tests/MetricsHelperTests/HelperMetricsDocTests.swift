// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Testing
import VPCCloud
import VPCObserve

@testable import MetricsHelperMode

/// docs/metrics.md lists the same sums and series of the helper as the code, and no others.
@Suite struct HelperMetricsDocTests {
  /// The cells of the rows of the table that begins with `head`, without backticks.
  private func rows(_ head: String) throws -> [[String]] {
    let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let text = try String(contentsOfFile: "\(root)/docs/metrics.md", encoding: .utf8)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let rows = lines.drop { !$0.hasPrefix(head) }.dropFirst(2).prefix { $0.hasPrefix("|") }
    return try rows.map { row in
      let cells = row.split(separator: "|", omittingEmptySubsequences: false).dropFirst().dropLast()
        .map { $0.filter { $0 != "`" }.split(separator: " ").joined(separator: " ") }
      try #require(cells.count == 4, "four cells: \(row)")
      return cells
    }
  }

  @Test func everySumStandsThereAsInTheCode() throws {
    let wanted = ClusterMetric.all.map { metric in
      let sum =
        switch metric.kind {
        case .gauge: "of the values"
        case .counter: "of the increments"
        case .latency: "the highest 0.99 quantile"
        }
      return [metric.series, metric.name, sum, metric.unit.rawValue]
    }
    #expect(try rows("| agents' series |") == wanted)
  }

  @Test func everySeriesStandsThereAsInTheCode() throws {
    let found = try rows("| helper series |")
    let wanted = HelperMetrics().registry.descriptions
    #expect(found.map { Array($0[..<3]) } == wanted.map { [$0.name, $0.type, $0.labels.joined(separator: ", ")] })
    #expect(found.allSatisfy { !$0[3].isEmpty })
  }

  @Test func everyCauseIsNamed() throws {
    let meaning = try #require(
      try rows("| helper series |").first { $0[0] == "cni_metrics_helper_agent_failures_total" }?[3])
    for cause in AgentFault.allCases { #expect(meaning.contains(cause.rawValue)) }
  }

  /// An unknown sum has no series: neither 0 nor its last known value.
  @Test func whatIsNotKnownIsNoSeries() {
    let metrics = HelperMetrics()
    func names() -> Set<Substring> {
      Set(
        metrics.text().split(separator: "\n").filter { !$0.hasPrefix("#") }.compactMap {
          $0.split(separator: " ").first
        })
    }
    #expect(!names().contains("awscni_eni_max"))
    var result = ScrapeRound.Result()
    result.values = AgentReading(["eniMaxAvailable": 3, "addReqCount": 2, "awsAPILatency": 5]).values
    result.answered = 1
    metrics.show(result, at: 100)
    let known: Set<Substring> = [
      "awscni_eni_max", "cni_metrics_helper_sum{metric=\"eniMaxAvailable\"}",
      "cni_metrics_helper_increments_total{metric=\"addReqCount\"}", "cni_metrics_helper_aws_api_latency_p99_ms",
      "cni_metrics_helper_last_round_timestamp_seconds",
    ]
    #expect(known.isSubset(of: names()) && !names().contains("awscni_ip_max"))
    metrics.show(ScrapeRound.Result(), at: 200)
    #expect(
      known.intersection(names()) == [
        "cni_metrics_helper_increments_total{metric=\"addReqCount\"}",
        "cni_metrics_helper_last_round_timestamp_seconds",
      ])
    #expect(metrics.text().contains("cni_metrics_helper_last_round_timestamp_seconds 100\n"))
  }
}
