// SPDX-License-Identifier: Apache-2.0

package import VPCModel
package import VPCTransport

extension KubeClient {
  /// The objects of a list, and its version, from which a watch continues.
  package struct Listing<Object: KubeObject>: Sendable {
    package var objects: [Object] = []
    package var resourceVersion = ""
    /// Objects that could not be parsed, in words.
    package var faults: [String] = []
  }

  /// One object as it is now.
  ///
  /// - Throws: `KubeError`; `.notFound` if there is none.
  package func get<Object: KubeObject>(
    _ type: Object.Type, _ name: String, in namespace: String? = nil
  ) async throws(KubeError) -> Object {
    var call = call(try path(Object.resource, name, namespace))
    call.accept = accept(Object.self)
    let body = try await success(call)
    return try decode(body, call)
  }

  /// All objects that the selector names, page by page.
  ///
  /// - Parameters:
  ///   - namespace: nil for all namespaces, only together with a selector: never read a whole cluster.
  ///   - isFresh: false if any state in the server's memory suffices, as for a watch's first list.
  package func list<Object: KubeObject>(
    _ type: Object.Type, in namespace: String? = nil, _ selector: KubeSelector = KubeSelector(), isFresh: Bool = true
  ) async throws(KubeError) -> Listing<Object> {
    var listing = Listing<Object>()
    var token = ""
    for _ in 0..<limits.pages {
      var call = call(try collection(Object.resource, namespace))
      call.timeout = limits.timeout * 3
      call.query.add(selector)
      call.query.add("limit", "\(limits.pageSize)")
      call.query.add("continue", token)
      call.accept = accept(Object.self, isList: true)
      if !isFresh, selector.isIndexed, token.isEmpty { call.query.add("resourceVersion", "0") }
      let fields: JSONSelection = [
        "metadata": ["resourceVersion": .all, "continue": .all], "items": KubeMetadata.fields(of: Object.self),
      ]
      let page = try json(try await success(call), call, fields)
      guard let items = page["items"]?.array ?? (page["items"] == .null ? [] : nil),
        let version = page["metadata"]?["resourceVersion"]?.string
      else {
        throw KubeError(
          .badAnswer, request: call.name, detail: "not a list: items or metadata.resourceVersion is missing")
      }
      for item in items {
        do {
          listing.objects.append(try Object(item))
        } catch {
          listing.faults.append("\(Object.resource.plural): \(error)")
        }
      }
      // All pages show the version of the first page.
      if listing.resourceVersion.isEmpty { listing.resourceVersion = version }
      token = page["metadata"]?["continue"]?.string ?? ""
      if token.isEmpty { return listing }
    }
    throw KubeError(
      .badAnswer, request: "GET \(Object.resource.plural)", detail: "a list of more than \(limits.pages) pages")
  }

  /// Changes the members that the patch names (RFC 7386: null removes).
  ///
  /// - Parameter version: the required `resourceVersion` of the object; nil for any.
  /// - Returns: the object as it is now.
  /// - Throws: `KubeError`; `.conflict` if the object has another version by now.
  package func mergePatch<Object: KubeObject>(
    _ type: Object.Type, _ name: String, in namespace: String? = nil, _ patch: JSONValue, version: String? = nil
  ) async throws(KubeError) -> Object {
    var call = call(try path(Object.resource, name, namespace))
    call.method = .patch
    call.accept = accept(Object.self)
    call.contentType = "application/merge-patch+json"
    var document = patch.object ?? JSONObject()
    if let version {
      var metadata = document["metadata"]?.object ?? JSONObject()
      metadata["resourceVersion"] = .string(version)
      document["metadata"] = .object(metadata)
    }
    call.body = JSONValue.object(document).bytes
    return try decode(try await success(call), call)
  }

