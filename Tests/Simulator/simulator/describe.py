"""Filters and pages of describe calls."""

from __future__ import annotations

import base64
import binascii
import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

from .errors import EC2Error

_Values = Callable[[Any], Iterable[Any]]


def _attachment(name: str) -> _Values:
    return lambda interface: [getattr(interface.attachment, name)] if interface.attachment else []


_INTERFACE_FILTERS: dict[str, _Values] = {
    "addresses.primary": lambda i: [bool(each.get("Primary")) for each in i.private_ip_addresses],
    "addresses.private-ip-address": lambda i: [each["PrivateIpAddress"] for each in i.private_ip_addresses],
    "attachment.attach-time": _attachment("attach_time"),
    "attachment.attachment-id": _attachment("attachment_id"),
    "attachment.delete-on-termination": _attachment("delete_on_termination"),
    "attachment.device-index": _attachment("device_index"),
    "attachment.instance-id": _attachment("instance_id"),
    "attachment.instance-owner-id": _attachment("instance_owner_id"),
    "attachment.network-card-index": _attachment("network_card_index"),
    "attachment.status": _attachment("status"),
    "availability-zone": lambda i: [i.availability_zone],
    "description": lambda i: [i.description],
    "group-id": lambda i: [group.id for group in i.group_set],
    "group-name": lambda i: [group.name for group in i.group_set],
    "interface-type": lambda i: [i.interface_type],
    "ipv6-addresses.ipv6-address": lambda i: i.ipv6_addresses,
    "mac-address": lambda i: [i.mac_address],
    "network-interface-id": lambda i: [i.id],
    "owner-id": lambda i: [i.owner_id],
    "private-dns-name": lambda i: [getattr(i, "private_dns_name", None)],
    "private-ip-address": lambda i: [i.private_ip_address],
    "requester-id": lambda i: [i.requester_id],
    "requester-managed": lambda i: [i.requester_managed],
    "source-dest-check": lambda i: [i.source_dest_check],
    "status": lambda i: [i.status],
    "subnet-id": lambda i: [i.subnet.id],
    "vpc-id": lambda i: [i.vpc_id],
}

_SUBNET_FILTERS: dict[str, _Values] = {
    "availability-zone": lambda s: [s.availability_zone],
    "availabilityZone": lambda s: [s.availability_zone],
    "availability-zone-id": lambda s: [s.availability_zone_id],
    "available-ip-address-count": lambda s: [s.available_ip_address_count],
    "cidr": lambda s: [s.cidr_block],
    "cidr-block": lambda s: [s.cidr_block],
    "cidrBlock": lambda s: [s.cidr_block],
    "default-for-az": lambda s: [s.default_for_az],
    "ipv6-cidr-block-association.association-id": lambda s: s.ipv6_cidr_block_associations,
    "ipv6-cidr-block-association.ipv6-cidr-block": lambda s: [
        each["ipv6CidrBlock"] for each in s.ipv6_cidr_block_associations.values()],
    "ipv6-cidr-block-association.state": lambda s: [
        each["ipv6CidrBlockState"]["State"] for each in s.ipv6_cidr_block_associations.values()],
    "map-public-ip-on-launch": lambda s: [s.map_public_ip_on_launch],
    "owner-id": lambda s: [s.owner_id],
    "state": lambda s: [s.state],
    "subnet-arn": lambda s: [s.arn],
    "subnet-id": lambda s: [s.id],
    "vpc-id": lambda s: [s.vpc_id],
}


def interfaces_matching(interfaces: Iterable[Any], filters: dict[str, list[str]]) -> list[Any]:
    return _matching(interfaces, filters, _INTERFACE_FILTERS)


def subnets_matching(subnets: Iterable[Any], filters: dict[str, list[str]]) -> list[Any]:
    return _matching(subnets, filters, _SUBNET_FILTERS)


def page(items: list[Any], max_results: int | None, token: str | None, named: bool,
         names: str) -> tuple[list[Any], str | None]:
    """The page that `token` refers to, and the token of the next page.

    Raises as EC2 does for a page size outside 5…1000, for paging of named resources, and for an invalid token.
    """
    if max_results is not None:
        if max_results < 5:
            raise EC2Error("InvalidParameterValue", f"Value ( {max_results} ) for parameter maxResults is invalid. "
                                                    "Expecting a value greater than or equal to 5.")
        if max_results > 1000:
            raise EC2Error("InvalidParameterValue", f"Value ( {max_results} ) for parameter maxResults is invalid. "
                                                    "Expecting a value less than or equal to 1000.")
        if named:
            raise EC2Error("InvalidParameterCombination",
                           f"The parameter {names} cannot be used with the parameter maxResults")
    start = 0
    if token:
        try:
            start = int(base64.b64decode(token, validate=True).decode().removeprefix("page-"))
        except (binascii.Error, ValueError):
            raise EC2Error("InvalidPaginationToken", f"The token '{token}' is invalid") from None
    # without a page size EC2 returns everything; its own upper bound limits the size of one answer
    end = start + (max_results or 1000)
    following = base64.b64encode(f"page-{end}".encode()).decode() if end < len(items) else None
    return items[start:end], following


def _matching(items: Iterable[Any], filters: dict[str, list[str]], table: dict[str, _Values]) -> list[Any]:
    tests: list[tuple[_Values, list[str]]] = []
    for name, patterns in filters.items():
        values = _tag_values(name) or table.get(name)
        if values is None:
            raise EC2Error("InvalidParameterValue", f"The filter '{name}' is invalid")
        tests.append((values, patterns))
    return [item for item in items
            if all(any(_text(value) == pattern or fnmatch.fnmatchcase(_text(value), pattern)
                       for value in values(item) for pattern in patterns)
                   for values, patterns in tests)]


def _tag_values(name: str) -> _Values | None:
    if name == "tag-key":
        return lambda item: [tag["key"] for tag in item.get_tags()]
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return lambda item: [tag["value"] for tag in item.get_tags() if tag["key"] == key]
    return None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
