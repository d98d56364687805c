"""A metrics helper on a simulated instance, run as in its Deployment: service account, variables, an unprivileged user."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from . import paths
from .nobody import AS_NOBODY
from .waiting import wait_for

from kubeapi.client import KubeAPI
from simulator.client import Instance
from simulator.patience import patient

PORT = 61681
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class MetricsHelper:
    """One process of `vpc-cni metrics-helper`; `log` has its output so far, one object per line."""

    def __init__(self, instance: Instance, api: KubeAPI, environment: dict[str, str] | None = None,
                 arguments: list[str] | None = None) -> None:
        api.install_account(instance)
        self.instance = instance
        self.log: list[dict[str, Any]] = []
        variables = {"KUBERNETES_SERVICE_HOST": api.address, "KUBERNETES_SERVICE_PORT": str(api.port),
                     "USE_PROMETHEUS": "true", "METRIC_UPDATE_INTERVAL": "1", "HOME": "/",
                     **(environment or {})}
        words = [*AS_NOBODY, str(paths.BINARY), "metrics-helper", *(arguments or [])]
        self.process = instance.popen(words, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> MetricsHelper:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: Any) -> None:
        self.stop()
        if failure is not None:
            # pytest prints this with the failure.
            print("the helper's log:", *self.log[-50:], sep="\n")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.log.append({"msg": line})

    def said(self, words: str) -> list[dict[str, Any]]:
        return [line for line in list(self.log) if words in line["msg"]]

    def wait_said(self, words: str, deadline: float = 30.0) -> dict[str, Any]:
        return wait_for(lambda: self.said(words), f"the helper says: {words}", deadline)[0]

    def samples(self) -> Samples:
        """The samples that it serves to Prometheus, parsed by Prometheus's own parser; nothing while it does not answer."""
        got = self.instance.run(["curl", "-sS", "-m", "5", f"http://127.0.0.1:{PORT}/metrics"], check=False)
        written = {line.split("{")[0].split(" ")[0] for line in got.stdout.splitlines()}
        name = lambda each: each if each in written else each.removesuffix("_total")  # noqa: E731
        return {(name(sample.name), tuple(sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(got.stdout) for sample in family.samples}

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get((name, tuple(sorted(labels.items()))))

    def wait_value(self, wanted: float, name: str, deadline: float = 30.0, **labels: str) -> None:
        wait_for(lambda: self.value(name, **labels) == wanted, f"{name}{labels} is {wanted}", deadline, pause=0.05)

    def stop(self, deadline: float = 10.0) -> int:
        """Sends SIGTERM; returns the exit status. Kills the process if it takes longer."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=patient(deadline))
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self._reader.join(timeout=5)
        return status
