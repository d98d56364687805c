// SPDX-License-Identifier: Apache-2.0

extension AgentStatus {
  /// The schema number of this document; an incompatible change raises it.
  package static let schema = 1

  package var json: JSONValue {
    [
      "schema": .integer(AgentStatus.schema), "agent": agent.json, "pool": pool.json, "targets": targets.json,
      "enis": .list(enis.map(\.json)), "pods": .list(pods.map(\.json)), "waiters": .list(waiters.map(\.json)),
      "actions": .strings(actions), "subnets": .list(subnets.map(\.json)), "ec2": ec2.json, "kernel": kernel.json,
      "cluster": cluster?.json ?? .null, "settings": settings.json,
    ]
  }

  /// Nil for a document of another kind or of a newer schema. Missing fields have defaults.
  package init?(json: JSONValue) {
    guard json["schema"]?.int == AgentStatus.schema else { return nil }
    self.init()
    agent = Process(json: json["agent"])
    pool = Pool(json: json["pool"])
    targets = Targets(json: json["targets"])
    enis = json.items("enis").map(ENI.init(json:))
    pods = json.items("pods").map(Pod.init(json:))
    waiters = json.items("waiters").map(Waiter.init(json:))
    actions = json.texts("actions") ?? []
    subnets = json.items("subnets").map(Subnet.init(json:))
    ec2 = EC2(json: json["ec2"])
    kernel = Kernel(json: json["kernel"])
    cluster = Cluster(json: json["cluster"])
    settings = Settings(json: json["settings"])
  }
}

extension JSONValue {
  fileprivate static func list(_ items: [JSONValue]) -> JSONValue { .array(items) }
  fileprivate static func strings(_ items: [String]) -> JSONValue { .array(items.map { .string($0) }) }
  fileprivate static func optional(_ text: String?) -> JSONValue { text.map { .string($0) } ?? .null }
  fileprivate static func optional(_ number: Int?) -> JSONValue { number.map { .integer($0) } ?? .null }

  fileprivate func items(_ key: String) -> [JSONValue?] { self[key]?.array ?? [] }
  fileprivate func texts(_ key: String) -> [String]? { self[key]?.array?.compactMap { $0.string?.visible } }
}

// The document comes from an untrusted listener and goes to a terminal: texts are escaped, and numbers limited so that
// arithmetic cannot overflow.
extension JSONValue? {
  fileprivate func text(_ key: String) -> String { optionalText(key) ?? "" }
  fileprivate func optionalText(_ key: String) -> String? { self?[key]?.string?.visible }
  fileprivate func number(_ key: String) -> Int { optionalNumber(key) ?? 0 }
  fileprivate func optionalNumber(_ key: String) -> Int? {
    self?[key]?.int.map { min(max($0, -AgentStatus.largestNumber), AgentStatus.largestNumber) }
  }
  fileprivate func flag(_ key: String) -> Bool { self?[key]?.bool ?? false }
}

extension AgentStatus.Process {
  fileprivate var json: JSONValue {
    [
      "version": .string(version), "commit": .string(commit), "pid": .integer(pid), "upSeconds": .integer(upSeconds),
      "instance": .string(instance), "instanceType": .string(instanceType), "zone": .string(zone),
    ]
  }

  fileprivate init(json: JSONValue?) {
    version = json.text("version")
    commit = json.text("commit")
    pid = json.number("pid")
    upSeconds = json.number("upSeconds")
    instance = json.text("instance")
    instanceType = json.text("instanceType")
    zone = json.text("zone")
  }
}

extension AgentStatus.Pool {
  fileprivate var json: JSONValue {
    [
      "total": .integer(total), "assigned": .integer(assigned), "free": .integer(free), "cooling": .integer(cooling),
      "pending": .integer(pending), "stray": .integer(stray), "waiting": .integer(waiting),
      "usesPrefixes": .bool(usesPrefixes), "eniLimit": .integer(eniLimit),
      "addressesPerENI": .integer(addressesPerENI), "maxPods": .integer(maxPods),
      "blockedCause": .optional(blockedCause), "blockedText": .optional(blockedText),
    ]
  }

  fileprivate init(json: JSONValue?) {
    total = json.number("total")
    assigned = json.number("assigned")
    free = json.number("free")
    cooling = json.number("cooling")
    pending = json.number("pending")
    stray = json.number("stray")
    waiting = json.number("waiting")
    usesPrefixes = json.flag("usesPrefixes")
    eniLimit = json.number("eniLimit")
    addressesPerENI = json.number("addressesPerENI")
    maxPods = json.number("maxPods")
    blockedCause = json.optionalText("blockedCause")
    blockedText = json.optionalText("blockedText")
  }
}

extension AgentStatus.Targets {
  fileprivate var json: JSONValue {
    [
      "warmENI": .integer(warmENI), "warmIP": .integer(warmIP), "minimumIP": .integer(minimumIP),
      "warmPrefix": .integer(warmPrefix), "shortage": .integer(shortage), "surplus": .integer(surplus),
    ]
  }

  fileprivate init(json: JSONValue?) {
    warmENI = json.number("warmENI")
    warmIP = json.number("warmIP")
    minimumIP = json.number("minimumIP")
    warmPrefix = json.number("warmPrefix")
    shortage = json.number("shortage")
    surplus = json.number("surplus")
  }
}

