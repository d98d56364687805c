"""The content of the instance metadata service as a tree of texts, and its earlier states."""

from __future__ import annotations

import json
import time
from typing import Any

Tree = dict[str, Any]  # a name to a text or to a Tree


class InterfaceHistory:
    """The interfaces of one instance over time, so that IMDS can lag behind EC2."""

    _KEPT_SECONDS = 900.0

    def __init__(self) -> None:
        self._views: list[tuple[float, Tree]] = []

    def record(self, view: Tree) -> None:
        now = time.monotonic()
        self._views.append((now, view))
        while len(self._views) > 1 and self._views[1][0] < now - self._KEPT_SECONDS:
            del self._views[0]

    def at(self, lag: float) -> Tree:
        """The view that was current `lag` seconds ago; the first view if there was none yet."""
        then = time.monotonic() - lag
        current = self._views[0][1]
        for stamp, view in self._views:
            if stamp > then:
                break
            current = view
        return current


def interface_tree(interface: Any, vpc_cidrs: list[str], vpc_cidrs6: list[str], default_card_only: bool) -> Tree:
    """network/interfaces/macs/MAC/. Entries that do not apply to the interface are absent."""
    tree: Tree = {
        "device-number": str(interface.device_index),
        "interface-id": interface.id,
        "local-hostname": _hostname(interface.private_ip_address, interface.ec2_backend.region_name),
        "local-ipv4s": "\n".join(each["PrivateIpAddress"] for each in interface.private_ip_addresses),
        "mac": interface.mac_address,
        "owner-id": interface.owner_id,
        "security-group-ids": "\n".join(sorted(group.id for group in interface.group_set)),
        "security-groups": "\n".join(sorted(group.name for group in interface.group_set)),
        "subnet-id": interface.subnet.id,
        "subnet-ipv4-cidr-block": interface.subnet.cidr_block,
        "vpc-id": interface.vpc_id,
        "vpc-ipv4-cidr-block": vpc_cidrs[0],
        "vpc-ipv4-cidr-blocks": "\n".join(vpc_cidrs),
    }
    if interface.ipv4_prefixes:
        tree["ipv4-prefix"] = "\n".join(each["Ipv4Prefix"] for each in interface.ipv4_prefixes)
    if interface.ipv6_addresses:
        tree["ipv6s"] = "\n".join(interface.ipv6_addresses)
    if interface.ipv6_prefixes:
        tree["ipv6-prefix"] = "\n".join(each["Ipv6Prefix"] for each in interface.ipv6_prefixes)
    if subnet_cidrs6 := [each["ipv6CidrBlock"] for each in interface.subnet.ipv6_cidr_block_associations.values()]:
        tree["subnet-ipv6-cidr-blocks"] = "\n".join(subnet_cidrs6)
    if vpc_cidrs6:
        tree["vpc-ipv6-cidr-blocks"] = "\n".join(vpc_cidrs6)
    if not default_card_only:
        tree["network-card"] = str(interface.network_card_index)
    return tree


def instance_tree(instance: Any, account: str, region: str, interfaces: Tree, role: str, credentials: Any) -> Tree:
    """The whole tree below /latest/. `credentials` is called only when they are read."""
    primary = instance.nics[0]
    zone = instance.placement.zone
    hostname = _hostname(primary.private_ip_address, region)
    document = {
        "accountId": account, "architecture": "x86_64", "availabilityZone": zone, "billingProducts": None,
        "devpayProductCodes": None, "marketplaceProductCodes": None, "imageId": instance.image_id,
        "instanceId": instance.id, "instanceType": instance.instance_type, "kernelId": None,
        "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"), "privateIp": primary.private_ip_address,
        "ramdiskId": None, "region": region, "version": "2017-09-30",
    }
    return {
        "dynamic": {"instance-identity": {"document": json.dumps(document, indent=2)}},
        "meta-data": {
            "ami-id": instance.image_id,
            "hostname": hostname,
            "iam": {
                "info": lambda: json.dumps({
                    "Code": "Success", "LastUpdated": _stamp(time.time()),
                    "InstanceProfileArn": f"arn:aws:iam::{account}:instance-profile/{role}", "InstanceProfileId": "AIPAVPCSIM"}),
                "security-credentials": {role: lambda: _credentials_document(credentials())},
            },
            **({"ipv6": primary.ipv6_addresses[0]} if primary.ipv6_addresses else {}),
            "instance-id": instance.id,
            "instance-life-cycle": "on-demand",
            "instance-type": instance.instance_type,
            "local-hostname": hostname,
            "local-ipv4": primary.private_ip_address,
            "mac": primary.mac_address,
            "network": {"interfaces": {"macs": interfaces}},
            "placement": {"availability-zone": zone, "availability-zone-id": primary.subnet.availability_zone_id,
                          "region": region},
            "reservation-id": "r-vpcsim",
            "security-groups": "\n".join(sorted(group.name for group in primary.group_set)),
            "services": {"domain": "amazonaws.com", "partition": "aws"},
        },
    }


def look_up(tree: Tree, path: str) -> str | None:
    """The text at `path`, or a directory listing (subdirectories end with a slash); None if there is nothing."""
    node: Any = tree
    for name in (each for each in path.split("/") if each):
        if not isinstance(node, dict) or name not in node:
            return None
        node = node[name]
    if isinstance(node, dict):
        # IMDS lists the roles as plain names
        return "\n".join(f"{name}/" if isinstance(child, dict) else name for name, child in sorted(node.items()))
    return str(node() if callable(node) else node)


def _hostname(address: str, region: str) -> str:
    return f"ip-{address.replace('.', '-')}.{region}.compute.internal"


def _credentials_document(issued: Any) -> str:
    return json.dumps({
        "Code": "Success", "LastUpdated": _stamp(issued.updated), "Type": "AWS-HMAC", "AccessKeyId": issued.key,
        "SecretAccessKey": issued.secret, "Token": issued.token, "Expiration": _stamp(issued.expires),
    }, indent=2)


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
