// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCObserve
import VPCRPC
import VPCSystem

@testable import AgentMode

/// How the agent divides its file descriptors; `test_few_descriptors` fills them in a real agent.
@Suite struct DescriptorBudgetTests {
  @Test(arguments: [(128, 16, 8), (160, 32, 16), (300, 102, 51), (1_024, 512, 64), (1_048_576, 512, 64)])
  func clientsGetWhatTheAgentDoesNotNeed(_ limit: Int, _ rpc: Int, _ http: Int) throws {
    let budget = try #require(DescriptorBudget(limit: limit))
    #expect((budget.rpcConnections, budget.httpConnections) == (rpc, http))
    #expect(rpc + 2 * http + DescriptorBudget.reserve <= limit)
    #expect(budget.rpcLimits.connections == rpc && budget.httpLimits.connections == http)
  }

  @Test(arguments: [0, 24, 127])
  func tooFewAreRefused(_ limit: Int) {
    #expect(DescriptorBudget(limit: limit) == nil)
    #expect(DescriptorBudget.refusal(limit).contains("may open \(limit) files, needs at least 128"))
  }

  @Test func theLimitOfThisProcessIsKnown() {
    #expect(OpenFileLimit.current > 0)
    #expect(OpenFileLimit.raise(to: 1) == OpenFileLimit.current, "never lowered")
  }
}
