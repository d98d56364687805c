// SPDX-License-Identifier: Apache-2.0
//
// fuzz PARSER [options and corpus folders of libFuzzer]; `fuzz` alone lists the parsers.

import CFuzzer
import Glibc

guard CommandLine.argc > 1, let target = FuzzTarget.all.first(where: { $0.name == CommandLine.arguments[1] }) else {
  print(FuzzTarget.all.map(\.name).joined(separator: "\n"))
  exit(CommandLine.argc > 1 ? 2 : 0)
}
FuzzTarget.chosen = target

// libFuzzer starts copies of itself with the same arguments and reads those that it knows. The parser's name stays in
// place as libFuzzer's argument 0.
var count = CommandLine.argc - 1
var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv.advanced(by: 1)
exit(
  LLVMFuzzerRunDriver(&count, &arguments) { data, size in
    FuzzTarget.chosen?.run(UnsafeRawBufferPointer(start: data, count: size))
    return 0
  })
