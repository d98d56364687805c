// SPDX-License-Identifier: Apache-2.0
//
// The CNI plugin `aws-cni`: one process for each pod event. The flow: `PluginMode.run` reads environment and standard
// input, `PluginProcess` parses them into a `CNIRequest` and a `NetworkConfiguration`, `PluginCall` runs the command
// with the agent (`AgentPort`) and the kernel (`KernelPort`).
//
// The process has one thread, no event loop and no task: it is on the path of every pod's start.

import VPCModel

/// The mode that runtimes call as `aws-cni`.
package enum PluginMode {
  /// Serves one call of the protocol: reads the `CNI_*` variables and standard input, writes the result or the error as
  /// JSON to standard output. A log line goes to the file that the configuration names, or to standard error.
  ///
  /// - Returns: the exit status, 0 or 1.
  /// Source: CNI specification 1.1.0.
  package static func run() -> Int32 {
    let process = PluginProcess(
      environment: CNIParameter.environment(),
      input: { () throws(CNIError) in try StandardStreams.readInput(timeout: Patience.input) },
      agent: SocketAgent(), policy: SocketPolicyAgent(), kernel: HostKernel(),
      checkpoints: { try CheckpointFiles.read() }, log: PluginLog.make, now: { ContinuousClock.now })
    let answer = process.run()
    // A runtime that does not read the answer notices it at its end of the pipe.
    StandardStreams.writeOutput(answer.output)
    return answer.status
  }
}
