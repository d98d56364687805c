"""The daemon's commands by name. Each takes keyword arguments and returns a JSON value."""

from __future__ import annotations

import dataclasses
import inspect
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moto.core.exceptions import ServiceException

from . import overview
from .buckets import RequestBuckets
from .cleanup import remove_instance_namespaces
from .errors import EC2Error
from .faults import Fault
from .gate import Gate
from .imds import MetadataService
from .internet import Internet
from .registry import check_name
from .settings import check_lifetime
from .world import World

_LINE_LIMIT = 1 << 20


class Control:
    def __init__(self, path: Path, world: World, gate: Gate, imds: MetadataService, internet: Internet,
                 namespaces: Path) -> None:
        self._world = world
        self._gate = gate
        self._imds = imds
        self._internet = internet
        self._namespaces = namespaces
        self._commands: dict[str, Callable[..., Any]] = {
            "instance.add": self._add_instance, "instance.rm": self._remove_instance, "instances": self._instances,
            "enis": lambda instance=None: self._locked(lambda: overview.of_interfaces(world, instance)),
            "counts": lambda reset=False: {**gate.counts.report(reset), "imds": imds.counts.report(reset)},
            "fault.add": self._add_fault, "fault.clear": gate.faults.clear, "fault.list": gate.faults.listed,
            "fault.met": gate.faults.under_way,
            "throttle": lambda on: gate.buckets.switch(on), "bucket": self._bucket,
            "latency": gate.set_latency, "imds.lag": self._imds_lag, "imds.switch": self._imds_switch,
            "imds.tokens": self._imds_tokens, "imds.forget": imds.forget_tokens,
            "credentials.rotate": self._rotate, "drops": lambda reset=False: self._locked(lambda: world.fabric.drops(reset)),
            "subnets": lambda: self._locked(world.subnets.listed),
            "subnet.add": self._add_subnet, "subnet.reserve": self._reserve,
            "subnet.take": lambda subnet, leave=0: self._locked(lambda: world.subnets.take(subnet, leave)),
            "subnet.fragment": lambda subnet, family=4, leave=0: self._locked(
                lambda: world.subnets.fragment(subnet, family, leave)),
            "subnet.free": lambda subnet: self._locked(lambda: world.subnets.give_back(subnet)),
            "cidrs": lambda: self._locked(world.subnets.vpc_cidrs),
            "cidr.add": lambda cidr: self._locked(lambda: world.add_cidr(cidr)),
            "cidr.remove": lambda cidr: self._locked(lambda: world.remove_cidr(cidr)),
            "internet": internet.report, "iam.deny": gate.deny, "iam.allow": gate.allow, "iam": lambda: gate.denied,
            "delay": self._delay, "volumes": self._volumes,
            "prefixes.reverse": lambda interface: self._locked(lambda: world.interfaces.addresses.reverse_prefixes(interface)),
            "router.lifetime": self._router_lifetime, "ping": lambda: "pong",
        }
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(128)
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def run(self, command: str, arguments: dict[str, Any]) -> Any:
        """Raises ValueError for an unknown command or argument, and any error of the command."""
        action = self._commands.get(command)
        if action is None:
            raise ValueError(f"command {command!r} is unknown")
        try:
            inspect.signature(action).bind(**arguments)
        except TypeError as error:
            raise ValueError(f"{command}: {error}") from None
        return action(**arguments)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(60)
            try:
                line = connection.makefile("rb").readline(_LINE_LIMIT)
                asked = json.loads(line)
                answer = {"ok": True, "result": self.run(asked["command"], asked["arguments"])}
            except (ValueError, KeyError, EC2Error, ServiceException, RuntimeError) as error:
                answer = {"ok": False, "error": str(error)}
            except Exception as error:  # an internal error must reach the person who typed the command
                answer = {"ok": False, "error": f"simulator: {error!r}"}
            try:
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                pass

    def _locked(self, action: Callable[[], Any]) -> Any:
        with self._world.lock:
            return action()

    def _add_instance(self, name: str, type: str = "m5.large", subnet: str = "a", rp_filter: int = 1,
                      imds_v1: bool = False, hop_limit: int = 2, no_ipv6: bool = False) -> Any:
        check_name(name, "instance")
        if rp_filter not in (0, 1, 2):
            raise ValueError(f"rp_filter {rp_filter} is not 0, 1 or 2")
        if not 1 <= hop_limit <= 64:
            raise ValueError(f"hop limit {hop_limit} is not between 1 and 64")
        return self._world.add_instance(name, type, subnet, rp_filter, not no_ipv6, imds_tokens_required=not imds_v1,
                                        imds_hop_limit=hop_limit)

    def _remove_instance(self, name: str) -> None:
        self._world.instance(name)
        remove_instance_namespaces(self._namespaces, name)
        self._world.remove_instance(name)

    def _instances(self) -> Any:
        return self._locked(lambda: [overview.of_instance(self._world, name) for name in sorted(self._world.instances)])

    def _add_fault(self, action: str, **fields: Any) -> Any:
        known = {field.name for field in dataclasses.fields(Fault)}
        for name in fields:
            if name not in known:
                raise ValueError(f"a fault has no {name!r}")
        self._gate.faults.add(Fault(action=action, **fields))
        return self._gate.faults.listed()

    def _bucket(self, action: str, capacity: float, refill: float) -> None:
        if capacity < 0 or refill < 0:
            raise ValueError(f"capacity {capacity} and refill {refill} must not be negative")
        buckets: RequestBuckets = self._gate.buckets
        buckets.resize(action, capacity, refill)

    def _delay(self, attach: float | None = None, detach: float | None = None) -> dict[str, float]:
        for name, value in (("attach", attach), ("detach", detach)):
            if value is not None:
                if not 0 <= value <= 600:
                    raise ValueError(f"{name} delay {value} is not between 0 and 600 seconds")
                setattr(self._world.settings, f"{name}_delay", value)
        return {"attach": self._world.settings.attach_delay, "detach": self._world.settings.detach_delay}

    def _volumes(self, instance: str, count: int) -> None:
        if not 0 <= count <= 100:
            raise ValueError(f"{count} volumes are not between 0 and 100")
        with self._world.lock:
            self._world.interfaces.set_volumes(self._world.instance(instance).instance_id, count)

    def _rotate(self, lifetime: float | None = None) -> None:
        if lifetime is not None:
            if not 1 <= lifetime <= 43200:
                raise ValueError(f"lifetime {lifetime} is not between 1 and 43200 seconds")
            self._world.credentials.lifetime = lifetime
        self._world.credentials.rotate()

    def _imds_lag(self, instance: str, seconds: float) -> None:
        if not 0 <= seconds <= 600:
            raise ValueError(f"lag {seconds} is not between 0 and 600 seconds")
        with self._world.lock:
            for each in self._chosen(instance):
                each.imds_lag = seconds

    def _imds_tokens(self, instance: str, required: bool) -> None:
        with self._world.lock:
            for each in self._chosen(instance):
                each.imds_tokens_required = required

    def _imds_switch(self, on: bool, instance: str = "*") -> None:
        with self._world.lock:
            for each in self._chosen(instance):
                for interface_id in each.devices:
                    self._world.fabric.set_imds(interface_id, on)

    def _chosen(self, instance: str) -> list[Any]:
        return list(self._world.instances.values()) if instance == "*" else [self._world.instance(instance)]

    def _add_subnet(self, name: str, cidr: str, zone: str = "a", tags: dict[str, str] | None = None, no_ipv6: bool = False) -> str:
        check_name(name, "subnet")
        return self._locked(lambda: self._world.subnets.add(name, cidr, zone, tags, not no_ipv6))

    def _router_lifetime(self, seconds: float) -> None:
        if self._world.fabric.router6 is None:
            raise ValueError("the simulated VPC has no IPv6: start it with --family dual")
        self._world.fabric.router6.set_lifetime(check_lifetime(seconds))

    def _reserve(self, subnet: str, cidr: str, type: str = "prefix") -> None:
        if type not in ("prefix", "explicit"):
            raise ValueError(f"reservation type {type!r} is neither prefix nor explicit")
        self._locked(lambda: self._world.subnets.reserve(subnet, cidr, type))
