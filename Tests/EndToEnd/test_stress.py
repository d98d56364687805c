"""The plugin under many calls at once, some of which are killed midway: at the end nothing is left, by exact counts."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.node import Node
from harness.pod import PluginFailure, Pod
from harness.waiting import wait_for

LIVES, AT_ONCE, NAMES = 200, 32, 48


class Pace:
    """The duration of each kind of call on this machine now, so that a kill happens during the call and hits every part."""

    def __init__(self) -> None:
        self._seconds = {"ADD": 0.05, "DEL": 0.05}
        self._lock = threading.Lock()

    def seconds(self, command: str) -> float:
        with self._lock:
            return self._seconds[command]

    def took(self, command: str, seconds: float) -> None:
        """Records a call that completed: the last few calls count most."""
        with self._lock:
            self._seconds[command] += (seconds - self._seconds[command]) / 8


@dataclass
class Inventory:
    """What a node's kernel and its agent hold. Two inventories of a node without pods must be equal."""

    links: list[str]
    routes: list[str]
    rules: list[str]
    neighbours: list[str]
    firewall: list[str]
    descriptors: list[str]
    allocations: list[Any]

    @staticmethod
    def of(node: Node) -> Inventory:
        def lines(*words: str) -> list[str]:
            return sorted(line.strip() for line in node.instance.run(list(words), check=False).stdout.splitlines())

        neighbours = [line for line in lines("ip", "neigh", "show") if " dev eni" in line]
        firewall = [line.split("[")[0] for line in lines("iptables-save") if not line.startswith("#")]
        return Inventory(lines("ip", "-brief", "link"), lines("ip", "-4", "route", "show", "table", "all"),
                         lines("ip", "rule"), neighbours, firewall, descriptors(node.agent.pid), node.checkpoint())

    def differences(self, other: Inventory) -> list[str]:
        found = []
        for name in vars(self):
            mine, theirs = Counter(map(str, getattr(self, name))), Counter(map(str, getattr(other, name)))
            found += [f"{name} gone: {each}" for each in (mine - theirs).elements()]
            found += [f"{name} left over: {each}" for each in (theirs - mine).elements()]
        return found


def descriptors(process: int) -> list[str]:
    """What each descriptor of a process refers to. TCP is left out: idle connections to EC2 come and go."""
    kinds = {}
    for kind, column in (("unix", 6), ("netlink", 9)):
        for line in Path(f"/proc/{process}/net/{kind}").read_text(encoding="ascii", errors="replace").splitlines()[1:]:
            kinds[f"socket:[{line.split()[column]}]"] = kind
    found = []
    for number in os.listdir(f"/proc/{process}/fd"):
        try:
            target = os.readlink(f"/proc/{process}/fd/{number}")
        except FileNotFoundError:
            continue  # closed during the look
        if target.startswith("socket:") and target not in kinds:
            continue
        found.append(kinds.get(target, target.split(":[")[0]))
    return sorted(found)


def namespace_of(pod: Pod) -> int:
    return int(pod.instance.run(["stat", "-L", "-c", "%i", pod.netns]).stdout)


def holders(node: Node, namespaces: set[int]) -> list[str]:
    """Mounts, processes and descriptors of the node that keep one of these network namespaces alive.

    Other processes of the machine are not checked: the kernel reuses the number of a deleted namespace for somebody else's.
    """
    found = node.instance.run(["awk", "$0 ~ / - nsfs / { print $5 }", "/proc/self/mountinfo"]).stdout.split()
    mounts = os.readlink(f"/proc/{node.agent.pid}/ns/mnt")
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{process}/ns/mnt") != mounts:
                continue
            paths = [f"/proc/{process}/ns/net", *(f"/proc/{process}/fd/{each}" for each in os.listdir(f"/proc/{process}/fd"))]
        except OSError:
            continue
        for path in paths:
            try:
                target = os.readlink(path)
            except OSError:
                continue
            if target.startswith("net:[") and int(target[5:-1]) in namespaces:
                found.append(path)
    return found


