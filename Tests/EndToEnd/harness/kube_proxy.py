"""The state that kubelet and kube-proxy leave on a node for a few services: chains, rules and marks as they write them.

Sources: kubernetes/kubernetes v1.33 pkg/proxy/iptables/proxier.go, pkg/proxy/nftables/proxier.go, and
pkg/kubelet/kubelet_network_linux.go for the hint chains. Without a cluster CIDR, as EKS configures it.
"""

from __future__ import annotations

from dataclasses import dataclass

from .node import Node

FORMS = ("iptables-legacy", "iptables-nft", "nftables")


@dataclass(frozen=True)
class Service:
    """One port, TCP and UDP. `node_port` 0 means none; `is_local` means externalTrafficPolicy Local."""

    name: str
    cluster_ip: str
    port: int
    endpoint: str
    node_port: int = 0
    is_local: bool = False


def hint(node: Node, backend: str) -> None:
    """Kubelet's chains, which show others which iptables it uses. `backend` is `legacy` or `nft`."""
    text = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"
    node.instance.run([f"iptables-{backend}-restore", "--noflush"], input=text)


def write(node: Node, form: str, services: list[Service]) -> None:
    """Writes all rules of this form for these services, of the family of the node's pods, and replaces those written before."""
    if form == "nftables":
        node.instance.run(["nft", "-f", "-"], input=nftables_text(node.own_address, services, node.family))
    else:
        program = form.replace("iptables", "ip6tables") if node.family == 6 else form
        node.instance.run([f"{program}-restore", "--noflush"], input=iptables_text(services))
        for chain in ("PREROUTING", "OUTPUT"):
            _prepend(node, program, chain, "kubernetes service portals", "KUBE-SERVICES")
        _prepend(node, program, "POSTROUTING", "kubernetes postrouting rules", "KUBE-POSTROUTING")


def _prepend(node: Node, program: str, chain: str, comment: str, target: str) -> None:
    words = [chain, "-m", "comment", "--comment", comment, "-j", target]
    if node.instance.run([program, "-w", "-t", "nat", "-C", *words], check=False).returncode != 0:
        node.instance.run([program, "-w", "-t", "nat", "-I", *words])


def _single(address: str) -> str:
    return f"{address}/128" if ":" in address else f"{address}/32"


