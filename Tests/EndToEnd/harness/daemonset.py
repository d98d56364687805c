"""The pod of the DaemonSet aws-node, run as a kubelet runs it, with all settings from the rendered manifest.

Mounts, variables, capabilities, probes and the grace period are read from the manifest, not repeated here, so a passing
test shows that the manifest is right.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import paths
from .containerd import Containerd, Sandbox
from .cri import CONTAINER_EXITED, CONTAINER_RUNNING
from .node import Node
from .waiting import wait_for

sys.path.insert(0, str(paths.ROOT / "Tests" / "Manifests"))

from rendered import containers, find, render  # noqa: E402

IMAGE_FOLDER = paths.ROOT / ".build" / "image"
CONFLIST = "/etc/cni/net.d/10-aws.conflist"
# The path where kubelet mounts the service account's files in every container.
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
AGENT = "aws-node"


class ImageMissing(RuntimeError):
    """The image cannot be built here; the message has the reason."""


def build_image(binary: Path = paths.BINARY) -> Path:
    """Builds the image around the binary; quick if nothing has changed since the last time."""
    needed = subprocess.run(["readelf", "-d", str(binary)], check=True, capture_output=True, text=True).stdout
    if "libswift" in needed:
        raise ImageMissing(f"{binary} is not linked for another system than this: `make build` makes one that is")
    archive = IMAGE_FOLDER / "vpc-cni.oci.tar"
    done = subprocess.run([str(paths.ROOT / "manifests" / "image" / "build"), str(binary), str(IMAGE_FOLDER)], check=False,
                          capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"the image was not built: {done.stdout}{done.stderr}")
    return archive


class AwsNode:
    """One pod of the DaemonSet on a node. `environment` is added to the manifest's, for both containers."""

    def __init__(self, node: Node, runtime: Containerd, overlay: str = "default",
                 environment: dict[str, str] | None = None) -> None:
        self.node = node
        self.runtime = runtime
        daemonset = find(render(f"overlays/{overlay}"), "DaemonSet", "aws-node")
        # A copy, because a test may remove something.
        self.spec: dict[str, Any] = copy.deepcopy(daemonset["spec"]["template"]["spec"])
        # The addresses of the simulated AWS; a real node uses the real addresses.
        self.environment = {**node.instance.environment, **(environment or {})}
        self.pod_name = f"aws-node-{node.name}"
        self.sandbox: Sandbox | None = None
        self.container: str | None = None
        self.attempts = 0

    def start(self) -> AwsNode:
        """Starts the sandbox, runs the init containers to their end, then starts the agent's container. Raises with their output."""
        security = self.spec["securityContext"]
        assert security["seccompProfile"]["type"] == "RuntimeDefault"
        self._make_host_paths()
        self.sandbox = self.runtime.run_pod(
            self.pod_name, "kube-system", host_network=self.spec["hostNetwork"],
            privileged=any(each["securityContext"].get("privileged", False) for each in containers(self.spec)))
        for container in self.spec["initContainers"]:
            self._run_to_its_end(container)
        return self.start_agent()

    def start_agent(self) -> AwsNode:
        """Starts the agent's container again after it has ended, as the kubelet's restart policy does."""
        self.container = self._run(self.spec["containers"][0], self.attempts)
        self.attempts += 1
        return self

    def probe(self, kind: str) -> int:
        """The exit status of the startup, liveness or readiness probe, within the manifest's time limit."""
        assert self.container is not None
        probe = self.spec["containers"][0][f"{kind}Probe"]
        return self.runtime.exec(self.container, probe["exec"]["command"], timeout=probe["timeoutSeconds"]).returncode

    def wait_ready(self, deadline: float = 60.0) -> AwsNode:
        """Waits until the startup probe succeeds and the conflist exists. Raises with the log if the container ends."""
        def ready() -> bool:
            if not self.is_running():
                raise RuntimeError(f"aws-node ended: {self.log()}")
            return self.probe("startup") == 0 and self.conflist() != ""

        wait_for(ready, f"{self.pod_name} ready", deadline, pause=0.05)
        assert self.probe("readiness") == 0 and self.probe("liveness") == 0
        return self

    def stop(self) -> int:
        """Sends SIGTERM and waits for the manifest's grace period; returns the exit status."""
        assert self.container is not None
        self.runtime.stop_container(self.container, self.spec["terminationGracePeriodSeconds"])
        return self.runtime.container_status(self.container).exit_code

    def remove(self) -> None:
        """Removes the whole pod, as when its DaemonSet is deleted."""
        if self.sandbox is not None:
            self.runtime.stop_pod(self.sandbox)
            self.runtime.remove_pod(self.sandbox)
            self.sandbox = self.container = None

    # MARK: state

    def is_running(self) -> bool:
        assert self.container is not None
        return self.runtime.container_status(self.container).state == CONTAINER_RUNNING

    def conflist(self) -> str:
        return self.node.instance.run(["cat", CONFLIST], check=False).stdout

    def log(self, name: str = AGENT, attempt: int | None = None) -> str:
        assert self.sandbox is not None
        return self.runtime.container_log(self.sandbox, name, self.attempts - 1 if attempt is None else attempt)

    def processes(self) -> dict[int, str]:
        """The processes of the agent's container: the entrypoint and its children, by their process ids on this machine."""
        assert self.container is not None
        first = self.runtime.container_pid(self.container)
        children = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii").split()
        return {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode() for pid in (first, *map(int, children))}

    # MARK: from the manifest

    def _make_host_paths(self) -> None:
        """Creates the host paths as kubelet does for a volume's type."""
        for volume in self.spec["volumes"]:
            path, kind = volume["hostPath"]["path"], volume["hostPath"]["type"]
            words = {"DirectoryOrCreate": ["mkdir", "-p"], "FileOrCreate": ["touch"], "Directory": ["test", "-d"]}[kind]
            self.node.instance.run([*words, path])

    def _run_to_its_end(self, container: dict[str, Any]) -> None:
        identity = self._run(container, 0)
        wait_for(lambda: self.runtime.container_status(identity).state == CONTAINER_EXITED, container["name"], 90)
        status = self.runtime.container_status(identity).exit_code
        if status != 0:
            raise RuntimeError(f"{container['name']} ended with {status}: {self.log(container['name'], 0)}")

    def _run(self, container: dict[str, Any], attempt: int) -> str:
        assert self.sandbox is not None
        security = container["securityContext"]
        # AppArmor is left out: the machine may lack it. Kubernetes spells capabilities as the runtime does.
        return self.runtime.run_container(
            self.sandbox, container["name"], container["image"], container["command"],
            environment={**self._variables(container), **self.environment}, mounts=self._mounts(container),
            capabilities=security["capabilities"].get("add", []), drop=security["capabilities"]["drop"],
            privileged=security.get("privileged", False), read_only_root=security["readOnlyRootFilesystem"],
            no_new_privileges=not security["allowPrivilegeEscalation"], attempt=attempt)

    def _variables(self, container: dict[str, Any]) -> dict[str, str]:
        fields = {"spec.nodeName": self.node.name, "metadata.name": self.pod_name}
        return {each["name"]: each["value"] if "value" in each else fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
                for each in container["env"]}

    def _mounts(self, container: dict[str, Any]) -> list[tuple[str, str] | tuple[str, str, str]]:
        volumes = {each["name"]: each["hostPath"]["path"] for each in self.spec["volumes"]}
        has_account = self.node.instance.run(["test", "-d", ACCOUNT], check=False).returncode == 0
        account: list[Any] = [(ACCOUNT, ACCOUNT, "ro")] if has_account else []
        return account + [(volumes[each["name"]], each["mountPath"], "ro") if each.get("readOnly") else (volumes[each["name"]], each["mountPath"])
                for each in container["volumeMounts"]]
