"""SIGKILL at every step of growing the pool and of giving back addresses and ENIs; the next agent must recover.

There are two kinds of steps, and the product has no test hook for either:
- each EC2 call: the simulated EC2 kills the agent once the call is executed, before the answer or just after it;
- each step in the kernel: strace counts what the agent's `kernel` thread writes (netlink messages, sysctls, log lines) and
  kills the agent at the n-th write, for every n.

After each kill, a new agent starts and must settle with exactly the state that EC2 and the pods require: nothing is
lost or duplicated, no rule, route, map element or table of something deleted remains, and the sweep can find any ENI left.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from harness.node import Node
from harness.state import CREATED_TAG, assert_reach, unattached, wait_sound
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import EC2_ADDRESS, IMDS_ADDRESS
from simulator.patience import patient

AT_ONCE = 3
WRITES = "sendmsg,sendto,write"
# Seconds of the agent's time within which it reconciles the whole node once more: those steps count too.
A_LOOK = 75.0
BY_ADDRESS = {"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"}
BY_PREFIX = {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"}


@dataclass
class Case:
    """A node on which one more step starts the work that the test interrupts."""

    environment: dict[str, str]
    gives_back: bool
    before: int = 0  # the number of pods that exist before that step
    addresses: int = 0  # the number of addresses that the node has then, including the warm ones

    def prepare(self, node: Node) -> None:
        node.agent.start()
        settle(node)
        if self.before:
            node.add_pods(self.before, prefix="before")
            wait_for(lambda: sum(count for count, _ in node.shape()) >= self.addresses, f"{node.name}: warm addresses", 30)
            settle(node)

    def provoke(self, node: Node) -> None:
        """Adds one pod, which gets an address from the pool and makes the pool grow; or deletes the pods."""
        if self.gives_back:
            node.delete_pods()
            assert node.agent.clock is not None
            node.agent.clock.rate = 60
        else:
            node.add_pods(1, prefix="one")


ATTACH = Case({}, gives_back=False)
FREE = Case({}, gives_back=True, before=1, addresses=6)
ASSIGN = Case(BY_ADDRESS, gives_back=False, before=4, addresses=5)  # the second ENI has two of its three addresses
UNASSIGN = Case(BY_ADDRESS, gives_back=True, before=5, addresses=6)
ASSIGN_PREFIX = Case(BY_PREFIX, gives_back=False)


def settle(node: Node) -> None:
    """Waits until the agent has no more EC2 calls to make. These tests have no other timing."""
    with node.hurry(5):
        node.wait_quiet()


def assert_sound(node: Node) -> None:
    """EC2 may give an address back to the ENI that it was just unassigned from. If the answer to that call was lost, the
    agent uses the address a minute later: the call may still be carried out. The wait covers that minute."""
    with node.hurry(5):
        wait_sound(node, node.pods)


def at_once(jobs: Iterable[Callable[[], None]]) -> None:
    """Runs the jobs, some at a time, and reports every failure."""
    failures: list[str] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except (AssertionError, TimeoutError, RuntimeError, subprocess.SubprocessError) as error:
            failures.append(str(error))

    with ThreadPoolExecutor(AT_ONCE) as workers:
        list(workers.map(run, jobs))
    assert not failures, "\n".join(failures)


def wait_killed(node: Node, what: str) -> None:
    process = node.agent.process
    assert process is not None
    wait_for(lambda: process.poll() is not None, f"{node.name}: the agent is killed at {what}", 30)
    assert process.returncode == -9, f"{node.name}: the agent ended with {process.returncode} at {what}"
    if node.agent.clock is not None:
        node.agent.clock.rate = 1
    node.agent.kill()


def lost(vpc: Simulator) -> list[dict[str, object]]:
    """Packets that the fabric dropped, except the packets of EC2 and IMDS: these keep answering killed agents at
    addresses that other nodes may have by then, and those nodes send such packets back."""
    return [flow for flows in vpc.drops()["flows"].values() for flow in flows
            if flow["source"] not in (EC2_ADDRESS, IMDS_ADDRESS)]


def is_killed_giving_back(node: Node) -> bool:
    """False if everything was given back and the agent is still running."""
    process = node.agent.process
    assert process is not None
    wait_for(lambda: process.poll() is not None or len(node.enis()) == 1, f"{node.name}: the agent dies or ends its work", 30)
    if process.poll() is None:
        node.wait_quiet(still_for=A_LOOK)
    return process.poll() is not None


def assert_made_good(vpc: Simulator, node: Node, may_be_left: set[int]) -> None:
    """A new agent recovers the node."""
    node.agent.start()
    settle(node)
    assert_sound(node)
    left = unattached(vpc, node)
    assert len(left) in may_be_left, f"{node.name}: ENIs left over: {left}"
    assert all(CREATED_TAG in eni["tags"] for eni in left), f"{node.name}: the sweep would not find {left}"
    secondary = [eni for eni in node.enis() if eni["index"]]
    assert all(eni["delete_on_termination"] for eni in secondary), f"{node.name}: an ENI would outlive the instance"
    node.add_pods(5 - len(node.pods), prefix="late")  # more pods than one ENI has addresses
    settle(node)
    assert_sound(node)
    assert_reach(node.pods)
    for eni in left:
        vpc.ec2().delete_network_interface(NetworkInterfaceId=eni["eni"])


# Once EC2 has sent the answer, the agent may have begun the next step before it was killed.
CALLS: list[tuple[str, Case, str, set[int]]] = [
    ("CreateNetworkInterface", ATTACH, "after", {1}), ("CreateNetworkInterface", ATTACH, "answered", {0, 1}),
    ("AttachNetworkInterface", ATTACH, "after", {0}), ("AttachNetworkInterface", ATTACH, "answered", {0}),
    ("ModifyNetworkInterfaceAttribute", ATTACH, "after", {0}), ("ModifyNetworkInterfaceAttribute", ATTACH, "answered", {0}),
    ("AssignPrivateIpAddresses", ASSIGN, "after", {0}), ("AssignPrivateIpAddresses", ASSIGN, "answered", {0}),
    ("AssignPrivateIpAddresses", ASSIGN_PREFIX, "after", {0}), ("AssignPrivateIpAddresses", ASSIGN_PREFIX, "answered", {0}),
    ("UnassignPrivateIpAddresses", UNASSIGN, "after", {0}), ("UnassignPrivateIpAddresses", UNASSIGN, "answered", {0}),
    ("DetachNetworkInterface", FREE, "before", {0}),
    ("DetachNetworkInterface", FREE, "after", {1}), ("DetachNetworkInterface", FREE, "answered", {0, 1}),
    ("DeleteNetworkInterface", FREE, "after", {0}), ("DeleteNetworkInterface", FREE, "answered", {0}),
]


@pytest.fixture
def make_crash_node(make_node: Callable[..., Node]) -> Callable[..., Node]:
    def make(name: str, case: Case) -> Node:
        """A t3.small: 3 ENIs with 3 pod addresses each."""
        node = make_node(name, type="t3.small", subnet="a", fast_clock=True,
                         environment={"IP_COOLDOWN_PERIOD": "1", **case.environment})
        case.prepare(node)
        return node

    return make


def test_killed_at_each_call(vpc: Simulator, make_crash_node: Callable[..., Node]) -> None:
    def crash(number: int, action: str, case: Case, when: str, may_be_left: set[int]) -> None:
        node = make_crash_node(f"call{number}", case)
        vpc.fault(action, when=when, caller=node.name, kill=node.agent.pid)
        case.provoke(node)
        wait_killed(node, f"{action}, {when}")
        assert_made_good(vpc, node, may_be_left)
        node.discard()

    vpc.drops(reset=True)
    at_once(lambda each=each, number=number: crash(number, *each) for number, each in enumerate(CALLS))
    assert not lost(vpc), json.dumps(vpc.drops())


# MARK: the kernel's side


def trace_kernel_thread(node: Node, *options: str) -> subprocess.Popen[str]:
    """Attaches strace to the thread that changes the kernel's state; it counts from that moment."""
    tasks = f"/proc/{node.agent.pid}/task"

    def name(task: str) -> str:
        try:
            with open(f"{tasks}/{task}/comm", encoding="utf-8") as file:
                return file.read().strip()
        except OSError:  # the thread has ended in the meantime
            return ""

    thread = next(task for task in os.listdir(tasks) if name(task) == "kernel")
    tracer = subprocess.Popen(["strace", "-p", thread, "-e", f"trace={WRITES}", *options], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    assert "attached" in line, line
    return tracer


def finish(tracer: subprocess.Popen[str]) -> list[str]:
    """The names of the system calls that strace saw."""
    tracer.terminate()
    _, lines = tracer.communicate(timeout=patient(10))
    names = (line.partition("(")[0] for line in lines.splitlines())
    return [name for name in names if name in WRITES.split(",")]


@pytest.mark.parametrize("name, case", [("attach", ATTACH), ("free", FREE), ("assign", ASSIGN)])
def test_killed_at_each_step_in_the_kernel(
    vpc: Simulator, make_crash_node: Callable[..., Node], name: str, case: Case
) -> None:
    survey = make_crash_node(f"{name}-all", case)
    tracer = trace_kernel_thread(survey)
    case.provoke(survey)
    if case.gives_back:
        wait_for(lambda: len(survey.enis()) == 1, "the ENI goes", 30)
        survey.wait_quiet(still_for=A_LOOK)
    else:
        settle(survey)
    steps = Counter(finish(tracer))
    print(f"{name}: {dict(steps)}")
    assert steps, "the kernel thread writes nothing"
    survey.discard()

    unreached: list[str] = []

    def crash(call: str, number: int) -> None:
        node = make_crash_node(f"{name}-{call}{number}", case)
        # strace counts each kind of system call separately.
        tracer = trace_kernel_thread(node, "-e", f"inject={call}:signal=SIGKILL:when={number}")
        try:
            case.provoke(node)
            if case.gives_back and not is_killed_giving_back(node):
                # Two ENIs that are released together take fewer writes than two that are released one after the other.
                unreached.append(f"{call} {number}")
                return node.discard()
            wait_killed(node, f"{call} {number} of {steps[call]}")
        finally:
            finish(tracer)
        # The kernel reports a detached link, and the reconcile that follows may happen before the ENI is deleted.
        assert_made_good(vpc, node, {0, 1} if case.gives_back else {0})
        node.discard()

    vpc.drops(reset=True)
    at_once(lambda call=call, number=number: crash(call, number)
            for call, count in steps.items() for number in range(1, count + 1))
    assert len(unreached) * 2 <= sum(steps.values()), f"{unreached} of {dict(steps)}"
    assert not lost(vpc), json.dumps(vpc.drops())
