"""An agent on a simulated node."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import Any

from . import paths
from .fast_clock import FastClock, SkewedClock
from .waiting import wait_for

from simulator.client import Instance
from simulator.patience import patient

# The values in the DaemonSet of amazon-vpc-cni-k8s that differ from the code's defaults.
MANIFEST_ENVIRONMENT = {
    "ENABLE_IPv4": "true",
    "ENABLE_IPv6": "false",
    "WARM_ENI_TARGET": "1",
    "WARM_PREFIX_TARGET": "1",
    "AWS_VPC_K8S_CNI_LOG_FILE": paths.AGENT_LOG,
    "AWS_VPC_K8S_CNI_LOGLEVEL": "DEBUG",
}


class Agent:
    """One process of `vpc-cni agent` in an instance's namespaces. With `clock`, its time can run faster. With `outlives`,
    the agent survives the process that starts it: it has a session of its own, and nobody reads its standard error."""

    def __init__(self, instance: Instance, environment: dict[str, str] | None = None, clock: FastClock | SkewedClock | None = None) -> None:
        self.instance = instance
        self.environment = {**MANIFEST_ENVIRONMENT, **(environment or {})}
        self.clock = clock
        self.wrapper: list[str] = []  # words before the agent's command: a program that starts it under a limit
        self.stdout: Any = subprocess.DEVNULL
        self.process: subprocess.Popen[bytes] | None = None
        self.seconds_to_ready = 0.0
        self.outlives = False

    def now(self) -> float:
        """Seconds of the agent's time; without a fast clock they are real seconds."""
        return self.clock.elapsed() if isinstance(self.clock, FastClock) else time.monotonic()

    def start(self, wait: bool = True, deadline: float = 20.0) -> Agent:
        began = time.monotonic()
        words = [*(self.clock.words if self.clock else []), *self.wrapper, str(paths.BINARY), "agent"]
        self.process = self.instance.popen(words, env=self.environment,
                                           stdin=subprocess.DEVNULL, stdout=self.stdout,
                                           stderr=subprocess.DEVNULL if self.outlives else subprocess.PIPE,
                                           start_new_session=self.outlives)
        if wait:
            wait_for(self.ready_or_dead, "agent ready", deadline)
            self.seconds_to_ready = time.monotonic() - began
        return self

    def ready_or_dead(self) -> bool:
        """True once the health service reports SERVING. Raises with the agent's last output if the agent ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            said = self.process.stderr.read().decode(errors="replace") if self.process.stderr else ""
            raise RuntimeError(f"the agent ended with {self.process.returncode}: {said[-2000:]}{self.log()[-3000:]}")
        return self.healthy()

    def healthy(self) -> bool:
        probe = self.instance.run([str(paths.BINARY), "health", f"-addr=unix://{paths.AGENT_SOCKET}"], check=False)
        return probe.returncode == 0

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """Sends SIGKILL: the agent saves and logs nothing."""
        self._end(signal.SIGKILL)

    def stop(self, deadline: float = 6.0) -> int:
        """Sends SIGTERM; returns the exit status. If it takes longer than `deadline`, kills the agent and raises TimeoutExpired."""
        return self._end(signal.SIGTERM, deadline)

    def _end(self, number: signal.Signals, deadline: float = 6.0) -> int:
        if self.process is None:
            return 0
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(timeout=patient(deadline))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stderr:
                process.stderr.close()

    def memory(self) -> dict[str, int]:
        """RssAnon and VmRSS of the process in kB, and the number of Threads."""
        fields = {}
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                name, _, rest = line.partition(":")
                if name in ("RssAnon", "VmRSS", "Threads", "VmHWM"):
                    fields[name] = int(rest.split()[0])
        return fields

    def log(self) -> str:
        return self.instance.run(["cat", paths.AGENT_LOG], check=False).stdout
