"""Compares docs/packet-path.md with a live node: both have exactly the same rules, routes, settings and chains."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.pod import Pod
from simulator.client import Simulator

DOCUMENT = paths.ROOT / "docs" / "packet-path.md"
PODS = 11  # an m5.large's primary ENI holds nine
WORD = re.compile(r"\{([A-Z0-9:]+)\}")

Words = dict[str, str]


def table(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its first two lines."""
    lines = DOCUMENT.read_text(encoding="utf-8").split("\n")
    start = next(number for number, line in enumerate(lines) if re.fullmatch(f"#+ {re.escape(heading)}", line)) + 1
    rows = []
    for line in lines[start:]:
        if line.startswith("#"):
            break
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows.append([cell.replace("\\|", "|").strip("`") for cell in cells])
    assert len(rows) > 2, f"no table under {heading}"
    return rows[2:]


class Live:
    """One node with pods on two ENIs, and what the document's placeholders mean on it."""

    def __init__(self, vpc: Simulator, node: Node) -> None:
        self.node = node
        self.main_before = self.lines("ip", "route", "show", "table", "main")
        node.agent.start()
        node.add_pods(PODS)
        # The pool keeps growing: the comparison uses the state after it has settled.
        node.wait_quiet()
        enis = sorted(node.enis(), key=lambda eni: eni["index"])
        assert len(enis) > 1, "a second ENI was expected"
        links = {link["address"]: link["ifname"] for link in node.ip("link")}
        known = {each["NetworkInterfaceId"]: each for each in vpc.ec2().describe_network_interfaces(
            NetworkInterfaceIds=[eni["eni"] for eni in enis])["NetworkInterfaces"]}
        own = vpc.ec2().describe_vpcs(VpcIds=[known[enis[0]["eni"]]["VpcId"]])["Vpcs"][0]
        self.of_node: Words = {"PRIMARY": enis[0]["primary"], "LINK0": links[known[enis[0]["eni"]]["MacAddress"]],
                               "VPC": own["CidrBlock"]}
        self.of_enis: list[Words] = []
        for eni in enis[1:]:
            index, seen = eni["index"], known[eni["eni"]]
            subnet = vpc.ec2().describe_subnets(SubnetIds=[seen["SubnetId"]])["Subnets"][0]["CidrBlock"]
            self.of_enis.append({
                "ENI": eni["eni"], "LINK": links[seen["MacAddress"]], "ADDRESS": eni["primary"], "N": f"{index:x}",
                "N:8": f"{index:08x}", "KEEP:8": f"{0xffffff80 | index:08x}", "TABLE": str(index + 1),
                "GATEWAY": str(ipaddress.ip_network(subnet)[1])})
        self.of_pods: list[Words] = [{"POD": pod.address, "VETH": pod.host_veth} for pod in node.pods]
        self.slots = {address: eni["eni"] for eni in enis[1:]
                      for address in eni["addresses"] if address != eni["primary"]}

    def lines(self, *words: str) -> list[str]:
        text = self.node.instance.run(list(words)).stdout
        return [re.sub(r"\s+", " ", line).strip() for line in text.split("\n") if line.strip()]

    def expand(self, template: str, kind: str = "") -> list[str]:
        """A line of the document as it must appear on the node, once for each object that it describes."""
        if not kind:
            words = set(WORD.findall(template)) - set(self.of_node)
            kind = "node" if not words else "secondary ENI"
        many: list[Words] = {"node": [{}], "secondary ENI": self.of_enis, "pod": self.of_pods}[kind]
        return [WORD.sub(lambda found: {**self.of_node, **each}[found[1]], template) for each in many]


@pytest.fixture(scope="module")
def live(vpc: Simulator) -> Iterator[Live]:
    node = Node(vpc, "path", type="m5.large", subnet="a")
    try:
        yield Live(vpc, node)
    finally:
        node.close()


def test_policy_rules(live: Live) -> None:
    wanted = [f"{priority}: {line}" for priority, rule, kind, *_ in table("Policy rules")
              for line in live.expand(rule, kind)]
    assert sorted(live.lines("ip", "rule")) == sorted(wanted)


def test_routes(live: Live) -> None:
    wanted: dict[str, list[str]] = {}
    for number, route, kind, *_ in table("Routes"):
        for line in live.expand(f"{number} {route}", kind):
            wanted.setdefault(line.split(" ", 1)[0], []).append(line.split(" ", 1)[1])
    assert len(wanted) >= 2 and len(wanted["20512"]) == PODS
    for number, routes in wanted.items():
        assert sorted(live.lines("ip", "route", "show", "table", number)) == sorted(routes), f"table {number}"
    assert live.lines("ip", "route", "show", "table", "main") == live.main_before, "main stays as it was"


def test_settings(live: Live) -> None:
    for name, value, kind, *_ in table("Links and settings"):
        for setting in live.expand(name, kind):
            path = "/proc/sys/" + setting.replace(".", "/")
            assert live.lines("cat", path) == [value], setting


