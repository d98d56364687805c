"""`vpcsim up`: turns options into settings and starts the daemon in the foreground or the background."""

from __future__ import annotations

import argparse
import ipaddress
import os
import subprocess
import sys

from . import registry
from .cleanup import remove
from .settings import Settings, check_lifetime


def up(arguments: argparse.Namespace) -> int:
    registry.check_name(arguments.name, "name")
    if os.geteuid() != 0:
        raise ValueError("namespaces need root")
    if arguments.background:
        return _in_background(arguments)
    settings = Settings(
        name=arguments.name, region=arguments.region, vpc_cidr=str(_cidr(arguments.vpc_cidr)), cluster=arguments.cluster,
        family=arguments.family, router_lifetime=check_lifetime(arguments.router_lifetime),
        throttle=arguments.throttle, verify_signatures=arguments.verify_signatures, nat_gateway=arguments.nat_gateway,
        imds_lag=_seconds("imds-lag", arguments.imds_lag), attach_delay=_seconds("attach-delay", arguments.attach_delay),
        detach_delay=_seconds("detach-delay", arguments.detach_delay),
        credentials_lifetime=_seconds("credentials-lifetime", arguments.credentials_lifetime, 43200))
    if arguments.subnet:
        settings.subnets = [_subnet(each) for each in arguments.subnet]
    settings.latency = dict(_latency(each) for each in arguments.latency)
    _check_subnets(settings)
    from .daemon import serve

    return serve(settings, arguments.state, arguments.lifeline)


def _in_background(arguments: argparse.Namespace) -> int:
    """Starts itself again in a new session and waits for `ready`."""
    from .client import LAUNCHER

    words = [str(LAUNCHER), *(each for each in sys.argv[1:] if each != "--background")]
    log = f"/tmp/vpcsim-{arguments.name}.err"
    with open(log, "w+b") as errors:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                                   start_new_session=True)
        line = process.stdout.readline() if process.stdout else b""
        if line.strip() == b"ready":
            os.unlink(log)
            print("ready")
            return 0
        process.wait(timeout=15)
        errors.seek(0)
        sys.stderr.write(errors.read().decode(errors="replace"))
    os.unlink(log)
    remove(arguments.name)
    return 1


def _subnet(text: str) -> tuple[str, str, str]:
    name, equals, rest = text.partition("=")
    cidr, _, zone = rest.partition("@")
    if not equals:
        raise ValueError(f"subnet {text!r} is not NAME=CIDR[@ZONE]")
    zone = zone or "a"
    if len(zone) != 1 or zone not in "abcdef":
        raise ValueError(f"zone {zone!r} of subnet {text!r} is not a letter from a to f")
    return registry.check_name(name, "subnet"), str(_cidr(cidr)), zone


def _check_subnets(settings: Settings) -> None:
    vpc = ipaddress.IPv4Network(settings.vpc_cidr)
    for name, cidr, _ in settings.subnets:
        if not ipaddress.IPv4Network(cidr).subnet_of(vpc):
            raise ValueError(f"subnet {name} {cidr} is not within the VPC's {vpc}")


def _cidr(text: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"CIDR {text!r}: {error}") from None


def _seconds(name: str, value: float, most: float = 600) -> float:
    if not 0 <= value <= most:
        raise ValueError(f"{name} {value} is not between 0 and {most} seconds")
    return value


def _latency(text: str) -> tuple[str, float]:
    action, equals, seconds = text.rpartition("=")
    try:
        return action, _seconds("latency", float(seconds))
    except ValueError:
        raise ValueError(f"latency {text!r} is not ACTION=SECONDS (at most 600)") from None
