"""Handles a configuration list like a container runtime's CNI library: it runs the plugins one after the other.

Each plugin gets the list's name and version, the previous plugin's result as `prevResult`, and the runtime's settings for
its `capabilities`. The last result is kept for CHECK and DEL, which pass it to every plugin; DEL and CHECK of lists below
0.4.0 pass none. DEL runs from the last plugin to the first.
Source: CNI specification 1.1.0, sections 3 to 5; containernetworking/cni, package libcni.

As a program, this file is a meta plugin like Multus: `python -m harness.libcni` reads the protocol and runs the lists in
its configuration's `delegates`, the first one as the pod's interface, the others as net1, net2…
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Run = Callable[[str, dict[str, str], str], tuple[int, str, str]]


class PluginRefused(RuntimeError):
    """A plugin of the list failed."""

    def __init__(self, command: str, plugin: str, error: dict[str, Any], stderr: str) -> None:
        super().__init__(f"{command} of {plugin}: {error.get('msg', error)} {error.get('details', '')} {stderr}".strip())
        self.plugin = plugin
        self.error = error


@dataclass
class Attachment:
    """A container's interface in a network. `runtime` has the runtime's settings by capability: `portMappings`…"""

    container: str
    netns: str
    interface: str = "eth0"
    arguments: str = ""
    runtime: dict[str, Any] = field(default_factory=dict)

    def environment(self, command: str) -> dict[str, str]:
        return {"CNI_COMMAND": command, "CNI_CONTAINERID": self.container, "CNI_NETNS": self.netns,
                "CNI_IFNAME": self.interface, "CNI_ARGS": self.arguments, "CNI_PATH": "/opt/cni/bin:/usr/lib/cni"}


class NetworkList:
    """`network` is a conflist as `conflist.conflist` makes it; `run` starts a plugin and maps (path, environment, input)
    to (exit status, output, errors); `find` returns a plugin's path for its type."""

    def __init__(self, network: dict[str, Any], run: Run, find: Callable[[str], str],
                 kept: dict[tuple[str, str], dict[str, Any]] | None = None) -> None:
        self.network = network
        self._run = run
        self._find = find
        self.results = {} if kept is None else kept
        self.seen: list[tuple[str, dict[str, Any] | None]] = []
        """What each plugin of the last ADD answered, by type."""

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.network["cniVersion"].split("."))

    def add(self, pod: Attachment) -> dict[str, Any]:
        self.seen = []
        result: dict[str, Any] | None = None
        for plugin in self.network["plugins"]:
            result = self._call("ADD", plugin, pod, result)
            self.seen.append((plugin["type"], result))
        assert result is not None
        self.results[pod.container, pod.interface] = result
        return result

    def check(self, pod: Attachment, but: tuple[str, ...] = ()) -> None:
        """Runs CHECK although the contract's list says `disableCheck`, but not for plugins of the types in `but`."""
        for plugin in self.network["plugins"]:
            if plugin["type"] not in but:
                self._call("CHECK", plugin, pod, self.results[pod.container, pod.interface])

    def delete(self, pod: Attachment) -> None:
        result = self.results.get((pod.container, pod.interface)) if self.version >= (0, 4, 0) else None
        for plugin in reversed(self.network["plugins"]):
            self._call("DEL", plugin, pod, result)
        self.results.pop((pod.container, pod.interface), None)

    def status(self) -> None:
        self._without_pod("STATUS", {})

    def collect(self, valid: list[Attachment]) -> None:
        self._without_pod("GC", {"cni.dev/valid-attachments": [
            {"containerID": pod.container, "ifname": pod.interface} for pod in valid]})

    def _call(self, command: str, plugin: dict[str, Any], pod: Attachment, result: dict[str, Any] | None) -> dict[str, Any] | None:
        settings = {name: pod.runtime[name] for name, wanted in plugin.get("capabilities", {}).items()
                    if wanted and name in pod.runtime}
        more: dict[str, Any] = {"runtimeConfig": settings} if settings else {}
        if result is not None:
            more["prevResult"] = result
        return self._ask(command, plugin, pod.environment(command), more)

    def _without_pod(self, command: str, more: dict[str, Any]) -> None:
        for plugin in self.network["plugins"]:
            self._ask(command, plugin, {"CNI_COMMAND": command, "CNI_PATH": "/opt/cni/bin:/usr/lib/cni"}, more)

    def _ask(self, command: str, plugin: dict[str, Any], environment: dict[str, str], more: dict[str, Any]) -> dict[str, Any] | None:
        config = {**plugin, "name": self.network["name"], "cniVersion": self.network["cniVersion"], **more}
        status, out, err = self._run(self._find(plugin["type"]), environment, json.dumps(config))
        printed = json.loads(out) if out.strip() else None
        if status != 0:
            raise PluginRefused(command, plugin["type"], printed or {}, err)
        return printed


def as_meta_plugin() -> int:
    """Handles one call of the protocol. The delegates' results are kept as long as the pod's interfaces exist."""
    import subprocess

    command, config = os.environ["CNI_COMMAND"], json.load(sys.stdin)
    if command == "VERSION":
        print(json.dumps({"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0"]}))
        return 0
    kept = Path("/run/meta-plugin", os.environ["CNI_CONTAINERID"])

    def run(path: str, environment: dict[str, str], text: str) -> tuple[int, str, str]:
        done = subprocess.run([path], env={**os.environ, **environment}, input=text, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def find(kind: str) -> str:
        return next(path for folder in os.environ["CNI_PATH"].split(":") if os.path.exists(path := f"{folder}/{kind}"))

    results: dict[tuple[str, str], dict[str, Any]] = {}
    if kept.exists():
        results = {tuple(key.split("/")): value for key, value in json.loads(kept.read_text()).items()}  # type: ignore[misc]
    pairs = []
    for number, delegate in enumerate(config["delegates"]):
        interface = os.environ["CNI_IFNAME"] if number == 0 else f"net{number}"
        pod = Attachment(os.environ["CNI_CONTAINERID"], os.environ.get("CNI_NETNS", ""), interface,
                         os.environ.get("CNI_ARGS", ""), config.get("runtimeConfig", {}))
        pairs.append((NetworkList(delegate, run, find, results), pod))
    try:
        if command == "ADD":
            answers = [network.add(pod) for network, pod in pairs]
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(json.dumps({"/".join(key): value for key, value in results.items()}))
            print(json.dumps({**answers[0], "cniVersion": config["cniVersion"]}))
        else:
            for network, pod in reversed(pairs):
                network.check(pod) if command == "CHECK" else network.delete(pod)
            if command == "DEL":
                kept.unlink(missing_ok=True)
    except PluginRefused as refused:
        print(json.dumps({"cniVersion": config["cniVersion"], "code": refused.error.get("code", 999), "msg": str(refused)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(as_meta_plugin())