  /// Creates an object.
  ///
  /// - Throws: `KubeError`; `.conflict` if the name exists.
  package func create(
    _ resource: KubeResource, in namespace: String? = nil, _ object: JSONValue
  ) async throws(KubeError) {
    var call = call(try collection(resource, namespace))
    call.method = .post
    call.contentType = "application/json"
    call.body = object.bytes
    _ = try await success(call)
  }

  /// A pod's answer to a GET proxied by the API server, as a stream.
  ///
  /// - Parameters:
  ///   - path: with a leading slash: `/metrics`.
  ///   - timeout: from the request to the last byte.
  /// - Returns: the pod's 2xx answer. The reader limits its size.
  /// - Throws: `KubeError`; other answers of the pod look like answers of the API server.
  package func openThroughPod(
    _ pod: String, in namespace: String, port: Int, path: String, accept: String = "*/*", timeout: Duration
  ) async throws(KubeError) -> HTTPStream {
    var call = call(try self.path(.pods, "\(pod):\(port)", namespace) + "/proxy" + path)
    call.accept = accept
    call.timeout = timeout
    let stream = try await stream(call, HTTPStreamLimits(lifetime: timeout, idle: timeout))
    guard (200..<300).contains(stream.status) else {
      throw KubeError(
        status: stream.status, headers: stream.headers, body: await stream.rest(upTo: 64 << 10), request: call.name)
    }
    return stream
  }

  // MARK: parts

  /// For a kind with only metadata in use, the server is asked only for metadata. Source: Kubernetes API concepts,
  /// alternate representations.
  func accept<Object: KubeObject>(_ type: Object.Type, isList: Bool = false) -> String {
    guard Object.isMetadataOnly else { return "application/json" }
    return "application/json;as=PartialObjectMetadata\(isList ? "List" : "");g=meta.k8s.io;v=v1,application/json"
  }

  func success(_ call: Call) async throws(KubeError) -> [UInt8] {
    let response = try await answer(to: call)
    try check(response, call)
    return response.body
  }

  private func check(_ response: HTTPResponse, _ call: Call) throws(KubeError) {
    guard (200..<300).contains(response.status) else {
      throw KubeError(status: response.status, headers: response.headers, body: response.body, request: call.name)
    }
  }

  private func decode<Object: KubeObject>(_ body: [UInt8], _ call: Call) throws(KubeError) -> Object {
    let value = try json(body, call, KubeMetadata.fields(of: Object.self))
    do {
      return try Object(value)
    } catch {
      throw KubeError(.badAnswer, request: call.name, detail: "not what was asked for", cause: error)
    }
  }

  private func json(
    _ body: [UInt8], _ call: Call, _ fields: JSONSelection
  ) throws(KubeError) -> JSONValue {
    do {
      return try JSONParser.parse(body, limits: JSONParser.Limits(size: limits.bodySize), keeping: fields)
    } catch {
      throw KubeError(.badAnswer, request: call.name, detail: "not JSON", cause: error)
    }
  }

  func collection(_ resource: KubeResource, _ namespace: String?) throws(KubeError) -> String {
    if let namespace { try check(namespace, resource) }
    return resource.collection(in: namespace)
  }

  private func path(_ resource: KubeResource, _ name: String, _ namespace: String?) throws(KubeError) -> String {
    try check(name, resource)
    return try collection(resource, namespace) + "/" + name
  }

  /// Names come from settings, labels and other objects: none of them may change the path.
  private func check(_ name: String, _ resource: KubeResource) throws(KubeError) {
    let isName = name.utf8.allSatisfy { byte in
      (0x30...0x3a).contains(byte) || (0x61...0x7a).contains(byte) || (0x41...0x5a).contains(byte) || byte == 0x2d
        || byte == 0x2e
    }
    guard isName, !name.isEmpty, name.utf8.count <= 253, name != ".", name != ".." else {
      throw KubeError(
        .configuration, request: resource.plural, detail: "\"\(name.prefix(100))\" is not a valid Kubernetes name")
    }
  }
}
