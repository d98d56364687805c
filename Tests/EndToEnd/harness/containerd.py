"""A real container runtime on a simulated node: Debian's containerd and runc, called as a kubelet calls them.

    with Containerd(node.instance) as runtime:
        runtime.write_network()
        sandbox = runtime.run_pod("web-0")
        container = runtime.run_container(sandbox, "app", runtime.BUSYBOX, ["sh", "-c", "…"])

It uses the paths of a node (/run/containerd, /var/lib/containerd, /etc/cni/net.d, /opt/cni/bin) inside the instance's
mount namespace, keeps its state in memory, and has a cgroup of its own; `close` removes everything.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import conflist, cri, images
from .waiting import wait_for

from simulator.client import Instance
from simulator.patience import patient

NEEDS = ("containerd", "containerd-shim-runc-v2", "runc", "ctr", "busybox")
LOG = "/var/log/containerd.log"
POD_LOGS = "/var/log/pods"
_SOCKET = "/run/containerd/containerd.sock"
_CONFIG = "/etc/containerd/config.toml"
# Deleting the bundles, mounts and cgroups of 30 pods takes a while on two processors that others use too.
_PATIENCE = patient(60.0)

# The machine may lack CAP_SYS_RESOURCE: containerd then leaves OOM scores below its own unchanged.
_CONFIGURATION = """
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def missing() -> list[str]:
    """The programs that this machine lacks for it."""
    lacking = [name for name in NEEDS if shutil.which(name) is None]
    return lacking if Path(conflist.CORE_PLUGINS, "loopback").exists() else [*lacking, "containernetworking-plugins"]


@dataclass
class Sandbox:
    """A pod as the runtime knows it."""

    id: str
    config: dict[str, Any]
    containers: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.config["metadata"]["name"]

    @property
    def log_directory(self) -> str:
        return self.config["log_directory"]