def test_chains(live: Live) -> None:
    wanted = {(one, line, kind, hook, priority) for one, chain, kind, hook, priority in table("nftables: chains")
              for line in live.expand(chain)}
    found = set()
    for item in json.loads(live.node.instance.run(["nft", "-j", "list", "chains"]).stdout)["nftables"]:
        chain = item.get("chain")
        if chain and chain["table"] in ("vpc-cni", "aws-cni"):
            found.add((chain["table"], chain["name"], chain.get("type", "–"), chain.get("hook", "–"),
                       str(chain.get("prio", "–"))))
    assert found == wanted


def nft_rules(live: Live, name: str) -> list[tuple[str, str, str]]:
    """(table, chain, rule) in order; counters are listed without their counts."""
    rules, chain = [], ""
    for line in live.lines("nft", "list", "table", "ip", name):
        opened = re.fullmatch(r"(chain|map) (\S+) \{", line)
        if opened:
            chain = opened[2] if opened[1] == "chain" else ""
        elif chain and line != "}" and not line.startswith("type "):
            rules.append((name, chain, re.sub(r"counter packets \d+ bytes \d+", "counter", line)))
    return rules


def test_nftables_rules(live: Live) -> None:
    wanted = [tuple(line.split("\n")) for row in table("nftables: rules") for line in live.expand("\n".join(row))]
    found = nft_rules(live, "vpc-cni") + nft_rules(live, "aws-cni")
    assert sorted(found) == sorted(wanted)
    for chain in {rule[1] for rule in wanted}:  # within a chain the order matters
        assert [rule for rule in found if rule[1] == chain] == [rule for rule in wanted if rule[1] == chain]


def test_source_map(live: Live) -> None:
    """`addresses` maps every address that EC2 assigned to a secondary ENI, and no other address, to that ENI's chain."""
    listed = " ".join(live.lines("nft", "list", "map", "ip", "vpc-cni", "addresses"))
    assert dict(re.findall(r"([0-9.]+) : goto (eni-\w+)", listed)) == live.slots
    assert not any("elements" in line for line in live.lines("nft", "list", "map", "ip", "vpc-cni", "prefixes"))


def test_iptables_rules(live: Live) -> None:
    wanted = [f"{name} {line}" for name, rule in table("iptables") for line in live.expand(rule)]
    found, name = [], ""
    for line in live.lines("iptables-save"):
        if line.startswith("*"):
            name = line[1:]
        elif line.startswith("-A"):
            found.append(f"{name} {line}")
    assert sorted(found) == sorted(wanted)
    for chain in ("POSTROUTING", "PREROUTING", "AWS-SNAT-CHAIN-0"):
        assert [line for line in found if f"-A {chain} " in line] == [line for line in wanted if f"-A {chain} " in line]


def test_pod(live: Live) -> None:
    """What the page says about a pod's own namespace."""
    pod = live.node.pods[-1]
    host = next(link["address"] for link in live.node.ip("link") if link["ifname"] == pod.host_veth)
    shown = {command: pod.exec(["ip", *command.split()]).stdout for command in ("address", "route", "neigh")}
    assert f"inet {pod.address}/32 scope global eth0" in shown["address"]
    assert [line.strip() for line in shown["route"].strip().split("\n")] == [
        "default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"]
    assert f"169.254.1.1 dev eth0 lladdr {host} PERMANENT" in shown["neigh"]


SERVER = """
import socket
listener = socket.create_server(("0.0.0.0", 8080))
print("listening", flush=True)
while True:
    connection, peer = listener.accept()
    connection.sendall(peer[0].encode())
    connection.close()
"""


def on_secondary(node: Node) -> Pod:
    secondary = {address for eni in node.enis() if eni["index"] for address in eni["addresses"]}
    return next(pod for pod in node.pods if pod.address in secondary)


def test_node_port(vpc: Simulator, live: Live, make_node: Callable[..., Node]) -> None:
    """A NodePort without masquerading (externalTrafficPolicy Local), to a pod on a secondary ENI: its replies leave by
    the primary ENI with the node's address. The VPC would drop them if they left by the pod's own ENI."""
    client = make_node("client", type="m5.large", subnet="b")
    pod = on_secondary(live.node)
    rule = ["PREROUTING", "-p", "tcp", "-d", live.of_node["PRIMARY"], "--dport", "30080", "-j", "DNAT",
            "--to-destination", f"{pod.address}:8080"]
    live.node.instance.run(["iptables", "-t", "nat", "-I", *rule])
    server = live.node.instance.popen(["nsenter", f"--net={pod.netns}", "python3", "-c", SERVER],
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout is not None and server.stdout.readline() == b"listening\n"
        vpc.drops(reset=True)
        ask = f"import socket; print(socket.create_connection(('{live.of_node['PRIMARY']}', 30080), 5).recv(64).decode())"
        seen: Any = client.instance.run(["python3", "-c", ask]).stdout.strip()
        assert seen == client.instance.address, "the pod sees the client's own address"
        assert vpc.drops()["total"] == 0, vpc.drops()
    finally:
        server.kill()
        server.communicate()
        live.node.instance.run(["iptables", "-t", "nat", "-D", *rule])
