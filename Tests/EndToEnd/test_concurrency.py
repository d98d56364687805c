"""Many operations at once, and processes that die in the middle."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from harness.node import Node
from harness.pod import Pod, PluginFailure
from harness.waiting import wait_for

ROUNDS = 100


def test_fifty_adds_at_once(make_node: Callable[..., Node]) -> None:
    """An m5.4xlarge holds 29 pod addresses per ENI: a cold pool must grow while 50 ADDs wait, and none may fail."""
    node = make_node("fifty", type="m5.4xlarge", subnet="a")
    node.agent.start()
    pods = node.add_pods(50, at_once=50)
    assert len({pod.address for pod in pods}) == 50
    owned = {address for eni in node.enis() for address in eni["addresses"] if address != eni["primary"]}
    assert {pod.address for pod in pods} <= owned
    node.delete_pods(at_once=25)
    node.wait_clean(deadline=20)


def test_add_twice_is_one_address(make_node: Callable[..., Node]) -> None:
    """Two ADDs at once for one container: they get one address, and DEL leaves nothing."""
    node = make_node("twice", type="m5.large", subnet="a")
    node.agent.start()
    pod = node.pod("twin")
    both = [pod.popen("ADD"), pod.popen("ADD")]
    results = []
    for process in both:
        try:
            results.append(pod.finish(process, "ADD"))
        except PluginFailure:
            pass  # the second may find the interface already there: it fails with a clear error and leaves nothing
    assert results
    pod.delete()
    node.wait_clean()


def test_killed_agents_lose_and_double_nothing(make_node: Callable[..., Node]) -> None:
    """ADD, SIGKILL at a random moment, restart: every pod that got an address keeps it, and no other pod gets it."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    node = make_node("crash", type="m5.large", subnet="a", environment={"IP_COOLDOWN_PERIOD": "0"})
    node.agent.start()
    alive: list[Pod] = []
    for round_number in range(ROUNDS):
        pod = node.pod(f"crash-{round_number}")
        process = pod.popen("ADD")
        moment = time.monotonic() + dice.random() * 0.012
        while time.monotonic() < moment:
            pass
        node.agent.kill()
        node.agent.start()
        try:
            pod.finish(process, "ADD")
            alive.append(pod)
        except PluginFailure as failure:
            assert failure.status == 1 and failure.error["code"] == 999, failure
            pod.delete()  # what a runtime does after a failed ADD
            node.delete_pods([pod])
        addresses = [each.address for each in alive]
        assert len(set(addresses)) == len(addresses), f"round {round_number}: an address was given twice"
        held = {entry["ipv4"] for entry in node.checkpoint()}
        assert set(addresses) <= held, f"round {round_number}: an address was lost"
        if len(alive) > 6:
            victim = alive.pop(dice.randrange(len(alive)))
            node.delete_pods([victim])
    for pod in alive:
        pod.check()
    node.delete_pods(alive)
    node.wait_clean()


def test_killed_plugins_leave_nothing_after_del(make_node: Callable[..., Node]) -> None:
    """The plugin dies at a random moment of ADD; the runtime's DEL, which has no result, cleans up."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    node = make_node("plugin", type="m5.large", subnet="a", environment={"IP_COOLDOWN_PERIOD": "0"})
    node.agent.start()
    for round_number in range(60):
        pod = node.pod(f"killed-{round_number}")
        process = pod.popen("ADD")
        moment = time.monotonic() + dice.random() * 0.010
        while time.monotonic() < moment:
            pass
        process.kill()
        process.communicate()
        pod.delete()
        pod.delete()
        node.delete_pods([pod])
    node.wait_clean()
    again = node.add_pods(9, prefix="after")
    assert len({pod.address for pod in again}) == 9, "every address can be used again"
    node.delete_pods()
    node.wait_clean()


def test_same_name_again_at_once(make_node: Callable[..., Node]) -> None:
    """A StatefulSet's pod is recreated under its name before the old veth is gone; late DELs spare the new pod."""
    node = make_node("again", type="m5.large", subnet="a")
    node.agent.start()
    other = node.pod("other").add()
    old = node.pod("web-0").add()
    for _ in range(10):
        old.delete()
        old.remove_namespace()
        new = Pod(node.instance, "web-0").create_namespace().add()
        old.delete()  # the runtime repeats a DEL
        wait_for(lambda: new.ping(other.address), "the new pod talks", deadline=3)
        old = new
    node.pods = [other, old]
    node.delete_pods()
    node.wait_clean()


def test_parallel_add_and_delete(make_node: Callable[..., Node]) -> None:
    node = make_node("churn", type="m5.xlarge", subnet="b", environment={"IP_COOLDOWN_PERIOD": "0"})
    node.agent.start()

    def life(number: int) -> str:
        pod = Pod(node.instance, f"churn-{number}").create_namespace()
        try:
            address = pod.add().address
            pod.delete()
            return address
        finally:
            pod.remove_namespace()

    with ThreadPoolExecutor(16) as workers:
        addresses = list(workers.map(life, range(80)))
    assert len(addresses) == 80
    node.wait_clean(deadline=20)
    threads = subprocess.run(["ls", f"/proc/{node.agent.pid}/fd"], capture_output=True, text=True, check=True)
    assert len(threads.stdout.split()) < 64, "file descriptors do not pile up"
