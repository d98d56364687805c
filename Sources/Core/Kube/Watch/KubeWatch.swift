// SPDX-License-Identifier: Apache-2.0
//
// Keeps one kind of object up to date: list, then watch, while the task runs. WatchState decides the next step; this
// runs it.

internal import VPCModel
internal import VPCTransport

/// An event of a watch.
package enum KubeWatchEvent<Object: KubeObject>: Sendable {
  /// All objects: others are gone.
  case listed([Object])
  /// Made or changed.
  case changed(Object)
  case deleted(Object)
  /// An object that cannot be parsed; it counts as unchanged.
  case unreadable(String)
  /// The first of consecutive failures, or the first of another kind: there are no events until `recovered`.
  case lost(KubeError, retryIn: Duration)
  /// The server answers again; missed changes follow.
  case recovered
}

/// Lists and watches objects of one kind.
package struct KubeWatch<Object: KubeObject>: Sendable {
  /// The server is asked to end a watch after about this time, so that none lasts forever.
  private static var duration: Duration { .seconds(420) }
  /// Bookmarks come every minute; after this silence the connection is dead.
  private static var silence: Duration { .seconds(150) }
  /// Bytes of one event: etcd accepts objects of 1.5 MiB, and JSON is larger.
  private static var maximumLine: Int { 4 << 20 }

  private let client: KubeClient
  private let namespace: String?
  private let selector: KubeSelector
  private let pagesFirstList: Bool

  /// - Parameter pagesFirstList: true if there may be thousands. A list from the server's memory is cheaper for it, and
  ///   unpaged whatever page size is requested.
  package init(
    _ type: Object.Type, client: KubeClient, in namespace: String? = nil, _ selector: KubeSelector = KubeSelector(),
    pagesFirstList: Bool = false
  ) {
    self.pagesFirstList = pagesFirstList
    self.client = client
    self.namespace = namespace
    self.selector = selector
  }

  /// Runs until the task is cancelled.
  ///
  /// - Parameter deliver: called with one event after the other; while it runs, nothing is read from the server.
  package func run(_ deliver: @Sendable (KubeWatchEvent<Object>) async -> Void) async {
    var state = WatchState(isFirstFresh: pagesFirstList)
    // The last reported kind of failure.
    var lostBy: KubeError.Code?
    while !Task.isCancelled {
      let wait: Duration
      var failure: KubeError?
      switch state.step {
      case .list(let isFresh):
        do throws(KubeError) {
          let listing = try await client.list(Object.self, in: namespace, selector, isFresh: isFresh)
          if lostBy != nil {
            lostBy = nil
            await deliver(.recovered)
          }
          for fault in listing.faults { await deliver(.unreadable(fault)) }
          await deliver(.listed(listing.objects))
          state.listed(version: listing.resourceVersion)
          wait = .zero
        } catch {
          failure = error
          wait = state.listFailed(error, random: client.time.random())
        }
      case .watch(let version):
        do throws(KubeError) {
          let stream = try await open(from: version)
          if lostBy != nil {
            lostBy = nil
            await deliver(.recovered)
          }
          let opened = client.time.now()
          let end = await follow(stream, &state, deliver)
          wait = state.ended(end, lasted: opened.duration(to: client.time.now()), random: client.time.random())
        } catch {
          failure = error
          wait = state.openFailed(error, random: client.time.random())
        }
      }
      guard !Task.isCancelled else { return }
      // Another cause is reported: an unreachable API server that now answers 403 needs another remedy.
      if let failure, failure.code != .gone, failure.code != lostBy {
        lostBy = failure.code
        await deliver(.lost(failure, retryIn: wait))
      }
      // Cancelled: the loop's condition ends it.
      if wait > .zero { try? await client.time.sleep(wait) }
    }
  }

  private func open(from version: String) async throws(KubeError) -> HTTPStream {
    var call = client.call(try client.collection(Object.resource, namespace))
    // Jittered, so that watches that started together do not end together.
    let duration = KubeWatch.duration * (0.7 + 0.6 * client.time.random())
    call.accept = client.accept(Object.self)
    call.query.add("watch", "true")
    call.query.add(selector)
    call.query.add("resourceVersion", version)
    call.query.add("allowWatchBookmarks", "true")
    call.query.add("timeoutSeconds", "\(duration.components.seconds)")
    let stream = try await client.stream(
      call, HTTPStreamLimits(lifetime: duration + .seconds(30), idle: KubeWatch.silence))
    guard (200..<300).contains(stream.status) else {
      throw KubeError(
        status: stream.status, headers: stream.headers, body: await stream.rest(upTo: 64 << 10), request: call.name)
    }
    return stream
  }

  private func follow(
    _ stream: HTTPStream, _ state: inout WatchState, _ deliver: (KubeWatchEvent<Object>) async -> Void
  ) async -> WatchState.End {
    var lines = LineSplitter(limit: KubeWatch.maximumLine)
    do throws(HTTPError) {
      while let bytes = try await stream.next() {
        for line in lines.feed(bytes) {
          guard case .whole(let text) = line else {
            await deliver(.unreadable("an event of more than \(KubeWatch.maximumLine) bytes"))
            continue
          }
          if let end = await take(text, &state, deliver) { return end }
        }
      }
      return lines.hasRest ? .broken : .closed
    } catch {
      return .broken
    }
  }

  /// - Returns: how the watch ends, if this event ends it.
  private func take(
    _ line: [UInt8], _ state: inout WatchState, _ deliver: (KubeWatchEvent<Object>) async -> Void
  ) async -> WatchState.End? {
    let event: JSONValue
    do {
      event = try JSONParser.parse(
        line, limits: JSONParser.Limits(size: KubeWatch.maximumLine), keeping: KubeWatch.fields)
    } catch {
      await deliver(.unreadable("an event of a watch of \(Object.resource.plural): \(error)"))
      return .broken
    }
    guard let object = event["object"] else { return .broken }
    let version = object["metadata"]?["resourceVersion"]?.string ?? ""
    switch event["type"]?.string {
    case "ADDED", "MODIFIED", "DELETED":
      do {
        let known = try Object(object)
        await deliver(event["type"] == "DELETED" ? .deleted(known) : .changed(known))
      } catch {
        await deliver(.unreadable("\(Object.resource.plural): \(error)"))
      }
      state.moved(to: version)
      return nil
    case "BOOKMARK":
      state.moved(to: version)
      return nil
    case "ERROR":
      return object["code"]?.int == 410 ? .gone : .broken
    default:
      return .broken
    }
  }

  /// Of an event: the object, or the Status of an ERROR.
  private static var fields: JSONSelection {
    guard case .members(var object) = KubeMetadata.fields(of: Object.self) else { return .all }
    object["code"] = .all
    return ["type": .all, "object": .members(object)]
  }
}