def assert_as_before(node: Node, before: Inventory, deadline: float = 30.0) -> None:
    """The agent removes things after its answers, and connections close after that: waits until all is as it was, or
    fails with the differences."""
    last: list[str] = []

    def same() -> bool:
        last[:] = before.differences(Inventory.of(node))
        return not last

    try:
        wait_for(same, "all as before", deadline, pause=0.1)
    except TimeoutError:
        pytest.fail(f"{node.name} is not as it was before: {len(last)} differences: {last[:20]}")


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """All addresses of the type are in the pool and can be reused at once: no EC2 call changes the node meanwhile."""
    made = make_node("stress", type="m5.2xlarge", subnet="a", environment={
        "MINIMUM_IP_TARGET": "56", "WARM_IP_TARGET": "1", "IP_COOLDOWN_PERIOD": "0"})
    made.agent.start()
    wait_for(lambda: len(made.enis()) == 4, "four ENIs", 30)
    made.wait_quiet()
    made.delete_pods(made.add_pods(4, prefix="warm-up"))
    made.wait_clean()
    return made


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


class Life:
    """The life of one pod: ADD, a check that it talks, DEL; either call may be killed midway, and is then repeated."""

    def __init__(self, node: Node, name: str, seed: int, pace: Pace) -> None:
        self.node = node
        self.pace = pace
        self.dice = random.Random(seed)
        self.pod = Pod(node.instance, name)
        self.kills = 0
        self.namespaces: set[int] = set()

    def run(self) -> Life:
        kills_add, kills_delete = self.dice.random() < 0.5, self.dice.random() < 0.5
        self._begin()
        if kills_add and self._killed("ADD"):
            # What a runtime does after a failed ADD. It may keep the namespace, or make a new pod with the name.
            self._delete(kills_delete)
            if self.dice.random() < 0.5:
                self._end()
                self.pod = Pod(self.node.instance, self.pod.name)
                self._begin()
            else:
                wait_for(lambda: self.pod.exec(["ip", "link", "show", "eth0"], check=False).returncode != 0, "the interface gone", 30)
        if self.pod.result is None:
            self._whole("ADD", self.pod.add)
        assert self.node.instance.run(["ping", "-c1", "-w3", self.pod.address], check=False).returncode == 0, self.pod.name
        self._delete(kills_delete)
        self._end()
        return self

    def _begin(self) -> None:
        self.pod.create_namespace()
        self.namespaces.add(namespace_of(self.pod))

    def _end(self) -> None:
        self.pod.remove_namespace()

    def _delete(self, kill: bool) -> None:
        if kill:
            self._killed("DEL")
        self._whole("DEL", self.pod.delete)

    def _whole(self, command: str, call: Callable[[], Any]) -> None:
        began = time.monotonic()
        call()
        self.pace.took(command, time.monotonic() - began)

    def _killed(self, command: str) -> bool:
        """Whether the call was killed before its end; if it was not, its result is used."""
        more = {"prevResult": self.pod.result} if command == "DEL" and self.pod.result else {}
        process = self.pod.popen(command, **more)
        moment = time.monotonic() + self.dice.random() * self.pace.seconds(command)
        try:
            self.pod.finish(process, command, timeout=max(0.0, moment - time.monotonic()))
            return False
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        self.kills += 1
        return True


def test_two_hundred_lives_half_of_them_killed(node: Node, dice: random.Random) -> None:
    before = Inventory.of(node)
    # A name belongs to one pod at a time, as in a cluster; the next pod starts as soon as the runtime has let go of the last.
    turns = {f"web-{number}": threading.Lock() for number in range(NAMES)}
    plan = [(f"web-{dice.randrange(NAMES)}", dice.randrange(1 << 32)) for _ in range(LIVES)]
    pace = Pace()

    def live(entry: tuple[str, int]) -> Life:
        with turns[entry[0]]:
            return Life(node, *entry, pace).run()

    with ThreadPoolExecutor(AT_ONCE) as workers:
        lives = list(workers.map(live, plan))
    kills = sum(life.kills for life in lives)
    print(f"{kills} killed on the way")
    assert kills >= LIVES // 4
    assert_as_before(node, before)
    namespaces = {each for life in lives for each in life.namespaces}
    wait_for(lambda: not holders(node, namespaces), "no reference to a pod's namespace", 20, pause=0.1)
    # Every address can be assigned again, each once.
    again = node.add_pods(56, prefix="again", at_once=AT_ONCE)
    assert len({pod.address for pod in again}) == 56
    node.delete_pods(at_once=AT_ONCE)
    assert_as_before(node, before)


