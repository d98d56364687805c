// SPDX-License-Identifier: Apache-2.0
//
// Continue reading at Tests/Benchmarks/Burst/Simulation/BurstRun.swift.

internal import BurstSimulation
internal import Glibc
internal import VPCModel

let options = Options(Array(CommandLine.arguments.dropFirst()))
var scenarios = Scenario.standard(nodes: options.nodes, seed: options.seed)
if let name = options.name {
  scenarios.removeAll { $0.name != name }
  if scenarios.isEmpty { Options.refuse("there is no case \(name)") }
}
var comparisons: [JSONValue] = []
var isSound = true
for var scenario in scenarios {
  scenario.patience = .seconds(options.wait)
  scenario.sdkTokens = options.hasTokens
  scenario.retriesTail = options.hasTail
  let comparison = Comparison(scenario)
  isSound = isSound && comparison.ours.violations.isEmpty && comparison.reference.violations.isEmpty
  if options.isJSON { comparisons.append(comparison.json) } else { print(comparison.text + "\n") }
}
if options.isJSON { print(JSONValue.array(comparisons).indented(by: 2)) }
// Violations: an address that two pods have, or one that is on no ENI of its node.
if !isSound { exit(1) }
