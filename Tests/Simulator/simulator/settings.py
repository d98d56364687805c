"""The options of `up`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Settings:
    """Times are in seconds; keys of `latency` are globs of actions."""

    name: str = "vpc"
    region: str = "us-west-2"
    vpc_cidr: str = "192.168.0.0/16"
    # name, CIDR, availability zone's letter: the layout that eksctl makes
    subnets: list[tuple[str, str, str]] = field(default_factory=lambda: [
        ("a", "192.168.64.0/19", "a"), ("b", "192.168.96.0/19", "b")])
    # "ipv4" or "dual": with "dual" the VPC has `vpc_cidr6`, each subnet a /64 of it, each instance an IPv6 address
    family: str = "ipv4"
    vpc_cidr6: str = "2001:db8:1234:1a00::/56"
    router_lifetime: float = 1800.0  # in router advertisements
    cluster: str = "vpcsim"
    throttle: bool = False
    verify_signatures: bool = False
    nat_gateway: bool = False
    imds_lag: float = 0.0
    attach_delay: float = 0.0
    detach_delay: float = 0.0
    credentials_lifetime: float = 21600.0
    latency: dict[str, float] = field(default_factory=dict)


def check_lifetime(seconds: float) -> float:
    """The lifetime if a router advertisement can carry it. Raises ValueError."""
    if seconds != 0 and not 3 <= seconds <= 9000:
        raise ValueError(f"router lifetime {seconds} is neither 0 nor between 3 and 9000 seconds")
    return seconds
