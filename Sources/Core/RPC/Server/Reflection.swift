// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VPCModel

/// gRPC server reflection: tells clients such as grpcurl the services and message types.
///
/// The same messages under two names, v1 and v1alpha. They have a dozen fields, coded by hand; their content comes from
/// the .proto files (`FileDescriptors`).
///
/// Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md, Protos/reflection.proto
struct Reflection: Sendable {
  private struct File {
    let name: String
    let imports: [String]
    let bytes: [UInt8]
  }

  private let services: [String]
  private let files: [String: File]
  /// The file of each service, method, message and enum, by full names.
  private let symbols: [String: String]

  /// - Parameter services: what the server serves, by full names.
  init(services: [String], descriptors: [[UInt8]]) {
    self.services = services
    var files: [String: File] = [:]
    var symbols: [String: String] = [:]
    for bytes in descriptors {
      guard let fields = ProtobufFields(bytes) else { continue }
      let name = fields.text(FileField.name)
      let imports = fields.all(FileField.dependency).map { String(decoding: $0, as: UTF8.self) }
      files[name] = File(name: name, imports: imports, bytes: bytes)
      for symbol in Reflection.symbols(of: fields) { symbols[symbol] = name }
    }
    self.files = files
    self.symbols = symbols
  }

  /// - Throws: INVALID_ARGUMENT for what is no request.
  func answer(_ request: [UInt8]) throws(RPCStatus) -> [UInt8] {
    guard let fields = ProtobufFields(request), let question = fields.fields.last(where: { $0.number >= 3 }),
      case .bytes(let text) = question.value
    else { throw RPCStatus(.invalidArgument, "not a reflection request") }
    let name = String(decoding: text.prefix(Reflection.nameLimit), as: UTF8.self)
    let answer: [UInt8]
    switch question.number {
    case RequestField.fileByName:
      answer = files[name].map(files(with:)) ?? Reflection.notFound("file \(name)")
    case RequestField.fileOfSymbol:
      let file = symbols[name].flatMap { files[$0] }
      answer = file.map(files(with:)) ?? Reflection.notFound("symbol \(name)")
    case RequestField.fileOfExtension:
      // proto3: nothing is extended.
      answer = Reflection.notFound("extension of \(ProtobufFields(text)?.text(1).prefix(Reflection.nameLimit) ?? "")")
    case RequestField.extensionNumbers:
      answer =
        symbols[name] == nil
        ? Reflection.notFound("type \(name)")
        : ProtobufFields.encode(ResponseField.extensionNumbers, ProtobufFields.encode(1, name.utf8))
    case RequestField.listServices:
      let list = services.flatMap { ProtobufFields.encode(1, ProtobufFields.encode(1, $0.utf8)) }
      answer = ProtobufFields.encode(ResponseField.services, list)
    default:
      throw RPCStatus(.invalidArgument, "not a reflection request that is known here")
    }
    return ProtobufFields.encode(ResponseField.host, fields.all(RequestField.host).last ?? [])
      + ProtobufFields.encode(ResponseField.request, request) + answer
  }

  /// A file with its imports: otherwise a client would request each separately.
  private func files(with file: File) -> [UInt8] {
    var (wanted, seen) = ([file], Set([file.name]))
    var next = 0
    while next < wanted.count {
      for name in wanted[next].imports where seen.insert(name).inserted { wanted += files[name].map { [$0] } ?? [] }
      next += 1
    }
    return ProtobufFields.encode(ResponseField.files, wanted.flatMap { ProtobufFields.encode(1, $0.bytes) })
  }

  private static func notFound(_ what: String) -> [UInt8] {
    ProtobufFields.encode(
      ResponseField.error,
      ProtobufFields.encode(1, UInt64(RPCCode.notFound.rawValue)) + ProtobufFields.encode(2, "\(what) not found".utf8))
  }

  /// Full names of what a file declares.
  private static func symbols(of file: ProtobufFields) -> [String] {
    let package = file.text(FileField.package)
    let messages = file.all(FileField.message).flatMap { symbols(ofMessage: $0, in: package) }
    let enums = file.all(FileField.enumeration).map { full(package, ProtobufFields($0)?.text(1) ?? "") }
    let services = file.all(FileField.service).flatMap { bytes -> [String] in
      guard let service = ProtobufFields(bytes) else { return [] }
      let name = full(package, service.text(1))
      return [name] + service.all(2).map { full(name, ProtobufFields($0)?.text(1) ?? "") }
    }
    return messages + enums + services
  }

  private static func symbols(ofMessage bytes: ArraySlice<UInt8>, in scope: String) -> [String] {
    guard let message = ProtobufFields(bytes) else { return [] }
    let name = full(scope, message.text(1))
    return [name] + message.all(3).flatMap { symbols(ofMessage: $0, in: name) }
      + message.all(4).map { full(name, ProtobufFields($0)?.text(1) ?? "") }
  }

  private static func full(_ scope: String, _ name: String) -> String { scope.isEmpty ? name : "\(scope).\(name)" }

  /// The maximum length of a name.
  private static let nameLimit = 512

  // Numbers of fields. Source: google/protobuf/descriptor.proto, Protos/reflection.proto.

  private enum FileField {
    static let name = 1
    static let package = 2
    static let dependency = 3
    static let message = 4
    static let enumeration = 5
    static let service = 6
  }

  private enum RequestField {
    static let host = 1
    static let fileByName = 3
    static let fileOfSymbol = 4
    static let fileOfExtension = 5
    static let extensionNumbers = 6
    static let listServices = 7
  }

  private enum ResponseField {
    static let host = 1
    static let request = 2
    static let files = 4
    static let extensionNumbers = 5
    static let services = 6
    static let error = 7
  }
}

extension Reflection {
  /// The descriptors of a server's services in this release.
  init(services: [String]) {
    self.init(services: services, descriptors: FileDescriptors.all.map(Reflection.bytes))
  }

  /// Pairs of hexadecimal digits.
  private static func bytes(_ digits: String) -> [UInt8] {
    let values = digits.utf8.compactMap(HexDigits.value)
    return stride(from: 0, to: values.count - 1, by: 2).map { values[$0] << 4 | values[$0 + 1] }
  }
}

/// Created on first use, which most agents never see.
private final class LazyReflection: Sendable {
  private let services: [String]
  private let made = Mutex<Reflection?>(nil)

  init(services: [String]) { self.services = services }

  func answer(_ request: [UInt8]) throws(RPCStatus) -> [UInt8] {
    let reflection = made.withLock { made in
      let reflection = made ?? Reflection(services: services)
      made = reflection
      return reflection
    }
    return try reflection.answer(request)
  }
}

extension RPCMethodTable {
  /// Server reflection for all methods in the table: add it last.
  package mutating func addReflection() {
    let names = serviceNames + [RPCMethod.reflection.service, RPCMethod.reflectionAlpha.service]
    let reflection = LazyReflection(services: names.sorted())
    for method in [RPCMethod.reflection, .reflectionAlpha] {
      add(method, .dialogue { request throws(RPCStatus) in try reflection.answer(request) })
    }
  }
}
