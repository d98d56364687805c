"""The entrypoint of the aws-node container on a simulated node, without a container: `vpc-cni node` as PID 1."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

from . import paths
from .node import Node
from .waiting import wait_for

from simulator.patience import patient

CONFIGURATIONS = "/etc/cni/net.d"
CONFLIST = f"{CONFIGURATIONS}/10-aws.conflist"


class Entrypoint:
    """One run of the entrypoint in its own process namespace. `environment` is added to the manifest's paths."""

    def __init__(self, node: Node, environment: dict[str, str] | None = None) -> None:
        self.node = node
        self.environment = {
            **node.agent.environment, "HOST_CNI_BIN_PATH": "/opt/cni/bin", "HOST_CNI_CONFDIR_PATH": CONFIGURATIONS,
            "VPC_CNI_CONFLIST_TEMPLATE": f"{CONFIGURATIONS}/template", **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        # Only this run writes to this log: output of an earlier run must not count.
        self.log_path = f"/var/log/aws-node-{uuid.uuid4().hex[:8]}.log"
        node.instance.run(["mkdir", "-p", CONFIGURATIONS])

    def start(self) -> Entrypoint:
        script = f"exec >{self.log_path} 2>&1; exec unshare --pid --fork --kill-child {paths.BINARY} node"
        self.process = self.node.instance.popen(["sh", "-c", script], env=self.environment, stdin=subprocess.DEVNULL)
        return self

    @property
    def pid(self) -> int:
        """The entrypoint's process id on this machine."""
        assert self.process is not None
        wait_for(lambda: self._children(self.process.pid), "the entrypoint's process")
        return self._children(self.process.pid)[0]

    def agent_pid(self) -> int | None:
        """The agent's process id, once the agent has been started."""
        return next((pid for pid in self._children(self.pid) if b"aws-k8s-agent" in Path(f"/proc/{pid}/cmdline").read_bytes()), None)

    def children(self) -> list[int]:
        """The entrypoint's child processes, including zombies."""
        return self._children(self.pid)

    def terminate(self, deadline: float = 12.0) -> int:
        """Sends SIGTERM to the entrypoint; returns its exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait(deadline)

    def wait(self, deadline: float = 12.0) -> int:
        assert self.process is not None
        return self.process.wait(timeout=patient(deadline))

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # MARK: state

    def conflist(self) -> str:
        return self.node.instance.run(["cat", CONFLIST], check=False).stdout

    def wait_conflist(self, deadline: float = 30.0) -> Entrypoint:
        def there() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"the entrypoint ended with {self.process.returncode}: {self.log()}")
            return any("Successfully copied" in each for each in self.messages())

        wait_for(there, "the conflist", deadline)
        return self

    def log(self) -> str:
        return self.node.instance.run(["cat", self.log_path], check=False).stdout

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log().rpartition("\n")[0].splitlines() if line.startswith("{")]

    def messages(self) -> list[str]:
        return [line["msg"] for line in self.lines()]

    @staticmethod
    def _children(pid: int) -> list[int]:
        try:
            return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
        except FileNotFoundError:
            return []
