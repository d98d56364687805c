"""A node: a simulated instance with the plugin installed, an agent, and pods."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from . import paths
from .agent import Agent
from .fast_clock import FastClock
from .pod import Pod
from .waiting import wait_for

from simulator.client import Instance, Simulator
from simulator.patience import patient

# Seconds of real time that an agent needs at most between one call's answer and its next call, on a busy machine.
LEAST_REST = 0.4
# Seconds that EC2 and the kernel take in addition: they do not run faster with the agent.
REAL_TIME = 10.0


class Node:
    """`environment` is the agent's, added to what the manifest sets. `fast_clock` allows `hurry` to speed up its time."""

    def __init__(self, vpc: Simulator, name: str, environment: dict[str, str] | None = None, fast_clock: bool = False,
                 **options: Any) -> None:
        self.vpc = vpc
        self.name = name
        self.instance: Instance = vpc.add_instance(name, **options)
        self.agent = Agent(self.instance, environment, FastClock() if fast_clock else None)
        self.pods: list[Pod] = []
        self.is_gone = False
        self.instance.run(["install", "-D", str(paths.BINARY), paths.PLUGIN])

    @property
    def family(self) -> int:
        """Of its pods' addresses: 4 or 6."""
        return 6 if self.agent.environment.get("ENABLE_IPv6") == "true" else 4

    @property
    def own_address(self) -> str:
        """Of the family of its pods' addresses."""
        address = self.instance.address6 if self.family == 6 else self.instance.address
        assert address is not None
        return address

    # MARK: pods

    def pod(self, name: str, **options: Any) -> Pod:
        """A pod's namespace, not yet connected."""
        pod = Pod(self.instance, name, **options).create_namespace()
        self.pods.append(pod)
        return pod

    def add_pods(self, count: int, prefix: str = "pod", at_once: int = 8) -> list[Pod]:
        """Creates and connects `count` pods, some at a time, in the order of their names."""
        pods = [self.pod(f"{self.name}-{prefix}-{number}") for number in range(count)]
        with ThreadPoolExecutor(at_once) as workers:
            list(workers.map(Pod.add, pods))
        return pods

    def delete_pods(self, pods: list[Pod] | None = None, at_once: int = 8) -> None:
        """Runs DEL, then deletes the namespace, as a runtime does."""
        gone = list(self.pods) if pods is None else pods
        with ThreadPoolExecutor(at_once) as workers:
            list(workers.map(Pod.delete, gone))
            list(workers.map(Pod.remove_namespace, gone))
        self.pods = [pod for pod in self.pods if pod not in gone]

    # MARK: state

    def enis(self) -> list[dict[str, Any]]:
        return self.instance.enis()

    def checkpoint(self) -> list[dict[str, Any]]:
        """The allocations in the agent's checkpoint; an empty list if there is no file."""
        read = self.instance.run(["cat", paths.CHECKPOINT], check=False)
        return json.loads(read.stdout)["allocations"] if read.returncode == 0 and read.stdout else []

    def held(self) -> list[str]:
        """The addresses in the agent's checkpoint, sorted."""
        return sorted(entry.get("ipv4") or entry["ipv6"] for entry in self.checkpoint())

    def ip(self, *words: str) -> list[dict[str, Any]]:
        """`ip -json` in the node's namespace; empty if the kernel has no such table."""
        done = self.instance.run(["ip", "-json", *words], check=False)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []

    def pod_veths(self, prefix: str = "eni") -> list[str]:
        return [link["ifname"] for link in self.ip("link", "show", "type", "veth")
                if link["ifname"].startswith(prefix)]

    def pod_routes(self) -> list[str]:
        return [route["dst"] for route in self.ip(f"-{self.family}", "route", "show", "table", "20512")]

    def rules(self) -> list[dict[str, Any]]:
        return self.ip("rule", "show")

    def leftovers(self) -> dict[str, list[Any]]:
        """The state that must not exist on a node without pods."""
        return {"veths": self.pod_veths(), "routes": self.pod_routes(), "allocations": self.checkpoint()}

    # MARK: rest

    def calls(self, reset: bool = False) -> dict[str, int]:
        """The EC2 calls of this node by action, since the last reset (which resets the counts of all nodes)."""
        return self.vpc.counts(reset=reset)["callers"].get(self.name, {})

    def shape(self) -> list[tuple[int, int]]:
        """Numbers of single addresses (without the ENI's own) and of prefixes of each attached ENI, by device index."""
        return [(len(eni["addresses"]) - 1, len(eni["prefixes"])) for eni in self.enis()]

    def wait_quiet(self, what: str = "EC2 calls ended", deadline: float = 30.0, still_for: float = 2.0) -> None:
        """Waits until this node has made no EC2 call for `still_for` seconds of the agent's time, and every ENI is wired.

        This is longer than the second for which the agent collects a shortage of warm addresses before it asks for more.
        """
        still_for = patient(still_for)
        last, since, began = -1, 0.0, 0.0

        def still() -> bool:
            nonlocal last, since, began
            counts = self.vpc.counts()
            calls = sum(counts["callers"].get(self.name, {}).values())
            if calls != last or self.name in counts["running"] or len(self.agent_rules()) != len(self.enis()) - 1:
                last, since, began = calls, self.agent.now(), time.monotonic()
            return self.agent.now() - since >= still_for and time.monotonic() - began >= min(still_for, LEAST_REST)

        wait_for(still, f"{self.name}: {what}", deadline, pause=0.1)

    def agent_rules(self) -> list[dict[str, Any]]:
        """The rules that route marked packets to an ENI's table: one for each wired secondary ENI."""
        return [rule for rule in self.rules() if rule["priority"] == 1536]

    @contextmanager
    def hurry(self, rate: int = 60) -> Iterator[None]:
        """Inside this context, `rate` seconds of the agent's time pass in each real second."""
        assert isinstance(self.agent.clock, FastClock), "made without fast_clock"
        self.agent.clock.rate = rate
        try:
            yield
        finally:
            self.agent.clock.rate = 1

    def wait_in_agent_time(self, look: Callable[[], object], what: str, deadline: float, rate: int = 10) -> None:
        """Waits for an action of the agent, whose clock runs `rate` times as fast. `deadline`: seconds on that clock."""
        with self.hurry(rate):
            wait_for(look, f"{self.name}: {what}", deadline / rate + REAL_TIME, pause=0.05)

    def wait_clean(self, deadline: float = 10.0) -> None:
        """Waits until nothing is left: the agent removes veths after its answers."""
        wait_for(lambda: not any(self.leftovers().values()) or None, f"{self.name} without leftovers", deadline)

    def discard(self) -> None:
        """Removes the node before its test ends; the fixture then leaves it alone."""
        self.close()
        self.instance.remove()
        self.is_gone = True

    def close(self) -> None:
        if self.is_gone:
            return
        self.agent.kill()
        if self.agent.clock is not None:
            self.agent.clock.close()
