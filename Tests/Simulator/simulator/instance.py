"""An instance: a network namespace and a mount namespace of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .patience import patient

_ROUTE_SECONDS = 10.0

# Each node's own folders. /run is empty at boot; the others show the machine's files and keep changes private.
_OVERLAID = ("/etc", "/opt", "/var/lib", "/var/log")

# $1 hosts line, $2 rp_filter. The script first unmounts the namespaces that the machine has mounted: a copy of them here
# would keep a namespace alive after its owner has removed it.
_SET_UP = r"""
set -eu
awk '$0 ~ / - nsfs / { print $5 }' /proc/self/mountinfo | sort -r | while read -r at; do umount -l "$at" || true; done
umount -l "$VPCSIM_NS" 2>/dev/null || true
mount -t tmpfs -o mode=755 vpcsim-run /run
mkdir -p /run/lock /run/netns /run/vpcsim/cgroup
for at in $VPCSIM_OVERLAID; do
    upper=/run/vpcsim/disk$at; work=/run/vpcsim/work$at
    mkdir -p "$upper" "$work"
    mount -t overlay vpcsim-disk -o "lowerdir=$at,upperdir=$upper,workdir=$work" "$at"
done
mkdir -p /opt/cni/bin /etc/cni/net.d /var/lib/cni /var/log/aws-routed-eni
mount --rbind /sys/fs/cgroup /run/vpcsim/cgroup
mount -t sysfs vpcsim-sys /sys
mount --rbind /run/vpcsim/cgroup /sys/fs/cgroup
umount -l /run/vpcsim/cgroup
mount -t bpf vpcsim-bpf /sys/fs/bpf 2>/dev/null || true
echo "$1" >> /etc/hosts
cd /proc/sys/net/ipv4
echo 1 > ip_forward
echo 0 > conf/all/rp_filter
echo "$2" > conf/default/rp_filter
"""


@dataclass
class Instance:
    """What the rig knows about an instance beyond EC2's data."""

    name: str
    instance_id: str
    instance_type: str
    subnet: str
    network: Path
    mounts: Path
    imds_lag: float = 0.0
    imds_tokens_required: bool = True
    imds_hop_limit: int = 2
    devices: dict[str, str] = field(default_factory=dict)  # ENI id to device name

    def create_namespaces(self, rp_filter: int, hosts: str) -> None:
        self.network.touch(exist_ok=False)
        self.mounts.touch(exist_ok=False)
        words = ["unshare", f"--net={self.network}", f"--mount={self.mounts}", "sh", "-c", _SET_UP, "set-up", hosts,
                 str(rp_filter)]
        # Linux 6.18 numbers namespaces from a range of each CPU. A mount namespace can be bound only in one with a lower
        # number (EINVAL otherwise). That holds on at least one of the CPUs, because the daemon's own namespace came from
        # one of them.
        for prefix in [[], *(["taskset", "-c", str(cpu)] for cpu in sorted(os.sched_getaffinity(0)))]:
            done = subprocess.run(
                prefix + words, capture_output=True, check=False,
                env={**os.environ, "VPCSIM_NS": str(self.network.parent), "VPCSIM_OVERLAID": " ".join(_OVERLAID)})
            if done.returncode == 0 or b"Invalid argument" not in done.stderr:
                break
            subprocess.run(["umount", "--quiet", str(self.network)], capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"set up the namespaces of {self.name}: {done.stderr.decode(errors='replace').strip()}")

    def configure_primary(self, device: str, address: str, prefix_length: int, gateway: str, address6: str | None) -> None:
        """Does what DHCP and the operating system do on a node at boot. IPv6 routes come from router advertisements."""
        commands = [
            "link set dev lo up",
            f"link set dev {device} up mtu 9001",
            f"addr add {address}/{prefix_length} dev {device}",
            f"route add default via {gateway} dev {device} proto dhcp src {address} metric 512",
            f"route add {gateway} dev {device} proto dhcp scope link src {address} metric 512",
        ]
        if address6:
            commands += [f"addr add {address6}/128 dev {device} nodad"]
        subprocess.run(["nsenter", f"--net={self.network}", "ip", "-batch", "-"],
                       input="\n".join(commands).encode(), check=True)

    def await_default_route6(self, advertise: Callable[[], None]) -> None:
        """Has the router advertise itself until the node has its default route: an advertisement to a device that has
        just come up may be lost. Raises RuntimeError."""
        until = time.monotonic() + patient(_ROUTE_SECONDS)
        while time.monotonic() < until:
            advertise()
            shown = subprocess.run(["nsenter", f"--net={self.network}", "ip", "-6", "route", "show", "default"],
                                   capture_output=True, check=True)
            if shown.stdout:
                return
            time.sleep(0.01)  # pause between looks
        raise RuntimeError(f"{self.name} did not take a default route from the router's advertisements")


def device_name(device_index: int, card: int) -> str:
    """The name that Amazon Linux 2023 gives it on Nitro: ens5 is the primary, ens6 the next."""
    return f"ens{5 + device_index}" if card == 0 else f"ens{100 * card + 5 + device_index}"
