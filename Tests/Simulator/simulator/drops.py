"""What the fabric dropped, read from the counters and sets of its nftables rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# a reason, and the sets of its flows without the family's digit
_FLOWS = {"unowned_source": "flows", "no_public_address": "private", "unassigned_destination": "unrouted"}


def sets(*others: str, ipv6: bool) -> list[str]:
    """The names of the sets that count."""
    return [*others, *(f"{name}{family}" for name in _FLOWS.values() for family in ("4", "6")[:1 + ipv6])]


def report(listing: dict[str, Any], name: Callable[[str], dict[str, str]]) -> dict[str, Any]:
    """The report from `nft -j list table`. `name` describes the ENI behind a device of the fabric."""
    counters: dict[str, int] = {}
    members: dict[str, list[tuple[Any, int]]] = {}
    for item in listing["nftables"]:
        if counter := item.get("counter"):
            counters[counter["name"]] = counter["packets"]
        if found := item.get("set"):
            members[found["name"]] = [
                (each["elem"]["val"], each["elem"].get("counter", {}).get("packets", 0))
                for each in found.get("elem", []) if isinstance(each, dict) and "elem" in each
            ]

    def flows(key: str) -> list[dict[str, Any]]:
        return [{**name(value["concat"][0]), "source": value["concat"][1], "destination": value["concat"][2],
                 "packets": packets} for value, packets in members.get(f"{key}4", []) + members.get(f"{key}6", [])]

    return {
        "total": counters["unowned_source"] + counters["no_public_address"],
        "unowned_source": counters["unowned_source"],
        "no_public_address": counters["no_public_address"],
        "unassigned_destination": counters["unassigned_destination"],
        "enis": [{**name(device), "packets": packets} for device, packets in members.get("sources", [])],
        "flows": {reason: flows(key) for reason, key in _FLOWS.items()},
    }
