"""Continuous echoes during a change on a node: every echo must be answered."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from .node import Node
from .pod import Pod
from .programs import program

from simulator.client import Simulator
from simulator.patience import patient


class Pinging:
    """Sends echoes from a pod beside the test, one each millisecond (programs/echoes.c), for at most a minute."""

    def __init__(self, pod: Pod, address: str) -> None:
        self.pod, self.address = pod, address
        self.process = pod.instance.popen(["nsenter", f"--net={pod.netns}", program("echoes"), address],
                                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """The echoes stop after three more seconds."""
        self.process.terminate()

    def lost(self, timeout: float = 60) -> int:
        """Calls `end` if the test has not, waits for the end, and returns the number of unanswered echoes."""
        self.end()
        text = self.process.communicate(timeout=patient(timeout))[0].decode(errors="replace")
        found = re.search(r"(\d+) sent, (\d+) answered", text)
        assert found and int(found[1]) >= 3000, f"{self.pod.name} to {self.address}: {text}"
        return int(found[1]) - int(found[2])

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextmanager
def none_lost(vpc: Simulator, node: Node, flows: list[tuple[Pod, str]]) -> Iterator[None]:
    """The change inside, on this node, loses no echo, one a millisecond, from these pods to these addresses."""
    vpc.drops(reset=True)
    running = [Pinging(pod, address) for pod, address in flows]
    try:
        yield
        assert all(each.is_running for each in running), "the echoes ended before the change did"
        for each in running:
            each.end()
        lost = {f"{each.pod.name} to {each.address}": each.lost() for each in running}
    finally:
        for each in running:
            each.stop()
    assert not any(lost.values()), f"{lost}\n{node.agent.log()[-4000:]}"
    assert vpc.drops()["total"] == 0, vpc.drops()
