"""The Python interface for test suites: put Tests/Simulator on sys.path and import this. Standard library alone.

    with Simulator(name="test-1", throttle=True) as vpc:
        node = vpc.add_instance("node1", type="m5.large", subnet="a")
        node.run(["ip", "address"])
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from . import registry
from .channel import ask
from .patience import patient

LAUNCHER = Path(__file__).resolve().parent.parent / "vpcsim"


def _with_environment() -> dict[str, str]:
    """Makes the daemon use this process's virtual environment, if setup-venv made it."""
    if "VPCSIM_VENV" not in os.environ and (Path(sys.prefix) / ".requirements").exists():
        return {**os.environ, "VPCSIM_VENV": sys.prefix}
    return dict(os.environ)


class Instance:
    """A running instance. Commands run in its network and mount namespaces."""

    def __init__(self, simulator: Simulator, described: dict[str, Any]) -> None:
        self._simulator = simulator
        self.name: str = described["name"]
        self.instance_id: str = described["instance_id"]
        self.address: str = described["address"]
        self.address6: str | None = described["address6"]
        self.described = described
        self._network = Path(described["network"])
        self._mounts = Path(described["mounts"])

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that a program in the instance needs to find the simulated AWS."""
        return dict(self._simulator.ready["environment"])

    def command(self, words: list[str], directory: str | None = None) -> list[str]:
        return registry.enter_command(self._network, self._mounts, directory) + words

    def run(self, words: list[str], check: bool = True, timeout: float = 60, env: dict[str, str] | None = None,
            input: str | bytes | None = None, text: bool = True, cwd: str | None = None) -> subprocess.CompletedProcess[Any]:
        """Runs a command to its end and captures its output. `env` extends this process's and the simulator's."""
        return subprocess.run(self.command(words, cwd), check=check, timeout=patient(timeout), env=self._environment(env),
                              input=input, capture_output=True, text=text)

    def popen(self, words: list[str], env: dict[str, str] | None = None, cwd: str | None = None,
              **options: Any) -> subprocess.Popen[Any]:
        """Starts a command; its PID is the command's own (nsenter executes it)."""
        return subprocess.Popen(self.command(words, cwd), env=self._environment(env), **options)

    def enis(self) -> list[dict[str, Any]]:
        return self._simulator.enis(self.name)

    def remove(self) -> None:
        self._simulator.remove_instance(self.name)

    def _environment(self, env: dict[str, str] | None) -> dict[str, str]:
        return {**os.environ, **self.environment, **(env or {})}


