"""A pod as a container runtime makes it: first a network namespace, then a plugin call."""

from __future__ import annotations

import json
import subprocess
import uuid
from dataclasses import dataclass, field
from typing import Any

from . import paths

from simulator.client import Instance
from simulator.patience import patient


class PluginFailure(RuntimeError):
    """The plugin failed: `error` is its JSON, `status` its exit status."""

    def __init__(self, command: str, status: int, error: dict[str, Any], stderr: str) -> None:
        super().__init__(f"{command}: exit {status}: {error.get('msg', error)} {stderr}".strip())
        self.status = status
        self.error = error


@dataclass
class Pod:
    """The pod's name is unique on the node; `container` is the runtime's name of the sandbox."""

    instance: Instance
    name: str
    namespace: str = "default"
    interface: str = "eth0"
    version: str = "0.4.0"
    container: str = field(default_factory=lambda: uuid.uuid4().hex + uuid.uuid4().hex)
    options: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None

    @property
    def netns(self) -> str:
        return f"/run/netns/{self.name}"

    @property
    def address(self) -> str:
        assert self.result is not None, f"{self.name} has no address"
        ips = self.result.get("ips") or [{"address": self.result["ip4"]["ip"]}]
        return ips[0]["address"].split("/")[0]

    @property
    def host_veth(self) -> str:
        assert self.result is not None
        return self.result["interfaces"][0]["name"]

    def create_namespace(self) -> Pod:
        self.instance.run(["ip", "netns", "add", self.name])
        self.exec(["ip", "link", "set", "lo", "up"])
        return self

    def remove_namespace(self) -> None:
        self.instance.run(["ip", "netns", "del", self.name], check=False)

    def configuration(self, **more: Any) -> dict[str, Any]:
        """The first plugin of the contract's conflist, as the runtime passes it."""
        return {
            "cniVersion": self.version, "name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001",
            "podSGEnforcingMode": "strict", "pluginLogFile": paths.PLUGIN_LOG, "pluginLogLevel": "DEBUG",
            **self.options, **more,
        }

    def environment(self, command: str) -> dict[str, str]:
        return {
            "CNI_COMMAND": command, "CNI_CONTAINERID": self.container, "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.interface, "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={self.namespace};K8S_POD_NAME={self.name};"
                        f"K8S_POD_INFRA_CONTAINER_ID={self.container};K8S_POD_UID=",
        }

    def call(self, command: str, timeout: float = 40, **more: Any) -> dict[str, Any]:
        """Runs the plugin and returns what it printed; raises PluginFailure."""
        done = self.instance.run([paths.PLUGIN], check=False, timeout=timeout, env=self.environment(command),
                                 input=json.dumps(self.configuration(**more)))
        printed = json.loads(done.stdout) if done.stdout.strip() else {}
        if done.returncode != 0:
            raise PluginFailure(command, done.returncode, printed, done.stderr)
        return printed

    def popen(self, command: str, **more: Any) -> subprocess.Popen[bytes]:
        """Starts the plugin, writes its configuration to it, and does not wait."""
        process = self.instance.popen([paths.PLUGIN], env=self.environment(command), stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(json.dumps(self.configuration(**more)).encode())
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process: subprocess.Popen[bytes], command: str, timeout: float = 40) -> dict[str, Any]:
        """Waits for a plugin that `popen` started; returns and raises like `call`."""
        out, err = process.communicate(timeout=patient(timeout))
        printed = json.loads(out) if out.strip() else {}
        if process.returncode != 0:
            raise PluginFailure(command, process.returncode, printed, err.decode(errors="replace"))
        if command == "ADD":
            self.result = printed
        return printed

    def add(self, **more: Any) -> Pod:
        self.result = self.call("ADD", **more)
        return self

    def check(self) -> None:
        self.call("CHECK", prevResult=self.result)

    def delete(self) -> None:
        """DEL with the result of ADD as the runtime has cached it."""
        more = {"prevResult": self.result} if self.result else {}
        self.call("DEL", **more)

    def exec(self, words: list[str], check: bool = True, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        return self.instance.run(["nsenter", f"--net={self.netns}"] + words, check=check, timeout=timeout)

    def ping(self, address: str, count: int = 1, deadline: float = 2.0, size: int = 56) -> bool:
        """True if every echo was answered."""
        done = self.exec(["ping", "-q", "-n", "-c", str(count), "-i", "0.05", "-w", str(max(1, round(deadline))),
                          "-s", str(size), address], check=False)
        return done.returncode == 0
