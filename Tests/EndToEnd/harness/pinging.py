"""Echoes that go on while something is done to a node: every one of them must be answered."""

from __future__ import annotations

import re
import subprocess

from .pod import Pod


class Pinging:
    """`count` echoes from a pod, one each millisecond, that run beside the test."""

    def __init__(self, pod: Pod, address: str, count: int = 10_000) -> None:
        self.pod, self.address, self.count = pod, address, count
        # -W: an answer may be late on a busy machine and is not lost by that.
        self.process = pod.instance.popen(
            ["nsenter", f"--net={pod.netns}", "ping", "-q", "-n", "-i", "0.001", "-W", "5", "-c", str(count), address],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def lost(self, timeout: float = 120) -> int:
        """Waits for the last one; how many had no answer."""
        text = self.process.communicate(timeout=timeout)[0].decode(errors="replace")
        found = re.search(r"(\d+) packets transmitted, (\d+) received", text)
        assert found, f"{self.pod.name} to {self.address}: {text}"
        return int(found[1]) - int(found[2]) + (self.count - int(found[1]))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
