// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCKube
internal import VPCLinux
internal import VPCModel
internal import VPCSystem

extension HostFacts {
  /// - Parameter agent: the agent's process, if it is visible.
  static func read(_ processes: ProcessTable, agent: Int32?) -> HostFacts {
    var facts = HostFacts()
    facts.ownCommit = BuildFacts.own.commit
    facts.persistentMACs = persistentMACs()
    facts.networkdRemovesRules = networkd(processes)
    facts.cloudSetupEnabled = [
      "/etc/systemd/system/timers.target.wants/nm-cloud-setup.timer",
      "/etc/systemd/system/NetworkManager.service.wants/nm-cloud-setup.service",
    ].contains { exists($0) }
    facts.maxPods = maxPods(processes)
    facts.conflists = conflists()
    facts.plugin = plugin()
    facts.restarts = restarts()
    facts.throttledPercent = agent.flatMap(throttledPercent)
    return facts
  }

  // MARK: systemd

  /// systemd.link(5): the first matching file by name counts, and a file in /etc overrides one with the same name.
  private static func persistentMACs() -> String? {
    var files: [String: String] = [:]
    for folder in ["/usr/lib/systemd/network", "/run/systemd/network", "/etc/systemd/network"] {
      for name in list(folder) where name.hasSuffix(".link") { files[name] = "\(folder)/\(name)" }
    }
    for (_, path) in files.sorted(by: { $0.key < $1.key }) {
      guard let text = text(path), matchesPods(text) else { continue }
      guard let policy = value("MACAddressPolicy", in: text) else { return nil }
      return policy == "persistent" ? path : nil
    }
    return nil
  }

  /// Whether `[Match]` can mean a host interface `eni…` of kind veth.
  private static func matchesPods(_ text: String) -> Bool {
    guard let pattern = value("OriginalName", in: text) else {
      // Matches by MAC, driver or path are for hardware devices.
      return ["MACAddress", "Driver", "Path", "Type", "PermanentMACAddress"].allSatisfy { value($0, in: text) == nil }
    }
    return pattern.split(separator: " ").contains { $0 == "*" || $0.hasPrefix("eni") || $0.hasPrefix("veth") }
  }

  private static func networkd(_ processes: ProcessTable) -> Fact<Bool> {
    let runs = processes.first(named: "systemd-networkd") != nil || exists("/run/systemd/netif/state")
    guard runs else { return .known(false) }
    var setting: String?
    var files = ["/etc/systemd/networkd.conf"]
    for folder in ["/usr/lib/systemd/networkd.conf.d", "/run/systemd/networkd.conf.d", "/etc/systemd/networkd.conf.d"] {
      files += list(folder).filter { $0.hasSuffix(".conf") }.sorted().map { "\(folder)/\($0)" }
    }
    for path in files {
      if let value = text(path).flatMap({ value("ManageForeignRoutingPolicyRules", in: $0) }) { setting = value }
    }
    return .known(!["no", "false", "0", "off", "n", "f"].contains(setting?.lowercased() ?? "yes"))
  }

  // MARK: kubelet and runtime

  private static func maxPods(_ processes: ProcessTable) -> Fact<Int> {
    guard let kubelet = processes.first(named: "kubelet") else {
      return .unknown("cannot see the kubelet process from here")
    }
    if let number = kubelet.option("--max-pods").flatMap({ Int($0) }) { return .known(number) }
    guard let path = kubelet.option("--config"), let text = text(path) ?? text("/host\(path)") else {
      return .unknown("kubelet has no --max-pods, and its configuration cannot be read")
    }
    // JSON is YAML, too.
    do throws(YAMLReader.Failure) {
      return .known(try YAMLReader.parse(Array(text.utf8))["maxPods"]?.int ?? 110)
    } catch {
      return .unknown("the kubelet's configuration \(path) cannot be read: \(error)")
    }
  }

  private static func conflists() -> Fact<[Conflist]> {
    for folder in ["/etc/cni/net.d", "/host/etc/cni/net.d"] where exists(folder) {
      let names = list(folder).filter { name in [".conf", ".conflist", ".json"].contains { name.hasSuffix($0) } }
      return .known(names.sorted().map { conflist($0, folder) })
    }
    return .unknown("cannot see /etc/cni/net.d or /host/etc/cni/net.d from here")
  }

  private static func conflist(_ name: String, _ folder: String) -> Conflist {
    guard let text = text("\(folder)/\(name)"), let document = try? JSONParser.parse(Array(text.utf8)) else {
      return Conflist(name: name)
    }
    let plugins = document["plugins"]?.array ?? [document]
    let ours = plugins.first { $0["type"]?.string == "aws-cni" }
    return Conflist(
      name: name, plugins: plugins.compactMap { $0["type"]?.string }, vethPrefix: ours?["vethPrefix"]?.string,
      mtu: ours?["mtu"]?.int ?? ours?["mtu"]?.string.flatMap { Int($0) })
  }

  private static func plugin() -> Fact<PluginFile> {
    for path in ["/opt/cni/bin/aws-cni", "/host/opt/cni/bin/aws-cni"] where exists(path) {
      do throws(FileError) {
        return .known(PluginFile(path: path, commit: try BuildFacts.commit(ofFile: path)))
      } catch {
        return .unknown("\(error)")
      }
    }
    return .unknown("no aws-cni in /opt/cni/bin or /host/opt/cni/bin")
  }

  /// The kubelet names a container's log by its restart count.
  private static func restarts() -> Fact<Int> {
    var most: Int?
    for pod in list("/var/log/pods") where pod.hasPrefix("kube-system_aws-node-") {
      for file in list("/var/log/pods/\(pod)/aws-node") where file.hasSuffix(".log") {
        if let number = Int(file.dropLast(4)) { most = max(most ?? 0, number) }
      }
    }
    return most.map { .known($0) } ?? .unknown("no aws-node log in /var/log/pods, or it is not visible from here")
  }

  /// Throttled periods of the agent's control group, in percent.
  private static func throttledPercent(_ agent: Int32) -> Int? {
    guard let groups = text("/proc/\(agent)/cgroup") else { return nil }
    for line in groups.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3, parts[1].isEmpty || parts[1].split(separator: ",").contains("cpu") else { continue }
      let root = parts[1].isEmpty ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu"
      guard let stat = text("\(root)\(parts[2])/cpu.stat") else { continue }
      var numbers: [Substring: Int] = [:]
      for row in stat.split(separator: "\n") {
        let words = row.split(separator: " ")
        if words.count == 2 { numbers[words[0]] = Int(words[1]) }
      }
      guard let periods = numbers["nr_periods"], let held = numbers["nr_throttled"], periods > 100 else { return nil }
      return Int(Double(held) / Double(periods) * 100)
    }
    return nil
  }

  // MARK: files

  private static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  private static func text(_ path: String) -> String? {
    // Missing, unreadable or huge: no data.
    (try? BoundedFile.read(path, limit: 1 << 20)).map { String(decoding: $0, as: UTF8.self) }
  }

  /// The last value of `NAME=VALUE` in a file of systemd.
  private static func value(_ name: String, in text: String) -> String? {
    var found: String?
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: "=", maxSplits: 1)
      guard parts.count == 2, parts[0].filter({ $0 != " " }) == name else { continue }
      found = String(parts[1].drop { $0 == " " })
    }
    return found
  }

  private static func list(_ path: String) -> [String] {
    guard var entries = FolderNames(path) else { return [] }
    return entries.next(atMost: 10_000)
  }
}
