"""The kernel state of a node for its ENIs and pods, compared with the state that EC2 and the pods require."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import Any

from . import paths
from .node import Node
from .pod import Pod
from .waiting import wait_for

from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET

INSTANCE_TAG = "node.k8s.amazonaws.com/instance_id"
CREATED_TAG = "node.k8s.amazonaws.com/createdAt"

State = dict[str, set[Any]]


def kernel(node: Node) -> State:
    """Rules, tables, map elements and chains of ENIs, and routes and veths of pods."""
    rules = node.rules()
    routes = node.ip("route", "show", "table", "all")
    elements, own, chains = source_map(node)
    tables = {int(route["table"]) for route in routes if re.fullmatch(r"\d{1,3}", str(route.get("table", "")))}
    return {
        "marks": {(int(rule["fwmark"], 0), int(rule["table"])) for rule in rules if rule["priority"] == 1536},
        "own rules": {(rule["src"], int(rule["table"])) for rule in rules if rule["priority"] == 32765},
        "tables": tables - {253, 254, 255},
        "elements": elements, "own addresses": own, "chains": chains,
        "pod routes": set(node.pod_routes()), "veths": set(node.pod_veths()),
    }


def expected(node: Node, pods: list[Pod]) -> State:
    """The required state: for every attached secondary ENI, and for exactly these pods."""
    secondary = [eni for eni in node.enis() if eni["index"] > 0]
    return {
        "marks": {(eni["index"], eni["index"] + 1) for eni in secondary},
        "own rules": {(eni["primary"], eni["index"] + 1) for eni in secondary},
        "tables": {eni["index"] + 1 for eni in secondary},
        "elements": {(cidr, eni["eni"]) for eni in secondary
                     for cidr in eni["prefixes"] + [each for each in eni["addresses"] if each != eni["primary"]]},
        "own addresses": {(eni["primary"], eni["eni"]) for eni in secondary},
        "chains": {eni["eni"] for eni in secondary},
        "pod routes": {pod.address for pod in pods}, "veths": {pod.host_veth for pod in pods},
    }


def differences(node: Node, pods: list[Pod]) -> list[str]:
    """What is missing and what is extra, in words; also compares the checkpoint and EC2's view of the addresses."""
    have, want = kernel(node), expected(node, pods)
    found = [f"{what}: missing {sorted(want[what] - have[what])}" for what in want if want[what] - have[what]]
    found += [f"{what}: left over {sorted(have[what] - want[what])}" for what in want if have[what] - want[what]]
    addresses = sorted(pod.address for pod in pods)
    if len(set(addresses)) != len(addresses):
        found.append(f"an address was given twice: {addresses}")
    held = sorted(entry["ipv4"] for entry in node.checkpoint())
    if held != addresses:
        found.append(f"the checkpoint has {held}, the pods have {addresses}")
    strange = [address for address in addresses if not owns(node, address)]
    if strange:
        found.append(f"not of this node for EC2: {strange}")
    return found


def owns(node: Node, address: str) -> bool:
    """Whether EC2 has the address on an ENI of the node, as a single address or in a prefix."""
    head, _, last = address.rpartition(".")
    prefix = f"{head}.{int(last) & 0xf0}/28"
    return any(address in eni["addresses"] and address != eni["primary"] or prefix in eni["prefixes"] for eni in node.enis())


def wait_sound(node: Node, pods: list[Pod], deadline: float = 20.0) -> None:
    """Waits until nothing differs. Raises AssertionError with the remaining differences."""
    until = time.monotonic() + deadline
    last: list[str] = []

    def sound() -> bool:
        last[:] = differences(node, pods)
        return not last or time.monotonic() > until

    wait_for(sound, f"{node.name} as it should be", deadline + 30)
    assert not last, f"{node.name}: " + "; ".join(last)


def listing(vpc: Simulator, node: Node) -> str:
    """EC2's own answer to the agent's DescribeNetworkInterfaces call, as bytes on the wire."""
    ec2, got = vpc.ec2(), {}
    ec2.meta.events.register("after-call.ec2.DescribeNetworkInterfaces",
                             lambda http_response, **_: got.update(body=http_response.content.decode()))
    ec2.describe_network_interfaces(Filters=[{"Name": "attachment.instance-id", "Values": [node.instance.instance_id]}])
    return got["body"]


def unattached(vpc: Simulator, node: Node) -> list[dict[str, Any]]:
    """ENIs that carry the node's tag and are unattached."""
    return [eni for eni in vpc.enis()
            if eni["status"] == "available" and eni["tags"].get(INSTANCE_TAG) == node.instance.instance_id]


def assert_talk(vpc: Simulator, pods: list[Pod]) -> None:
    """Each pod reaches the next one and the internet, and the VPC dropped no packet."""
    vpc.drops(reset=True)
    assert_reach(pods)
    assert vpc.drops()["total"] == 0, json.dumps(vpc.drops())


def assert_reach(pods: list[Pod]) -> None:
    """Each pod reaches the next one and the internet."""
    for pod, other in zip(pods, pods[1:] + pods[:1]):
        assert pod.ping(other.address), f"{pod.name} to {other.name}"
        assert pod.ping(INTERNET), f"{pod.name} to the internet"


def source_map(node: Node, family: int = 4) -> tuple[set[tuple[str, str]], set[tuple[str, str]], set[str]]:
    """Pods' addresses and prefixes, and the ENIs' own addresses, each with its ENI; and the ENIs' chains."""
    done: subprocess.CompletedProcess[str] = node.instance.run(["nft", "-j", "list", "table", "ip6" if family == 6 else "ip", "vpc-cni"], check=False)
    elements: set[tuple[str, str]] = set()
    own: set[tuple[str, str]] = set()
    chains: set[str] = set()
    for item in json.loads(done.stdout)["nftables"] if done.returncode == 0 else []:
        if (chain := item.get("chain")) and chain["name"].startswith("eni-"):
            chains.add(chain["name"])
        for key, verdict in (item.get("map") or {}).get("elem", []):
            text = key if isinstance(key, str) else f"{key['prefix']['addr']}/{key['prefix']['len']}"
            (own if item["map"]["name"] == "enis" else elements).add((text, verdict["goto"]["target"]))
    return elements, own, chains
