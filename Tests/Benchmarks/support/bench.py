"""The environment of a section: programs, a simulated VPC that starts on first use, nodes that are removed again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.node import Node
from harness.pod import Pod
from harness.waiting import wait_for
from simulator.client import Simulator

from .programs import Programs
from .spawner import Jobs, Sample, batch


class Bench:
    """`problems` lists what could not be measured; each entry makes the run fail at its end."""

    def __init__(self, folder: Path) -> None:
        self.programs = Programs(folder)
        self.problems: list[str] = []
        self._vpc: Simulator | None = None
        self._began = time.monotonic()

    @property
    def vpc(self) -> Simulator:
        if self._vpc is None:
            self._vpc = Simulator(family="dual").start()
        return self._vpc

    def close(self) -> None:
        if self._vpc is not None:
            self._vpc.stop()
            self._vpc = None

    def say(self, text: str) -> None:
        """Prints progress to stderr: stdout carries only the table."""
        print(f"[{time.monotonic() - self._began:5.1f} s] {text}", file=sys.stderr, flush=True)

    @contextmanager
    def node(self, name: str, **options: Any) -> Iterator[Node]:
        """A node with an installed plugin; its agent is not started. The node is removed at the end in any case."""
        before = _namespaces()
        node = Node(self.vpc, name, **options)
        try:
            yield node
        finally:
            node.close()
            node.instance.remove()
            self._wait_dismantled(before)

    def settle(self, deadline: float = 10.0) -> None:
        """Waits until the machine is idle or the deadline: hundreds of new interfaces occupy the kernel for seconds."""
        readings: list[tuple[int, int]] = []

        def idle() -> bool:
            readings.append(_processor_ticks())
            if len(readings) < 31:
                return False
            (busy, total), (busy_now, total_now) = readings[-31], readings[-1]
            return (busy_now - busy) < 0.1 * (total_now - total)

        try:
            wait_for(idle, "an idle machine", deadline)
        except TimeoutError:
            self.say("the machine is busy with something else: measuring all the same")

    def _wait_dismantled(self, before: int, deadline: float = 10.0) -> None:
        """Waits while the kernel dismantles deleted pod namespaces, which takes seconds and disturbs measurements."""
        try:
            wait_for(lambda: _namespaces() <= before + _SLACK, "namespaces taken apart", deadline)
        except TimeoutError:
            self.say("the kernel still takes namespaces apart, or others make new ones: measuring all the same")

    def run(self, jobs: Jobs, node: Node) -> dict[str, list[Sample]]:
        return jobs.run(self.programs.path("spawn"), node.instance)

    def connect(self, node: Node, names: list[str]) -> list[Pod]:
        """Creates pods with the real plugin, one after the other. Raises RuntimeError with the plugin's output."""
        pods = [Pod(node.instance, name) for name in names]
        batch(node.instance, [f"netns add {pod.name}" for pod in pods])
        jobs = Jobs()
        for pod in pods:
            add_plugin(jobs, "add", self.programs.plugin(), pod, "ADD")
        self.run(jobs, node)
        return pods

    def wait_quiet(self, what: str = "EC2 calls ended", deadline: float = 30.0) -> None:
        """Waits until no EC2 call was made for a quarter of a second."""
        seen: list[int] = []

        def still() -> bool:
            seen.append(self.vpc.counts()["total"])
            return len(seen) >= 25 and len(set(seen[-25:])) == 1

        wait_for(still, what, deadline)


def _processor_ticks() -> tuple[int, int]:
    """Busy ticks and all ticks of all processors since boot."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(each) for each in file.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


_SLACK = 70  # the slab also counts the free objects of its current pages


def _namespaces() -> int:
    """Network namespaces in the kernel, slightly overestimated; 0 if the kernel does not report them."""
    try:
        with open("/proc/slabinfo", encoding="ascii") as slabs:
            return next((int(line.split()[1]) for line in slabs if line.startswith("net_namespace ")), 0)
    except OSError:
        return 0


def add_plugin(jobs: Jobs, label: str, plugin: str, pod: Pod, command: str, gone: str | None = None,
               later: bool = False) -> None:
    """One run of the plugin for a pod. ADD leaves its result in the instance's /run; DEL reads it as prevResult."""
    result = f"/run/{pod.name}.result"
    text, _, _ = json.dumps(pod.configuration()).rpartition("}")
    stdin = [text, ',"prevResult":', f"@{result}", "}"] if command == "DEL" else [text, "}"]
    jobs.add(label, [plugin], env={**pod.environment(command), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
             stdin=stdin, stdout=result if command == "ADD" else None, gone=gone, later=later)

