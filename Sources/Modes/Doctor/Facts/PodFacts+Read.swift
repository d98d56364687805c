// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCLinux
internal import VPCModel
internal import VPCSystem

extension PodFacts {
  static func read(path: String, settings: Settings?) -> Fact<PodFacts> {
    var facts = PodFacts(path: path)
    facts.hasDamaged = access(path + ".damaged", F_OK) == 0
    let now = unixSeconds
    do throws(FileError) {
      let result = CheckpointReader.read(try BoundedFile.read(path, limit: CheckpointReader.maximumSize))
      facts.findings = result.findings.map { "\($0)" }
      facts.pods = result.checkpoint.allocations.map { allocation in
        let pod = allocation.pod
        let isNamed = !pod.namespace.isEmpty && !pod.name.isEmpty
        return Pod(
          name: isNamed ? "\(pod)" : "a pod without a name", address: allocation.address,
          suffix: isNamed ? HostVethName.suffix(namespace: pod.namespace, pod: pod.name) : nil,
          ageSeconds: Int(now - allocation.unixNanoseconds / 1_000_000_000))
      }
    } catch {
      guard error.isNotFound else { return .unknown("\(error)") }
      facts.exists = false
    }
    facts.wrongMACs = wrongMACs()
    return .known(facts)
  }

  private static var unixSeconds: Int64 { Int64(time(nil)) }

  /// The maximum number of namespaces to check.
  private static let namespaceLimit = 1000

  /// Compares, in each namespace under /run/netns, the permanent neighbour of the pod's gateway with the MAC of the host's
  /// end. Containerd and CRI-O keep pods' namespaces there.
  private static func wrongMACs(folder: String = "/run/netns") -> Fact<[String]> {
    guard var entries = FolderNames(folder) else { return .unknown("cannot see \(folder) from here") }
    var names: [String] = []
    while names.count < namespaceLimit, let name = entries.next() {
      if !name.hasPrefix(".") { names.append(name) }
    }
    do {
      let host = try NetlinkSocket()
      let links = Dictionary(try Link.list(on: host).map { ($0.index, $0) }) { first, _ in first }
      var wrong: [String] = []
      for name in names {
        // A namespace that has just been deleted is no finding.
        guard let pod = try? NetworkNamespace(path: "\(folder)/\(name)").openSocket(timeout: .seconds(1)) else {
          continue
        }
        for link in (try? Link.list(on: pod)) ?? [] where link.kind == "veth" {
          guard let peer = link.peerIndex.flatMap({ links[$0] }), let known = gateway(link, on: pod), known != peer.mac,
            peer.peerIndex == link.index
          else { continue }
          wrong.append("\(peer.name) has \(peer.mac.map { "\($0)" } ?? "none"), its pod (\(name)) sends to \(known)")
        }
      }
      return .known(wrong)
    } catch {
      return .unknown(CauseChain.text(error))
    }
  }

  /// The MAC that the pod has for 169.254.1.1.
  private static func gateway(_ link: Link, on pod: NetlinkSocket) -> MACAddress? {
    (try? Neighbour.find(IPAddress(ipv4: 0xa9fe_0101), link: link.index, on: pod))?.mac
  }
}
