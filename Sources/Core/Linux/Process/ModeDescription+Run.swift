// SPDX-License-Identifier: Apache-2.0

package import VPCModel

extension ModeDescription {
  /// Reads the arguments of a mode that people run, and runs it; `--help` is answered here.
  ///
  /// - Returns: what `body` returns; 0 for `--help`; 64 (EX_USAGE of sysexits.h) for arguments that are refused, by the
  ///   syntax or by `body`, which standard error then tells.
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
