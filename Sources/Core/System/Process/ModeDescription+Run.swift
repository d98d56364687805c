// SPDX-License-Identifier: Apache-2.0

package import VPCModel

extension ModeDescription {
  /// Parses the arguments of a command-line mode, and runs it; handles `--help`.
  ///
  /// - Returns: what `body` returns; 0 for `--help`; 64 (EX_USAGE of sysexits.h) for invalid arguments, reported on
  ///   standard error.
  package func run(
    _ arguments: [String], _ syntax: CommandSyntax,
    _ body: (CommandArguments) throws(CommandSyntax.Refusal) -> Int32
  ) -> Int32 {
    do throws(CommandSyntax.Refusal) {
      let given = try syntax.read(arguments)
      guard !given.has("help") else {
        Terminal.say(help)
        return 0
      }
      return try body(given)
    } catch {
      Terminal.complain("\(error)\n")
      return 64
    }
  }
}
