"""Agent start, stop and restart, and a node whose agent is not running."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import pytest

from harness import paths
from harness.agent import Agent
from harness.node import Node
from harness.pod import PluginFailure, Pod
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.patience import patient


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    node = make_node("life", type="m5.large", subnet="a")
    node.agent.start()
    return node


def probe(node: Node, *arguments: str) -> int:
    return node.instance.run([str(paths.BINARY), "health", *arguments], check=False).returncode


def test_probe_exit_codes(node: Node) -> None:
    assert probe(node, f"-addr=unix://{paths.AGENT_SOCKET}", "-connect-timeout=5s", "-rpc-timeout=5s") == 0
    assert probe(node, f"-addr=unix://{paths.AGENT_SOCKET}", "-service=grpc.health.v1.aws-node") == 0
    assert probe(node, f"-addr=unix://{paths.AGENT_SOCKET}", "-service=nobody") == 3
    assert probe(node, "-addr=unix:///run/nothing.sock") == 2
    assert probe(node, "-address=x") == 1
    assert probe(node) == 1


def test_a_healthy_life_logs_no_warning(node: Node) -> None:
    """From a node's first start to the agent's exit, the log has none of the lines that an operator greps for."""
    node.add_pods(12)
    node.delete_pods()
    node.wait_clean()
    log = node.agent
    node.agent.stop()
    lines = [json.loads(line) for line in log.log().splitlines()]
    assert len(lines) > 10
    assert [line for line in lines if line["level"] in ("warn", "error", "fatal")] == []


def test_terminates_in_order(node: Node) -> None:
    node.add_pods(2)
    assert node.agent.stop(deadline=5) == 0
    assert node.pods[0].ping(node.pods[1].address), "pods go on without an agent"


def test_restart_keeps_pods(node: Node) -> None:
    node.add_pods(12)
    rules = node.rules()
    addresses = {pod.address for pod in node.pods}
    node.agent.stop()
    node.agent.start()
    assert {entry["ipv4"] for entry in node.checkpoint()} == addresses
    assert all(rule in node.rules() for rule in rules), "a rule went with the restart"
    more = node.add_pods(3, prefix="more")
    assert not addresses & {pod.address for pod in more}
    for pod in node.pods:
        pod.check()


def test_pods_that_ended_while_the_agent_was_away(node: Node) -> None:
    kept, gone = node.add_pods(2)
    node.agent.kill()
    gone.remove_namespace()  # the runtime deleted it together with its DEL
    wait_for(lambda: gone.host_veth not in node.pod_veths(), "its veth went with the namespace")
    node.agent.start()
    # The agent keeps a young entry for some seconds: its plugin could still be running.
    wait_for(lambda: {entry["ipv4"] for entry in node.checkpoint()} == {kept.address}, "the other is dropped")
    gone.delete()
    kept.check()


def test_delete_without_an_agent(node: Node) -> None:
    pod = node.pod("alone").add()
    node.agent.kill()
    pod.delete()
    assert node.pod_veths() == [] and node.pod_routes() == []
    pod.delete()
    pod.remove_namespace()
    node.agent.start()
    wait_for(lambda: node.checkpoint() == [], "its address is taken back")


def test_add_without_an_agent(node: Node) -> None:
    node.agent.kill()
    pod = node.pod("early")
    with pytest.raises(PluginFailure) as failure:
        pod.add()
    assert failure.value.error["code"] == 999
    assert "ipamd.sock" in failure.value.error["msg"], failure.value.error
    assert node.pod_veths() == []
    # A missing namespace is reported first: no agent can fix that.
    with pytest.raises(PluginFailure) as missing:
        Pod(node.instance, "nowhere").add()
    assert missing.value.error["code"] == 4 and "/run/netns/nowhere" in missing.value.error["msg"], missing.value.error


def test_status_and_check(node: Node) -> None:
    pod = node.pod("seen", version="1.1.0").add()
    pod.call("STATUS")
    pod.check()
    node.agent.kill()
    with pytest.raises(PluginFailure) as failure:
        pod.call("STATUS")
    assert failure.value.error["code"] == 50
    node.ip("route", "flush", "table", "20512")
    with pytest.raises(PluginFailure) as broken:
        pod.check()
    assert pod.address in broken.value.error["msg"]


def test_garbage_collection(node: Node) -> None:
    kept, lost = (node.pod(name, version="1.1.0").add() for name in ("kept", "lost"))
    valid = [{"containerID": kept.container, "ifname": kept.interface}]
    kept.call("GC", **{"cni.dev/valid-attachments": valid})
    node_state = {entry["containerID"] for entry in node.checkpoint()}
    assert node_state == {kept.container}
    kept.check()
    lost.delete()
    kept.delete()
    node.wait_clean()


def test_delete_of_the_unknown(node: Node) -> None:
    stranger = Pod(node.instance, "stranger")
    stranger.delete()
    stranger.delete()


def test_addresses_rest_before_they_are_used_again(make_node: Callable[..., Node]) -> None:
    node = make_node("rest", type="m5.large", subnet="a", environment={"IP_COOLDOWN_PERIOD": "3600"})
    node.agent.start()
    first = node.pod("first").add()
    used = first.address
    node.delete_pods()
    later = node.add_pods(12, prefix="later")
    assert used not in {pod.address for pod in later}


@pytest.mark.parametrize("content", [
    b"", b"{", b"\x00\xff" * 100, b'{"version":"vpc-cni-ipam/9","allocations":[]}',
    b'{"version":"vpc-cni-ipam/1","allocations":[{"networkName":7}]}', b"[" * 100000,
])
def test_damaged_checkpoint_never_stops_the_start(node: Node, content: bytes) -> None:
    pod = node.pod("survivor").add()
    node.agent.kill()
    node.instance.run(["sh", "-c", f"cat > {paths.CHECKPOINT}"], input=content, text=False)
    node.agent.start()
    fresh = node.add_pods(3, prefix="fresh")
    assert pod.address not in {other.address for other in fresh}, "an address in use on the node was given again"
    assert pod.ping(fresh[0].address)


def test_a_removed_checkpoint_cuts_no_pod_off(node: Node) -> None:
    first, second = node.add_pods(2)
    node.agent.kill()
    node.instance.run(["rm", paths.CHECKPOINT])
    node.agent.start()
    assert first.ping(second.address)
    assert {first.address, second.address} <= {entry["ipv4"] for entry in node.checkpoint()}
    node.delete_pods()
    node.wait_clean()


def test_a_second_agent_touches_nothing(node: Node) -> None:
    node.add_pods(1)
    before = node.checkpoint()
    second = Agent(node.instance)
    second.start(wait=False)
    # The second agent waits some seconds, in case the first one is shutting down.
    assert second.process is not None and second.process.wait(timeout=patient(20)) == 1
    second.kill()
    assert "another server is listening" in second.log()
    assert node.checkpoint() == before and node.agent.healthy()


def test_an_agent_waits_for_the_one_before_it(node: Node) -> None:
    """The socket of a killed agent accepts connections until the kernel has freed the agent's memory, and an agent that
    received SIGTERM has work to finish. The next agent waits in both cases."""
    pod = node.add_pods(1)[0]
    first = node.agent
    # A stopped agent neither serves nor exits, and its socket accepts connections, like a process that is being killed.
    os.kill(first.pid, signal.SIGSTOP)
    node.agent = Agent(node.instance, first.environment)
    node.agent.start(wait=False)
    wait_for(lambda: "another agent still listens" in node.agent.log(), "the second agent waiting", 10)
    first.kill()
    wait_for(node.agent.ready_or_dead, "the second agent ready", 20)
    pod.check()
    assert [entry["ipv4"] for entry in node.checkpoint()] == [pod.address]


def test_the_checkpoint_is_for_root_alone(node: Node) -> None:
    """amazon-vpc-cni-k8s uses mode 0600: the file holds what a forged DEL needs. The agent tightens the mode of a file
    that an earlier release wrote."""
    def mode() -> str:
        return node.instance.run(["stat", "-c", "%a", paths.CHECKPOINT]).stdout.strip()

    node.add_pods(1)
    assert mode() == "600"
    node.agent.stop()
    node.instance.run(["chmod", "644", paths.CHECKPOINT])
    node.agent.start()
    assert mode() == "600"


def test_half_damaged_checkpoint_keeps_what_is_sound(node: Node) -> None:
    first, second = node.add_pods(2)
    node.agent.stop()
    document = json.loads(node.instance.run(["cat", paths.CHECKPOINT]).stdout)
    document["allocations"].append({"networkName": "aws-cni", "containerID": "x", "ifName": 1, "ipv4": "nonsense"})
    document["allocations"].append(document["allocations"][0])
    node.instance.run(["sh", "-c", f"cat > {paths.CHECKPOINT}"], input=json.dumps(document))
    node.agent.start()
    assert {entry["ipv4"] for entry in node.checkpoint()} == {first.address, second.address}


def test_limit_of_the_instance_is_told(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """A t3.nano has 2 ENIs of 2 addresses: the third pod is refused at once, and the pod's event names the cause."""
    node = make_node("nano", type="t3.nano", subnet="b")
    node.agent.start()
    node.add_pods(2)
    third = node.pod("third")
    with pytest.raises(PluginFailure) as failure:
        third.add()
    message = failure.value.error["msg"]
    assert message.startswith("add cmd: failed to assign an IP address to container"), message
    assert "ENI" in message and "limit" in message, message