def _port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def iptables_text(services: list[Service]) -> str:
    chains = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]
    rules = [
        "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
        '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    ]
    for number, service in enumerate(services):
        for protocol in ("tcp", "udp"):
            tail = f"{number:05}{protocol.upper()}"
            service_chain, external, endpoint = f"KUBE-SVC-{tail}", f"KUBE-EXT-{tail}", f"KUBE-SEP-{tail}"
            name = f"default/{service.name}:{protocol}"
            note = f'-m comment --comment "{name}"'
            chains += [service_chain, external, endpoint]
            match = f"-p {protocol} {note} -m {protocol}"
            rules += [
                f'-A KUBE-SERVICES -d {_single(service.cluster_ip)} -p {protocol} -m comment --comment "{name} cluster IP" '
                f"-m {protocol} --dport {service.port} -j {service_chain}",
                f'-A {service_chain} -m comment --comment "{name} -> {service.endpoint}:{service.port}" -j {endpoint}',
                f"-A {endpoint} -s {_single(service.endpoint)} {note} -j KUBE-MARK-MASQ",
                f"-A {endpoint} {match} -j DNAT --to-destination {_port(service.endpoint, service.port)}",
            ]
            if not service.node_port:
                continue
            rules.append(f"-A KUBE-NODEPORTS {match} --dport {service.node_port} -j {external}")
            if service.is_local:
                local = f"KUBE-SVL-{tail}"
                chains.append(local)
                rules += [
                    f'-A {external} -m comment --comment "masquerade LOCAL traffic for {name} external destinations" '
                    "-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
                    f'-A {external} -m comment --comment "route LOCAL traffic for {name} external destinations" '
                    f"-m addrtype --src-type LOCAL -j {service_chain}",
                    f"-A {external} -j {local}",
                    f'-A {local} -m comment --comment "{name} -> {service.endpoint}:{service.port}" -j {endpoint}',
                ]
            else:
                rules += [
                    f'-A {external} -m comment --comment "masquerade traffic for {name} external destinations" -j KUBE-MARK-MASQ',
                    f"-A {external} -j {service_chain}",
                ]
    rules.append('-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in '
                 'this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS')
    forwarding = [
        "*filter", ":KUBE-FORWARD - [0:0]",
        '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT',
        '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate '
        "RELATED,ESTABLISHED -j ACCEPT",
        "COMMIT",
    ]
    return "\n".join(["*nat", *(f":{chain} - [0:0]" for chain in chains), *rules, "COMMIT", *forwarding]) + "\n"


_NFTABLES = """
add table {ip} kube-proxy {{ comment "rules for kube-proxy"; }}
delete table {ip} kube-proxy
table {ip} kube-proxy {{
  comment "rules for kube-proxy"
  set cluster-ips {{ type {type}; {cluster_ips} }}
  set nodeport-ips {{ type {type}; elements = {{ {node} }} }}
  {chains}
  map service-ips {{ type {type} . inet_proto . inet_service : verdict; {service_ips} }}
  map service-nodeports {{ type inet_proto . inet_service : verdict; {node_ports} }}
  chain mark-for-masquerade {{ meta mark set meta mark | 0x4000; }}
  chain masquerading {{
    meta mark & 0x4000 == 0 return
    meta mark set meta mark ^ 0x4000
    masquerade fully-random
  }}
  chain services {{
    {ip} daddr . meta l4proto . th dport vmap @service-ips
    {ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }}
  chain cluster-ips-check {{ {ip} daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"; }}
  chain filter-forward {{ type filter hook forward priority 0; ct state new jump cluster-ips-check; }}
  chain filter-output {{ type filter hook output priority -99; ct state new jump cluster-ips-check; }}
  chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
}}
"""


def nftables_text(node: str, services: list[Service], family: int) -> str:
    chains, service_ips, node_ports = [], [], []
    ip = "ip6" if family == 6 else "ip"
    for number, service in enumerate(services):
        for protocol in ("tcp", "udp"):
            tail = f"{number:08X}-default/{service.name}/{protocol}/p"
            endpoint = f"endpoint-{tail}__{service.endpoint.replace(':', '.')}/{service.port}"
            chains += [
                f"chain {endpoint} {{ {ip} saddr {service.endpoint} jump mark-for-masquerade; "
                f"meta l4proto {protocol} dnat to {_port(service.endpoint, service.port)}; }}",
                f"chain service-{tail} {{ numgen random mod 1 vmap {{ 0 : goto {endpoint} }}; }}",
            ]
            service_ips.append(f"{service.cluster_ip} . {protocol} . {service.port} : goto service-{tail}")
            if not service.node_port:
                continue
            node_ports.append(f"{protocol} . {service.node_port} : goto external-{tail}")
            if service.is_local:
                body = (f"fib saddr type local jump mark-for-masquerade; fib saddr type local goto service-{tail}; "
                        f"goto local-{tail};")
                chains.append(f"chain local-{tail} {{ numgen random mod 1 vmap {{ 0 : goto {endpoint} }}; }}")
            else:
                body = f"jump mark-for-masquerade; goto service-{tail};"
            chains.append(f"chain external-{tail} {{ {body} }}")
    marks = "chain mark-for-masquerade { }\n  "

    def elements(items: list[str]) -> str:
        return f"elements = {{ {', '.join(items)} }}" if items else ""

    addresses = sorted({service.cluster_ip for service in services})
    return _NFTABLES.format(
        ip=ip, type=f"ipv{family}_addr",
        cluster_ips=elements(addresses), node=node, chains=marks + "\n  ".join(chains),
        service_ips=elements(service_ips), node_ports=elements(node_ports))