class Containerd:
    """Call `start` first, then `write_network`; or let somebody else write the conflist, as on a node."""

    PAUSE = "vpc-cni.test/pause:1"
    BUSYBOX = "vpc-cni.test/busybox:1"

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._process: subprocess.Popen[bytes] | None = None
        self._client: cri.Client | None = None
        self._prepared = False
        self._cgroup = f"vpcsim-{uuid.uuid4().hex[:8]}"

    # MARK: start and stop

    def __enter__(self) -> Containerd:
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.close()

    def start(self) -> Containerd:
        """Starts containerd, and imports its images the first time. Pods with a network wait for a conflist."""
        self._prepare()
        log = f"exec >>{LOG} 2>&1; exec containerd --config {_CONFIG}"
        self._process = self.instance.popen(["sh", "-c", log], stdin=subprocess.DEVNULL)
        self._client = cri.Client(f"/proc/{self._process.pid}/root{_SOCKET}")
        wait_for(self._answers, "containerd answers", _PATIENCE, pause=0.05)
        if not self._prepared:
            self._prepared = True
            self.import_image(images.pause(self.PAUSE))
            self.import_image(images.busybox(self.BUSYBOX))
        return self

    def stop(self) -> None:
        """Sends SIGTERM, like a package upgrade: pods keep running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Removes every pod, then the daemon, its shims and its cgroups."""
        if self._process is not None:
            for sandbox in self.sandboxes():
                self._quietly("StopPodSandbox", pod_sandbox_id=sandbox.id)
                self._quietly("RemovePodSandbox", pod_sandbox_id=sandbox.id)
            self.stop()
        self._remove_cgroups()

    def log(self) -> str:
        return self.instance.run(["cat", LOG], check=False).stdout

    # MARK: pods and containers

    def write_network(self, network: dict[str, Any] | None = None) -> None:
        """Writes the conflist (by default the contract's), and waits until the runtime has loaded it."""
        target = conflist.PATH
        self.instance.run(["sh", "-c", f"cat >{target}.part && mv {target}.part {target}"],
                          input=conflist.text(network or conflist.conflist()))
        if self._client is not None:
            wait_for(self.network_ready, "the runtime's network ready", _PATIENCE)

    def network_ready(self) -> bool:
        conditions = self.call("Status").status.conditions
        return any(each.type == "NetworkReady" and each.status for each in conditions)

    def import_image(self, image: images.Image) -> str:
        """Returns the image's reference."""
        with tempfile.TemporaryDirectory(prefix="vpc-cni-image-") as folder:
            tar = image.write(Path(folder) / "image.tar")
            with tar.open("rb") as content:
                subprocess.run(self.instance.command(["ctr", "--namespace", "k8s.io", "images", "import", "-"]),
                               stdin=content, check=True, capture_output=True, timeout=_PATIENCE)
        return self._wait_for_image(image.reference)

    def import_archive(self, archive: Path, reference: str) -> str:
        """Imports an OCI archive that a builder made, under the name that manifests use for it."""
        with archive.open("rb") as content:
            subprocess.run(self.instance.command(["ctr", "--namespace", "k8s.io", "images", "import", "-"]),
                           stdin=content, check=True, capture_output=True, timeout=_PATIENCE)
        return self._wait_for_image(reference)

    def _wait_for_image(self, reference: str) -> str:
        def known() -> list[str]:
            return [tag for each in self.call("ListImages").images for tag in each.repo_tags]

        wait_for(lambda: reference in known(), f"image {reference}", _PATIENCE)
        return reference

    def run_pod(self, name: str, namespace: str = "default", host_network: bool = False, host_pid: bool = False,
                privileged: bool = False, ports: list[tuple[str, int, int]] | None = None,
                annotations: dict[str, str] | None = None, uid: str | None = None, attempt: int = 0) -> Sandbox:
        """Creates the sandbox. `ports`: (protocol, port of the host, port of the pod). Raises cri.RuntimeRefused."""
        uid = uid or str(uuid.uuid4())
        namespaces = {"network": cri.NODE if host_network else cri.POD, "pid": cri.NODE if host_pid else cri.CONTAINER,
                      "ipc": cri.NODE if host_network else cri.POD}
        config = {
            "metadata": {"name": name, "uid": uid, "namespace": namespace, "attempt": attempt},
            "hostname": "" if host_network else name, "log_directory": f"{POD_LOGS}/{namespace}_{name}_{uid}",
            "port_mappings": [{"protocol": cri.PROTOCOLS[protocol], "host_port": host, "container_port": pod}
                              for protocol, host, pod in ports or []],
            "labels": {"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": namespace,
                       "io.kubernetes.pod.uid": uid},
            "annotations": annotations or {},
            "linux": {"cgroup_parent": f"/{self._cgroup}/pod{uid}", "security_context": {
                "namespace_options": namespaces, "privileged": privileged,
                "seccomp": {"profile_type": cri.RUNTIME_DEFAULT}}},
        }
        return Sandbox(self.call("RunPodSandbox", config=config).pod_sandbox_id, config)

    def run_container(self, sandbox: Sandbox, name: str, image: str, command: list[str] | None = None,
                      args: list[str] | None = None, environment: dict[str, str] | None = None,
                      mounts: list[tuple[str, str] | tuple[str, str, str]] | None = None,
                      capabilities: list[str] | None = None, drop: list[str] | None = None, privileged: bool = False,
                      read_only_root: bool = False, seccomp: bool = True, user: int | None = None,
                      no_new_privileges: bool = False, attempt: int = 0) -> str:
        """Creates and starts a container; returns its id. Raises cri.RuntimeRefused.

        `mounts`: (path on the node, path in the container[, comma-separated options "ro", "slave", "shared"]); the node's
        path must exist. Without `seccomp` the container runs unconfined, like every pod if its kubelet has no default.
        """
        security: dict[str, Any] = {
            "privileged": privileged, "readonly_rootfs": read_only_root, "no_new_privs": no_new_privileges,
            "capabilities": {"add_capabilities": capabilities or [], "drop_capabilities": drop or []},
            "namespace_options": sandbox.config["linux"]["security_context"]["namespace_options"],
            "seccomp": {"profile_type": cri.RUNTIME_DEFAULT if seccomp else cri.UNCONFINED}}
        if not privileged:
            # The paths that a kubelet hides from every container that is not privileged.
            security["masked_paths"] = [f"/proc/{each}" for each in ("asound", "acpi", "kcore", "keys", "latency_stats",
                                                                     "timer_list", "timer_stats", "sched_debug", "scsi")]
            security["masked_paths"].append("/sys/firmware")
            security["readonly_paths"] = [f"/proc/{each}" for each in ("bus", "fs", "irq", "sys", "sysrq-trigger")]
        if user is not None:
            security["run_as_user"] = {"value": user}
        config = {
            "metadata": {"name": name, "attempt": attempt}, "image": {"image": image}, "command": command or [],
            "args": args or [], "envs": [{"key": key, "value": value} for key, value in (environment or {}).items()],
            "mounts": [_mount(each) for each in mounts or []], "log_path": f"{name}_{attempt}.log",
            "labels": {"io.kubernetes.container.name": name}, "linux": {"security_context": security},
        }
        self.instance.run(["mkdir", "-p", sandbox.log_directory])
        container = self.call("CreateContainer", pod_sandbox_id=sandbox.id, config=config,
                              sandbox_config=sandbox.config).container_id
        self.call("StartContainer", container_id=container)
        sandbox.containers.append(container)
        return container

    def container_status(self, container: str) -> Any:
        """`state` (cri.CONTAINER_RUNNING…), `exit_code`, `reason`, `message`."""
        return self.call("ContainerStatus", container_id=container).status

    def container_log(self, sandbox: Sandbox, name: str, attempt: int = 0) -> str:
        """The container's standard output and error, without the runtime's time stamps."""
        done = self.instance.run(["cat", f"{sandbox.log_directory}/{name}_{attempt}.log"], check=False)
        return "".join(line.split(" ", 3)[3] + "\n" for line in done.stdout.splitlines() if line.count(" ") >= 3)

    def exec(self, container: str, words: list[str], timeout: int = 30) -> subprocess.CompletedProcess[str]:
        """Runs a command in a container until it ends, as an exec probe does."""
        done = self.call("ExecSync", within=timeout + 10, container_id=container, cmd=words, timeout=timeout)
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout.decode(errors="replace"),
                                           done.stderr.decode(errors="replace"))

    def stop_container(self, container: str, grace: int = 10) -> None:
        """Sends SIGTERM, and SIGKILL after `grace` seconds."""
        self.call("StopContainer", within=grace + _PATIENCE, container_id=container, timeout=grace)

    def remove_container(self, container: str) -> None:
        self.call("RemoveContainer", container_id=container)

    def stop_pod(self, sandbox: Sandbox) -> None:
        """Ends the containers and removes the network (DEL). Can be repeated."""
        self.call("StopPodSandbox", pod_sandbox_id=sandbox.id)

    def remove_pod(self, sandbox: Sandbox) -> None:
        self.call("RemovePodSandbox", pod_sandbox_id=sandbox.id)

    def sandboxes(self) -> list[Sandbox]:
        """All sandboxes that the runtime knows, in any state; their `config` only has the names."""
        return [Sandbox(each.id, {"metadata": {"name": each.metadata.name, "namespace": each.metadata.namespace}})
                for each in self.call("ListPodSandbox").items]

    def address(self, sandbox: Sandbox) -> str:
        """The pod's address as the runtime reports it to the kubelet."""
        return self.call("PodSandboxStatus", pod_sandbox_id=sandbox.id).status.network.ip

    def container_pid(self, container: str) -> int:
        """The process id of the container's first process, on this machine."""
        return json.loads(self.call("ContainerStatus", container_id=container, verbose=True).info["info"])["pid"]

    def pid(self, sandbox: Sandbox) -> int:
        """The process id of the process that holds the sandbox."""
        status = self.call("PodSandboxStatus", pod_sandbox_id=sandbox.id, verbose=True)
        return json.loads(status.info["info"])["pid"]

    def run_in_pod(self, sandbox: Sandbox, words: list[str], timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Runs a program of this machine in the pod's network namespace."""
        return subprocess.run(["nsenter", f"--net=/proc/{self.pid(sandbox)}/ns/net", "--", *words], check=False,
                              capture_output=True, text=True, timeout=timeout)

    def call(self, method: str, within: float = _PATIENCE, **fields: Any) -> Any:
        """Makes any call of the interface. Raises cri.RuntimeRefused."""
        assert self._client is not None, "not started"
        return self._client.call(method, within, **fields)

    # MARK: rest

    def _prepare(self) -> None:
        if self._prepared:
            return
        lacking = missing()
        if lacking:
            raise RuntimeError(f"{', '.join(lacking)} not found: run `make setup`")
        # A layer of an overlay cannot be on another overlay, and the instance's /var/lib is one.
        # Every node has the core plugins: the runtime itself needs `loopback`. Mounts are shared, as under systemd.
        self.instance.run(["sh", "-c", "mount --make-rshared / && mkdir -p /var/lib/containerd /etc/containerd /run/containerd && "
                           "mount -t tmpfs containerd /var/lib/containerd && "
                           f"ln -sf {conflist.CORE_PLUGINS}/* /opt/cni/bin && "
                           f"cat >{_CONFIG}"], input=_CONFIGURATION.replace("PAUSE", self.PAUSE))

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"containerd ended with {self._process.returncode}: {self.log()[-3000:]}")
        try:
            self.call("Version", within=2)
            return True
        except cri.RuntimeRefused:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def _quietly(self, method: str, **fields: Any) -> None:
        try:
            self.call(method, **fields)
        except cri.RuntimeRefused:
            pass  # the cgroup shows what is left, and it ends with the instance

    def _remove_cgroups(self) -> None:
        """Kills the processes left in the cgroups, and removes the cgroups."""
        folders = [folder for each in Path("/sys/fs/cgroup").iterdir() if (folder := each / self._cgroup).is_dir()]
        folders += [folder] if (folder := Path("/sys/fs/cgroup") / self._cgroup).is_dir() else []
        if folders:
            wait_for(lambda: all(_remove_tree(folder) for folder in folders), f"cgroup {self._cgroup} gone", _PATIENCE)


def _remove_tree(folder: Path) -> bool:
    """Kills the processes in a cgroup and its children, and removes these, deepest first. Returns whether it is gone."""
    for here, _, _ in os.walk(folder, topdown=False):
        try:
            for pid in Path(here, "cgroup.procs").read_text(encoding="ascii").split():
                os.kill(int(pid), signal.SIGKILL)
            os.rmdir(here)
        except OSError:
            pass  # checked again later
    return not folder.exists()


def _mount(words: tuple[str, ...]) -> dict[str, Any]:
    host, container, *rest = words
    options = rest[0].split(",") if rest else []
    propagation = next((cri.PROPAGATION[each] for each in options if each in cri.PROPAGATION), 0)
    return {"host_path": host, "container_path": container, "readonly": "ro" in options, "propagation": propagation}