extension AgentStatus.ENI {
  fileprivate var json: JSONValue {
    [
      "id": .string(id), "device": .integer(device), "card": .integer(card), "subnet": .string(subnet),
      "address": .string(address), "mac": .string(mac), "table": .integer(table), "isManaged": .bool(isManaged),
      "isOpen": .bool(isOpen), "isExcluded": .bool(isExcluded), "total": .integer(total),
      "assigned": .integer(assigned), "cooling": .integer(cooling), "keptBack": .integer(keptBack),
      "isOutdated": .bool(isOutdated), "prefixes": .strings(prefixes),
    ]
  }

  fileprivate init(json: JSONValue?) {
    id = json.text("id")
    device = json.number("device")
    card = json.number("card")
    subnet = json.text("subnet")
    address = json.text("address")
    mac = json.text("mac")
    table = json.number("table")
    isManaged = json.flag("isManaged")
    isOpen = json.flag("isOpen")
    isExcluded = json.flag("isExcluded")
    total = json.number("total")
    assigned = json.number("assigned")
    cooling = json.number("cooling")
    keptBack = json.number("keptBack")
    isOutdated = json.flag("isOutdated")
    prefixes = json?.texts("prefixes") ?? []
  }
}

extension AgentStatus.Pod {
  fileprivate var json: JSONValue {
    [
      "namespace": .string(namespace), "name": .string(name), "address": .string(address), "eni": .string(eni),
      "device": .integer(device), "ageSeconds": .integer(ageSeconds),
    ]
  }

  fileprivate init(json: JSONValue?) {
    namespace = json.text("namespace")
    name = json.text("name")
    address = json.text("address")
    eni = json.text("eni")
    device = json.number("device")
    ageSeconds = json.number("ageSeconds")
  }
}

extension AgentStatus.Waiter {
  fileprivate var json: JSONValue {
    [
      "namespace": .string(namespace), "name": .string(name), "waitedSeconds": .integer(waitedSeconds),
      "leftSeconds": .integer(leftSeconds),
    ]
  }

  fileprivate init(json: JSONValue?) {
    namespace = json.text("namespace")
    name = json.text("name")
    waitedSeconds = json.number("waitedSeconds")
    leftSeconds = json.number("leftSeconds")
  }
}

extension AgentStatus.Subnet {
  fileprivate var json: JSONValue {
    [
      "id": .string(id), "free": .optional(free), "freeSeconds": .optional(freeSeconds),
      "isExcluded": .bool(isExcluded), "isPaused": .bool(isPaused),
      "isFragmented": .bool(isFragmented),
    ]
  }

  fileprivate init(json: JSONValue?) {
    id = json.text("id")
    free = json.optionalNumber("free")
    freeSeconds = json.optionalNumber("freeSeconds")
    isExcluded = json.flag("isExcluded")
    isPaused = json.flag("isPaused")
    isFragmented = json.flag("isFragmented")
  }
}

extension AgentStatus.EC2 {
  fileprivate var json: JSONValue {
    [
      "calls": .list(
        calls.map {
          [
            "action": .string($0.action), "count": .integer($0.count), "failed": .integer($0.failed),
            "throttled": .integer($0.throttled), "lastError": .optional($0.lastError),
            "lastSeconds": .integer($0.lastSeconds),
          ]
        }),
      "held": .list(
        held.map {
          [
            "work": .string($0.work), "because": .string($0.because), "urgentSeconds": .integer($0.urgentSeconds),
            "patientSeconds": .integer($0.patientSeconds),
          ]
        }), "reconciledSeconds": .optional(reconciledSeconds),
    ]
  }

  fileprivate init(json: JSONValue?) {
    calls = (json?.items("calls") ?? []).map { json in
      var call = Call()
      call.action = json.text("action")
      call.count = json.number("count")
      call.failed = json.number("failed")
      call.throttled = json.number("throttled")
      call.lastError = json.optionalText("lastError")
      call.lastSeconds = json.number("lastSeconds")
      return call
    }
    held = (json?.items("held") ?? []).map { json in
      var hold = Hold()
      hold.work = json.text("work")
      hold.because = json.text("because")
      hold.urgentSeconds = json.number("urgentSeconds")
      hold.patientSeconds = json.number("patientSeconds")
      return hold
    }
    reconciledSeconds = json.optionalNumber("reconciledSeconds")
  }
}

extension AgentStatus.Kernel {
  fileprivate var json: JSONValue {
    [
      "scheme": .string(scheme), "iptables": .string(iptables),
      "differences": differences.map { .strings($0) } ?? .null, "repairs": .integer(repairs),
      "lastRepairSeconds": .optional(lastRepairSeconds), "lastRepair": .string(lastRepair),
    ]
  }

  fileprivate init(json: JSONValue?) {
    scheme = json.text("scheme")
    iptables = json.text("iptables")
    differences = json?.texts("differences")
    repairs = json.number("repairs")
    lastRepairSeconds = json.optionalNumber("lastRepairSeconds")
    lastRepair = json.text("lastRepair")
  }
}

extension AgentStatus.Settings {
  fileprivate var json: JSONValue {
    [
      "warnings": .strings(warnings), "vethPrefix": .string(vethPrefix), "eniMTU": .integer(eniMTU),
      "podMTU": .integer(podMTU), "externalSNAT": .bool(externalSNAT), "customNetworking": .bool(customNetworking),
      "checkpoint": .string(checkpoint),
    ]
  }

  fileprivate init(json: JSONValue?) {
    warnings = json?.texts("warnings") ?? []
    vethPrefix = json.text("vethPrefix")
    eniMTU = json.number("eniMTU")
    podMTU = json.number("podMTU")
    externalSNAT = json.flag("externalSNAT")
    customNetworking = json.flag("customNetworking")
    checkpoint = json.text("checkpoint")
  }
}
