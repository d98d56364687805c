"""The limits of an instance type, from the same table that answers DescribeInstanceTypes."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from moto.ec2.models.instance_types import INSTANCE_TYPES, InstanceType, InstanceTypeBackend

# A type that is newer than any built-in table: only DescribeInstanceTypes returns its limits.
FUTURE_TYPE = "q9.future"
_future = copy.deepcopy(INSTANCE_TYPES["m5.large"])
_future["InstanceType"] = FUTURE_TYPE
_future["NetworkInfo"]["Ipv4AddressesPerInterface"] = 6
INSTANCE_TYPES[FUTURE_TYPE] = _future
InstanceTypeBackend.instance_types.append(InstanceType(FUTURE_TYPE))


@dataclass(frozen=True)
class InstanceLimits:
    """Interfaces per instance and per network card, and addresses per interface, including the primary address."""

    interfaces: int
    ipv4_per_interface: int
    ipv6_per_interface: int
    cards: dict[int, int]
    default_card: int
    supports_prefixes: bool


def limits_of(instance_type: str) -> InstanceLimits:
    """Raises ValueError for a type that EC2 does not know."""
    described = INSTANCE_TYPES.get(instance_type)
    if described is None:
        raise ValueError(f"instance type {instance_type!r} is unknown")
    network = described["NetworkInfo"]
    cards = {card["NetworkCardIndex"]: card["MaximumNetworkInterfaces"] for card in network["NetworkCards"]}
    return InstanceLimits(
        interfaces=network["MaximumNetworkInterfaces"],
        ipv4_per_interface=network["Ipv4AddressesPerInterface"],
        ipv6_per_interface=network["Ipv6AddressesPerInterface"],
        cards=cards,
        default_card=network["DefaultNetworkCardIndex"],
        supports_prefixes=described.get("Hypervisor") == "nitro" or bool(described.get("BareMetal")),
    )
