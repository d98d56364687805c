"""From the DaemonSet of amazon-vpc-cni-k8s to this one and back, on a live node with running pods (docs/install.md).

The model in test_takeover writes what amazon-vpc-cni-k8s leaves: policy rules, routes, firewall, checkpoint, conflist.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import paths
from harness.connection import Connection
from harness.entrypoint import CONFLIST, Entrypoint
from harness.node import Node
from harness.pod import Pod
from harness.reference import ReferenceAgent, ReferencePod
from harness.state import assert_talk, wait_sound
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.patience import patient
from test_takeover import far, is_per_pod, pod_rules, theirs  # noqa: F401  fixtures

# New pods start within this time after the new agent's start, in both directions.
SECONDS = 5.0


@pytest.fixture
def make_entrypoint() -> Iterator[Callable[..., Entrypoint]]:
    made: list[Entrypoint] = []

    def make(node: Node, **environment: str) -> Entrypoint:
        made.append(Entrypoint(node, environment))
        return made[-1]

    yield make
    for each in made:
        each.close()


def existing_host(node: Node) -> None:
    """The programs and the conflist of amazon-vpc-cni-k8s, with the chained plugin."""
    node.instance.run(["sh", "-c", f"rm -f {paths.PLUGIN}; mkdir -p /etc/cni/net.d; printf theirs >{paths.PLUGIN}; "
                       f"printf theirs >/opt/cni/bin/egress-cni; chmod +x /opt/cni/bin/*; cat >{CONFLIST}"], input=json.dumps({
        "cniVersion": "0.4.0", "name": "aws-cni", "disableCheck": True, "plugins": [
            {"name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001", "podSGEnforcingMode": "strict",
             "pluginLogFile": paths.PLUGIN_LOG, "pluginLogLevel": "DEBUG"},
            {"name": "egress-cni", "type": "egress-cni", "mtu": "9001", "enabled": "false", "nodeIP": ""},
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}]}))


def seconds_to_a_pod(node: Node, name: str, began: float) -> tuple[Pod, float]:
    """Starts a new pod like kubelet, with retries until it works. Returns it and the seconds since `began`."""
    pod = node.pod(name)

    def started() -> bool:
        try:
            pod.add()
        except RuntimeError:
            return False
        return True

    wait_for(started, f"{name} starts", 30, pause=0.05)
    return pod, time.monotonic() - began


def connections(pods: list[Any], far: Pod) -> list[Connection]:
    """Connections of pods on both ENIs: to another node, from it, and between them; the third and fourth pod have none."""
    return [Connection(pods[0], far, 7000), Connection(far, pods[4], 7001), Connection(pods[1], pods[4], 7002)]


def test_upgrade_and_rollback(
    vpc: Simulator, theirs: tuple[Node, list[ReferencePod]], far: Pod, make_entrypoint: Callable[..., Entrypoint],
) -> None:
    node, old = theirs
    existing_host(node)
    running = connections(old, far)

    # MARK: upgrade
    began = time.monotonic()
    entrypoint = make_entrypoint(node).start()
    wait_for(lambda: node.instance.run(["cmp", paths.PLUGIN, str(paths.BINARY)], check=False).returncode == 0, "our plugin")
    first, seconds = seconds_to_a_pod(node, "first", began)
    entrypoint.wait_conflist()
    print(f"a pod {seconds:.2f} s after the new agent's start")
    assert seconds < SECONDS
    assert [each["type"] for each in json.loads(entrypoint.conflist())["plugins"]] == ["aws-cni", "egress-cni", "portmap"]
    wait_for(lambda: not pod_rules(node) or None, "the old pods' rules are taken over", 30)
    wait_sound(node, [*old, first])

    # Our plugin deletes pods of the old plugin, and the other way round.
    ended, by_theirs = old[2], old[3]
    ended.delete()
    assert by_theirs.delete_as_reference()["Success"] is True
    for gone in (ended, by_theirs):
        gone.remove_namespace()
    old = [pod for pod in old if pod not in (ended, by_theirs)]
    wait_sound(node, [*old, first])
    assert_talk(vpc, [*old, first, far])

    # MARK: rollback
    assert entrypoint.terminate() == 0
    per_pod = make_entrypoint(node, VPC_CNI_POD_RULES="per-pod").start().wait_conflist()
    wait_for(lambda: is_per_pod(node, [*old, first]) or None, "the existing system's rules for every pod", 30)
    second = node.pod("second").add()
    assert per_pod.terminate() == 0
    held = {pod.address for pod in [*old, first, second]}
    assert {entry["ipv4"] for entry in node.checkpoint()} == held, "what their agent reads"
    node.instance.run(["sh", "-c", f"rm {paths.PLUGIN}; printf theirs >{paths.PLUGIN}"])
    began = time.monotonic()
    free = [{"ip": address, "device": eni["index"], "table": eni["index"] + 1 if eni["index"] else 254}
            for eni in node.enis() for address in eni["addresses"] if address != eni["primary"] and address not in held]
    agent = ReferenceAgent(node.instance, free)
    try:
        late = ReferencePod(node.instance, "late").create_namespace()
        node.pods.append(late)
        late.add_as_reference()
        assert time.monotonic() - began < patient(SECONDS + 5), "the model's own start included"
        assert_talk(vpc, [*old, first, second, late, far])
        echoes = [each.end() for each in running]
        assert all(count > 50 for count in echoes), echoes
        print(f"connections that lived through it all: {echoes} echoes")
    finally:
        agent.stop()
        for each in running:
            each.stop()