def test_two_adds_of_one_container(node: Node) -> None:
    """Runtimes must not do this, but one that does gets one working pod: the losing ADD removes neither interface nor address."""
    before = Inventory.of(node)
    lost = 0
    for number in range(25):
        pod = node.pod(f"twin-{number}")
        both = [pod.popen("ADD") for _ in range(2)]
        answers = []
        for process in both:
            try:
                answers.append(pod.finish(process, "ADD"))
            except PluginFailure as failure:
                lost += 1
                assert "exists already" in failure.error["msg"], failure
        assert len(answers) == 1, "one interface has one maker"
        pod.check()
        assert node.instance.run(["ping", "-c1", "-w3", pod.address], check=False).returncode == 0
        assert [entry["ipv4"] for entry in node.checkpoint()] == [pod.address]
        node.delete_pods([pod])
        node.wait_clean()
    assert lost == 25
    assert_as_before(node, before)


def test_add_into_a_namespace_that_goes(node: Node, dice: random.Random) -> None:
    """The sandbox is torn down while its ADD runs: whatever ADD returns, DEL leaves nothing."""
    before = Inventory.of(node)
    failures: list[str] = []

    def race(number: int) -> None:
        pod = Pod(node.instance, f"going-{number}").create_namespace()
        process = pod.popen("ADD")
        try:
            process.wait(timeout=dice.random() * 0.05)
        except subprocess.TimeoutExpired:
            pass  # the usual case
        pod.remove_namespace()
        try:
            pod.finish(process, "ADD")
        except PluginFailure as failure:
            failures.append(failure.error["msg"])
        pod.delete()

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(race, range(80)))
    print(f"{len(failures)} of 80 refused: {Counter(text.rpartition(': ')[2] for text in failures)}")
    assert len(failures) < 80, "some ADDs were quicker"
    assert_as_before(node, before)


def test_same_name_before_the_old_veth_is_gone(node: Node) -> None:
    """A new pod takes the name while the old namespace, and so the old veth, still exist: the new pod talks, and the old
    pod's late DEL does it no harm."""
    before = Inventory.of(node)
    olds = []
    pod = node.pod("web-0").add()
    for _ in range(20):
        old = pod
        # The old namespace survives under another name, as when a process of the pod has not ended yet.
        node.instance.run(["ip", "netns", "attach", f"old-{len(olds)}", str(_keeper(old))])
        olds.append(old)
        pod = Pod(node.instance, "web-0")
        node.instance.run(["ip", "netns", "del", "web-0"])
        pod.create_namespace().add()
        old.delete()
        pod.check()
        assert node.instance.run(["ping", "-c1", "-w3", pod.address], check=False).returncode == 0
    for number, old in enumerate(olds):
        _let_go(old)
        node.instance.run(["ip", "netns", "del", f"old-{number}"])
    pod.check()
    node.pods = [pod]
    node.delete_pods()
    assert_as_before(node, before)


_KEEPERS: dict[str, Any] = {}


def _keeper(pod: Pod) -> int:
    """A process in the pod's namespace."""
    process = pod.instance.popen(["nsenter", f"--net={pod.netns}", "cat"], stdin=-1, stdout=-3)
    wait_for(lambda: os.readlink(f"/proc/{process.pid}/ns/net") == f"net:[{namespace_of(pod)}]", "a process in the pod")
    _KEEPERS[pod.container] = process
    return process.pid


def _let_go(pod: Pod) -> None:
    process = _KEEPERS.pop(pod.container)
    process.kill()
    process.wait()
    process.stdin.close()
