"""A real container runtime: containerd calls the plugin as on a node, and the test acts as the kubelet."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import paths
from harness.containerd import Containerd, Sandbox
from harness.cri import CONTAINER_RUNNING, RuntimeRefused
from harness.node import Node
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET

PODS = 30


def at_once(runtime: Containerd, names: list[str]) -> list[Sandbox]:
    with ThreadPoolExecutor(len(names)) as workers:
        return list(workers.map(runtime.run_pod, names))


def end_at_once(runtime: Containerd, sandboxes: list[Sandbox]) -> None:
    def end(sandbox: Sandbox) -> None:
        runtime.stop_pod(sandbox)
        runtime.remove_pod(sandbox)

    with ThreadPoolExecutor(len(sandboxes)) as workers:
        list(workers.map(end, sandboxes))


def remains(node: Node) -> dict[str, list[str]]:
    """What a runtime keeps of a pod's network, in addition to what `Node.leftovers` checks."""
    mounts = node.instance.run(["sh", "-c", "awk '$0 ~ / - nsfs / { print $5 }' /proc/self/mountinfo"]).stdout.split()
    results = node.instance.run(["sh", "-c", "ls /var/lib/cni/results 2>/dev/null || true"]).stdout.split()
    names = node.instance.run(["ls", "/run/netns"]).stdout.split()
    return {"mounts of namespaces": mounts, "results": results, "names of namespaces": names}


def talks(runtime: Containerd, sandbox: Sandbox, address: str) -> bool:
    return runtime.run_in_pod(sandbox, ["ping", "-q", "-n", "-c", "1", "-w", "3", address]).returncode == 0


def test_thirty_pods_at_once_live_through_restarts(
    vpc: Simulator, make_node: Callable[..., Node], make_runtime: Callable[..., Containerd],
) -> None:
    here = make_node("runtime-a", type="m5.2xlarge", subnet="a", environment={"IP_COOLDOWN_PERIOD": "0"})
    there = make_node("runtime-b", type="m5.large", subnet="b")
    for node in (here, there):
        node.agent.start()
    runtime, other = make_runtime(here), make_runtime(there)
    pods = at_once(runtime, [f"web-{number}" for number in range(PODS)])
    far = at_once(other, ["far-0", "far-1"])
    addresses = {pod.id: runtime.address(pod) for pod in pods}
    assert len(set(addresses.values())) == PODS
    assert set(addresses.values()) == {entry["ipv4"] for entry in here.checkpoint()}
    far_addresses = [other.address(pod) for pod in far]

    def all_talk(living: list[Sandbox]) -> None:
        vpc.drops(reset=True)
        for number, pod in enumerate(living):
            assert talks(runtime, pod, far_addresses[number % 2]), f"{pod.name} to the other node"
        for pod in far:
            assert talks(other, pod, addresses[living[0].id]), "the other node to this one"
            assert talks(other, pod, INTERNET)
        assert vpc.drops()["total"] == 0, vpc.drops()

    all_talk(pods)
    container = runtime.run_container(pods[0], "app", Containerd.BUSYBOX, ["sh", "-c", "echo up; exec sleep 1000"])
    wait_for(lambda: "up" in runtime.container_log(pods[0], "app"), "the container's log")
    assert runtime.exec(container, ["ping", "-c", "1", "-W", "3", far_addresses[0]]).returncode == 0

    runtime.kill()
    runtime.start()
    assert here.agent.stop() == 0
    here.agent.start()
    assert runtime.container_status(container).state == CONTAINER_RUNNING
    assert {pod.id for pod in runtime.sandboxes()} == {pod.id for pod in pods}
    all_talk(pods)

    # While no agent runs, pods can end, and pods that want to start are told why they cannot.
    here.agent.kill()
    end_at_once(runtime, pods[:PODS // 2])
    with pytest.raises(RuntimeRefused, match=r"Error received from AddNetwork gRPC call"):
        runtime.run_pod("early")
    here.agent.start()
    pods = pods[PODS // 2:]
    wait_for(lambda: {entry["ipv4"] for entry in here.checkpoint()} == {addresses[pod.id] for pod in pods},
             "addresses of pods that ended without the agent are taken back", 20)
    again = at_once(runtime, [f"web-{number}" for number in range(PODS // 2)])
    addresses |= {pod.id: runtime.address(pod) for pod in again}
    assert len({addresses[pod.id] for pod in pods + again}) == PODS
    all_talk(pods + again)

    end_at_once(runtime, pods + again)
    end_at_once(other, far)
    for node, its in ((here, runtime), (there, other)):
        node.wait_clean(deadline=30)
        assert [pod.name for pod in its.sandboxes()] == []
        assert not any(remains(node).values()), remains(node)


def test_pod_without_address_hears_the_cause(
    make_node: Callable[..., Node], make_runtime: Callable[..., Containerd],
) -> None:
    """The pod's event shows the runtime's error: the contract's sentence and the cause."""
    node = make_node("runtime-full", type="t3.nano", subnet="a", environment={"MAX_ENI": "1"})
    node.agent.start()
    runtime = make_runtime(node)
    held = at_once(runtime, ["one"])
    with pytest.raises(RuntimeRefused, match="failed to assign an IP address to container: ENI limit reached: 1 of 1"):
        runtime.run_pod("two")
    end_at_once(runtime, [*held, *(pod for pod in runtime.sandboxes() if pod.id != held[0].id)])
    node.wait_clean()
    assert not any(remains(node).values()), remains(node)
    assert node.instance.run(["cat", paths.PLUGIN_LOG]).stdout.count('"code":"999"') == 1
