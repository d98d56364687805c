"""A pod, a node and an outside in three namespaces of the benchmark's own, and the node's forwarding rate."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from .schemes import State

SINK = "192.168.200.200"  # within the simulated VPC, so that the agent's SNAT leaves it unchanged


class Router:
    """Built once for each state, so that rounds can alternate between states without changing any of them.

        pod eth0 ── veth · node · ens5, ens6 ── f5, f6 outside

    `pod` is the measured pod's address. All neighbours are permanent, so that no ARP request is sent.
    """

    def __init__(self, name: str, pod: str, veth: str, state: State | Callable[[], State]) -> None:
        self.pod = pod
        self.names = {role: f"{name}-{role}" for role in ("pod", "node", "out")}
        self._veth = veth
        try:
            self._build()
            self._apply(state() if callable(state) else state)
        except BaseException:
            self.close()
            raise

    def measure(self, program: str, outward: bool, milliseconds: int) -> dict[str, Any]:
        """The output of programs/traffic.c, from the pod to the outside or in the other direction."""
        ends = [[f"/run/netns/{self.names['pod']}", self.pod], [f"/run/netns/{self.names['out']}", SINK]]
        source, sink = ends if outward else ends[::-1]
        done = subprocess.run([program, *source, *sink, "9000", str(milliseconds)], capture_output=True, text=True,
                              timeout=30 + milliseconds / 1000, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.names['node']}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def close(self) -> None:
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def _build(self) -> None:
        pod, node, out = (self.names[role] for role in ("pod", "node", "out"))
        _run(["ip", "-batch", "-"], "\n".join(f"netns add {name}" for name in self.names.values()))
        for name in self.names.values():
            loose = 2 if name == node else 0  # as systemd sets it on a node; the ends have no addresses to check
            _run(["ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_forward=1",
                  "net.ipv4.conf.all.rp_filter=0", f"net.ipv4.conf.default.rp_filter={loose}"])
        _batch(node, [
            "link set lo up",
            f"link add {self._veth} type veth peer name eth0 netns {pod}",
            f"link add ens5 type veth peer name f5 netns {out}", f"link add ens6 type veth peer name f6 netns {out}",
            f"link set {self._veth} address 02:00:00:00:00:01 up",
            "link set ens5 address 02:00:00:00:00:05 up", "link set ens6 address 02:00:00:00:00:06 up",
            "address add 10.0.0.10/24 dev ens5", "address add 10.0.1.1/32 dev ens6",
            "route add default via 10.0.0.1 dev ens5",
            "neigh add 10.0.0.1 dev ens5 lladdr 02:00:00:00:01:05 nud permanent",
            "neigh add 10.0.0.1 dev ens6 lladdr 02:00:00:00:01:06 nud permanent",
            f"neigh add {self.pod} dev {self._veth} lladdr 02:00:00:00:01:01 nud permanent"])
        _batch(pod, [
            "link set lo up", "link set eth0 address 02:00:00:00:01:01 up", f"address add {self.pod}/32 dev eth0",
            "route add 169.254.1.1 dev eth0 scope link", "route add default via 169.254.1.1 dev eth0",
            "neigh add 169.254.1.1 dev eth0 lladdr 02:00:00:00:00:01 nud permanent"])
        _batch(out, [
            "link set lo up", f"address add {SINK}/32 dev lo", "link set f5 address 02:00:00:00:01:05 up",
            "link set f6 address 02:00:00:00:01:06 up", f"route add {self.pod}/32 dev f6 scope link src {SINK}",
            f"neigh add {self.pod} dev f6 lladdr 02:00:00:00:00:06 nud permanent"])

    def _apply(self, state: State) -> None:
        node = self.names["node"]
        _batch(node, state.commands)
        if state.nft:
            _run(["ip", "netns", "exec", node, "nft", "-f", "-"], state.nft)
        if state.iptables:
            _run(["ip", "netns", "exec", node, "iptables-restore"], state.iptables)


def _batch(name: str, commands: list[str]) -> None:
    _run(["ip", "-n", name, "-batch", "-"], "\n".join(commands))


def _run(words: list[str], text: str = "") -> None:
    done = subprocess.run(words, input=text + "\n", capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()[-1000:]}")
