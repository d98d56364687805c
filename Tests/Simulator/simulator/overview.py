"""Instances and interfaces as the command line and the tests see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .assignments import IPV4, IPV6
from .limits import limits_of

if TYPE_CHECKING:
    from .world import World


def of_instance(world: World, name: str) -> dict[str, Any]:
    instance = world.instance(name)
    made = world.made(instance)
    limits = limits_of(instance.instance_type)
    return {
        "name": name, "instance_id": instance.instance_id, "type": instance.instance_type, "subnet": instance.subnet,
        "zone": made.placement.zone, "address": made.nics[0].private_ip_address,
        "address6": next(iter(IPV6.addresses(made.nics[0])), None),
        "network": str(instance.network), "mounts": str(instance.mounts),
        "interfaces_limit": limits.interfaces, "addresses_limit": limits.ipv4_per_interface,
        "enis": of_interfaces(world, name),
    }


def of_interfaces(world: World, name: str | None) -> list[dict[str, Any]]:
    """All interfaces, or those of one instance, by instance, card and device index."""
    names = {each.instance_id: each.name for each in world.instances.values()}
    wanted = world.instance(name).instance_id if name else None
    rows = []
    for each in world.backend.enis.values():
        owner = each.instance.id if each.instance else None
        if wanted and owner != wanted:
            continue
        rows.append({
            "eni": each.id, "instance": names.get(owner),
            "device": world.instances[names[owner]].devices.get(each.id) if owner in names else None,
            "card": each.network_card_index, "index": each.device_index, "mac": each.mac_address,
            "status": each.attach_status if owner else each.status,
            "subnet": world.subnets.name_of(each.subnet.id), "primary": each.private_ip_address,
            "addresses": IPV4.addresses(each), "prefixes": IPV4.prefixes(each),
            "addresses6": IPV6.addresses(each), "prefixes6": IPV6.prefixes(each),
            "delete_on_termination": bool(each.delete_on_termination),
            "tags": {tag["key"]: tag["value"] for tag in each.get_tags()},
        })
    return sorted(rows, key=lambda row: (row["instance"] or "~", row["card"], row["index"] or 0, row["eni"]))
