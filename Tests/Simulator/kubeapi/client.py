"""The Python interface to the API server for tests: put Tests/Simulator on sys.path and import this.

    with KubeAPI(vpc) as api:                      # on the simulated network, reachable from every instance
        api.add(node("n1", pods=58))
        n1 = make_node("n1", environment=api.environment("n1"))
        api.patch("nodes", "n1", {"spec": {"taints": [...]}})
        api.requests("watch", "nodes")
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from simulator import registry
from simulator.client import Instance, Simulator
from simulator.fabric import EC2_ADDRESS

from .store import KINDS, Object

PORT = 6443
TOKEN = "token-of-the-agent"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class KubeAPI:
    """A running server. Without `vpc` it listens on 127.0.0.1 and a free port. `options` are those of __main__: plain, http1, …"""

    def __init__(self, vpc: Simulator | None = None, **options: Any) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kubeapi-"))
        words = [sys.executable, "-m", "kubeapi", "--folder", str(self._folder)]
        if vpc is not None:
            network, _ = registry.namespace_files(vpc.name, "@fabric")
            words = registry.enter_command(network, None) + words + ["--address", EC2_ADDRESS, "--port", str(PORT)]
        self.address = EC2_ADDRESS if vpc is not None else "127.0.0.1"
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        self._scheme = "http" if options.get("plain") else "https"
        self._guard = threading.Lock()
        self._process = subprocess.Popen(words, cwd=Path(__file__).resolve().parents[1], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)
        line = self._line()
        if not line.startswith("ready "):
            raise RuntimeError(f"the API server did not come up: {line!r}")
        self.port = int(line.split()[1])
        self.ask("tokens", accept=[TOKEN])

    def __enter__(self) -> KubeAPI:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        if self._process.stdin and self._process.stdout:
            self._process.stdin.close()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _line(self) -> str:
        return self._process.stdout.readline() if self._process.stdout else ""

    def ask(self, do: str, **arguments: Any) -> Any:
        """Runs any command of __main__'s Control."""
        with self._guard:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._line() or '{"error": "the API server has ended"}')
        if "error" in answer:
            raise RuntimeError(f"{do}: {answer['error']}")
        return answer["ok"]

    # MARK: for clients

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.address}:{self.port}"

    @property
    def folder(self) -> Path:
        """The folder with ca.crt, other-ca.crt, client.crt and client.key."""
        return self._folder

    def install_account(self, instance: Instance, token: str = TOKEN, ca: str = "ca.crt", namespace: str = "kube-system") -> None:
        """Writes the service account's files where the kubelet mounts them."""
        self._write(instance, "ca.crt", (self._folder / ca).read_text())
        self._write(instance, "namespace", namespace)
        self._write(instance, "token", token)

    def set_token(self, instance: Instance, token: str) -> None:
        self._write(instance, "token", token)

    @staticmethod
    def _write(instance: Instance, name: str, text: str) -> None:
        instance.run(["sh", "-c", f"mkdir -p {ACCOUNT} && cat > {ACCOUNT}/.new && mv {ACCOUNT}/.new {ACCOUNT}/{name}"], input=text)

    def environment(self, node_name: str, pod_name: str = "") -> dict[str, str]:
        """The environment that the kubelet and the downward API give to the agent's container."""
        return {"KUBERNETES_SERVICE_HOST": self.address, "KUBERNETES_SERVICE_PORT": str(self.port),
                "MY_NODE_NAME": node_name, "MY_POD_NAME": pod_name or f"aws-node-{node_name}"}

    # MARK: objects

    def add(self, *objects: Object) -> None:
        """Creates or replaces objects by their `kind`."""
        plurals = {kind.kind: plural for plural, kind in KINDS.items()}
        for item in objects:
            self.ask("put", plural=plurals[item["kind"]], objects=[item])

    def patch(self, plural: str, name: str, patch: Object, namespace: str = "default") -> Object:
        return self.ask("patch", plural=plural, name=name, patch=patch, namespace=namespace)

    def delete(self, plural: str, name: str, namespace: str = "default") -> None:
        self.ask("delete", plural=plural, name=name, namespace=namespace)

    def get(self, plural: str, name: str, namespace: str = "default") -> Object | None:
        return self.ask("get", plural=plural, name=name, namespace=namespace)

    def events(self) -> list[Object]:
        """The events.k8s.io/v1 objects that clients created, oldest first."""
        return sorted(self.ask("list", plural="events"), key=lambda item: int(item["metadata"]["resourceVersion"]))

    def annotation(self, pod: str, key: str = "vpc.amazonaws.com/pod-ips", namespace: str = "default") -> str | None:
        found = self.get("pods", pod, namespace)
        return ((found or {}).get("metadata", {}).get("annotations") or {}).get(key)

    # MARK: recorded requests, and faults

    def requests(self, verb: str = "", plural: str = "", clear: bool = False) -> list[dict[str, Any]]:
        return [each for each in self.ask("requests", clear=clear)
                if (not verb or each["verb"] == verb) and (not plural or each["plural"] == plural)]

    def watches(self) -> int:
        return self.ask("watches")

    def fault(self, **fields: Any) -> None:
        """Injects a fault; the fields are those of faults.Fault."""
        self.ask("fault", **fields)

    def down(self) -> None:
        self.ask("down")

    def up(self) -> None:
        self.ask("up")


def node(name: str, pods: int | None = 58, unschedulable: bool = False, labels: dict[str, str] | None = None,
         annotations: dict[str, str] | None = None) -> Object:
    """A node as the kubelet registers it, reduced to the fields that clients read."""
    taints = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}] if unschedulable else []
    capacity = {} if pods is None else {"capacity": {"pods": str(pods), "cpu": "4"}}
    return {"kind": "Node", "metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}},
            "spec": {"taints": taints, "unschedulable": unschedulable}, "status": capacity}


def pod(name: str, node_name: str, namespace: str = "default", labels: dict[str, str] | None = None,
        host_network: bool = False, address: str = "") -> Object:
    return {"kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels or {}, "annotations": {}},
            "spec": {"nodeName": node_name, "hostNetwork": host_network, "containers": [{"name": "main", "image": "x"}]},
            "status": {"phase": "Running", "podIP": address}}


def agent_pod(node_name: str, name: str = "", address: str = "") -> Object:
    """The DaemonSet's pod on a node."""
    return pod(name or f"aws-node-{node_name}", node_name, "kube-system", {"k8s-app": "aws-node"}, True, address)


def eni_config(name: str, subnet: str, groups: list[str] | None = None) -> Object:
    return {"kind": "ENIConfig", "metadata": {"name": name}, "spec": {"subnet": subnet, "securityGroups": groups or []}}


def cni_node(name: str, features: list[dict[str, str]] | None = None) -> Object:
    return {"kind": "CNINode", "metadata": {"name": name}, "spec": {"features": features or []}}