class Simulator:
    """One simulated VPC. It ends with this process, unless `outlives` is set: then `vpcsim --name NAME down` ends it.
    `options` are those of `up`, with underscores: throttle, verify_signatures, imds_lag, …"""

    def __init__(self, name: str | None = None, state: Path | None = None, log: Path | None = None, outlives: bool = False,
                 **options: Any) -> None:
        self.name = registry.check_name(name or f"t-{uuid.uuid4().hex[:8]}", "name")
        self._state = state
        self._log = log
        self._outlives = outlives
        self._options = options
        self._process: subprocess.Popen[Any] | None = None
        self.ready: dict[str, Any] = {}

    @classmethod
    def attach(cls, name: str) -> Simulator:
        """A simulated VPC that another process started."""
        simulator = cls(name)
        simulator.ready = registry.ready(name)
        return simulator

    def start(self, deadline: float = 60.0) -> Simulator:
        """Raises RuntimeError with the daemon's output if it does not start."""
        words = [str(LAUNCHER), "up", "--background" if self._outlives else "--lifeline", "--name", self.name]
        if self._state:
            words += ["--state", str(self._state)]
        for option, value in self._options.items():
            flag = f"--{option.replace('_', '-')}"
            for each in value if isinstance(value, (list, tuple)) else [value]:
                if each is True:
                    words.append(flag)
                elif each is not False and each is not None:
                    words += [flag, str(each)]
        if self._outlives:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_with_environment(),
                                  timeout=patient(deadline), check=False)
            if done.returncode:
                raise RuntimeError(f"the simulator did not come up: {done.stderr.strip()}")
            self.ready = registry.ready(self.name)
            return self
        output: Any = self._log.open("wb") if self._log else subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output,
                                         env=_with_environment())
        until = time.monotonic() + patient(deadline)
        line = self._process.stdout.readline() if self._process.stdout else b""
        if line.strip() != b"ready":
            self._process.kill()
            words_of_it = self._process.stderr.read().decode(errors="replace") if self._process.stderr else ""
            self._process.wait(timeout=max(1.0, until - time.monotonic()))
            self.stop()
            raise RuntimeError(f"the simulator did not come up: {words_of_it.strip()}")
        self.ready = registry.ready(self.name)
        return self

    def stop(self) -> None:
        """Removes everything, whatever its state."""
        from .cleanup import remove

        remove(self.name)
        if self._process is not None:
            self._process.wait(timeout=patient(15))
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream:
                    stream.close()
            self._process = None

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def ask(self, command: str, /, **arguments: Any) -> Any:
        """Runs any command of control.py."""
        return ask(self.name, command, **arguments)

    # MARK: instances

    def add_instance(self, name: str, **options: Any) -> Instance:
        """Options: type, subnet, rp_filter, imds_v1, hop_limit, no_ipv6."""
        return Instance(self, self.ask("instance.add", name=name, **options))

    def instance(self, name: str) -> Instance:
        return next(Instance(self, each) for each in self.ask("instances") if each["name"] == name)

    def instances(self) -> list[Instance]:
        return [Instance(self, each) for each in self.ask("instances")]

    def remove_instance(self, name: str) -> None:
        self.ask("instance.rm", name=name)

    def enis(self, instance: str | None = None) -> list[dict[str, Any]]:
        return self.ask("enis", instance=instance)

    def run_in(self, place: str, words: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Runs a command in `@fabric` or `@internet`; options are subprocess.run's."""
        network, mounts = registry.namespace_files(self.name, place)
        return subprocess.run(registry.enter_command(network, mounts) + words, **options)

    # MARK: counts and reports

    def counts(self, reset: bool = False) -> dict[str, Any]:
        return self.ask("counts", reset=reset)

    def drops(self, reset: bool = False) -> dict[str, Any]:
        return self.ask("drops", reset=reset)

    def internet(self, reset: bool = False) -> dict[str, Any]:
        return self.ask("internet", reset=reset)

    # MARK: faults

    def fault(self, action: str, **fields: Any) -> None:
        """Adds a fault; fields as in faults.Fault: code, message, http, times, when, delay, body, size, truncate, drop, …"""
        self.ask("fault.add", action=action, **fields)

    def clear_faults(self, caller: str | None = None) -> int:
        """Removes all faults, or those for one caller."""
        return self.ask("fault.clear", **({"caller": caller} if caller else {}))

    def throttle(self, on: bool) -> None:
        self.ask("throttle", on=on)

    def latency(self, action: str, seconds: float) -> None:
        self.ask("latency", action=action, seconds=seconds)

    def imds_lag(self, instance: str, seconds: float) -> None:
        self.ask("imds.lag", instance=instance, seconds=seconds)

    def imds(self, on: bool, instance: str = "*") -> None:
        self.ask("imds.switch", on=on, instance=instance)

    def deny(self, action: str) -> None:
        self.ask("iam.deny", action=action)

    def allow(self, action: str) -> bool:
        return self.ask("iam.allow", action=action)

    def ec2(self, service: str = "ec2") -> Any:
        """A boto3 client of this machine with every permission (needs the venv)."""
        import boto3
        from botocore.config import Config

        operator = self.ready["operator"]
        return boto3.client(service, endpoint_url=self.ready["host_endpoint"], region_name=self.ready["region"],
                            aws_access_key_id=operator["AWS_ACCESS_KEY_ID"],
                            aws_secret_access_key=operator["AWS_SECRET_ACCESS_KEY"],
                            config=Config(retries={"total_max_attempts": 1}))
