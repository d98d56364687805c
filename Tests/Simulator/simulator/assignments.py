"""EC2's assignment of addresses and prefixes to interfaces, for both families.

Every method is called with the world's lock held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.ec2.models.elastic_network_interfaces import NetworkInterface

from . import errors
from .addresses import SubnetAddresses
from .addresses6 import SubnetAddresses6
from .errors import EC2Error
from .limits import InstanceLimits, limits_of

Pool = SubnetAddresses | SubnetAddresses6


@dataclass
class Taken:
    """Addresses and prefixes of one family, taken from a subnet. IPv6 has no primary address of its own kind."""

    primary: str = ""
    addresses: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Family:
    """Where moto's interface keeps the addresses of one family, and EC2's names for them."""

    version: int
    kept: tuple[str, str]  # the attributes with the lists of addresses and of prefixes
    keys: tuple[str, str]  # the keys of the dictionaries in these lists; empty for a list of plain texts
    parameters: tuple[str, str, str, str]  # addresses, their count, prefixes, their count

    def addresses(self, interface: NetworkInterface) -> list[str]:
        return self._texts(interface, 0)

    def prefixes(self, interface: NetworkInterface) -> list[str]:
        return self._texts(interface, 1)

    def slots(self, interface: NetworkInterface) -> int:
        """How many of the interface's slots are used: a prefix takes one."""
        return len(getattr(interface, self.kept[0])) + len(getattr(interface, self.kept[1]))

    def limit(self, limits: InstanceLimits) -> int:
        return limits.ipv4_per_interface if self.version == 4 else limits.ipv6_per_interface

    def add(self, interface: NetworkInterface, taken: Taken) -> None:
        """Adds all of `taken` but its primary address."""
        listed = getattr(interface, self.kept[0])
        if self.version == 4:
            listed.extend({"Primary": False, self.keys[0]: each} for each in taken.addresses)
        else:
            listed.extend(taken.addresses)
        getattr(interface, self.kept[1]).extend({self.keys[1]: each} for each in taken.prefixes)

    def remove(self, interface: NetworkInterface, addresses: list[str], prefixes: list[str]) -> None:
        for kept, key, gone in zip(self.kept, self.keys, (addresses, prefixes)):
            listed = getattr(interface, kept)
            listed[:] = [each for each in listed if (each[key] if key else each) not in gone]

    def _texts(self, interface: NetworkInterface, which: int) -> list[str]:
        key = self.keys[which]
        return [each[key] if key else each for each in getattr(interface, self.kept[which])]


IPV4 = Family(4, ("private_ip_addresses", "ipv4_prefixes"), ("PrivateIpAddress", "Ipv4Prefix"),
              ("privateIpAddresses", "secondaryPrivateIpAddressCount", "ipv4Prefixes", "ipv4PrefixCount"))
IPV6 = Family(6, ("ipv6_addresses", "ipv6_prefixes"), ("", "Ipv6Prefix"),
              ("ipv6Addresses", "ipv6AddressCount", "ipv6Prefixes", "ipv6PrefixCount"))


@dataclass
class AddressRequest:
    """The addresses of one family that a CreateNetworkInterface or an Assign… call requests."""

    addresses: list[str] = field(default_factory=list)
    count: int = 0
    prefixes: list[str] = field(default_factory=list)
    prefix_count: int = 0
    family: Family = IPV4

    def check(self) -> None:
        addresses, count, prefixes, prefix_count = self.family.parameters
        if self.addresses and self.count:
            raise EC2Error("InvalidParameterCombination", f"You may specify only one of {addresses} and {count}")
        if (self.addresses or self.count) and (self.prefixes or self.prefix_count):
            raise EC2Error("InvalidParameterCombination", "Only one of addresses and prefixes may be specified")
        if self.prefixes and self.prefix_count:
            raise EC2Error("InvalidParameterCombination", f"You may specify only one of {prefixes} and {prefix_count}")
        if self.count < 0 or self.prefix_count < 0:
            raise EC2Error("InvalidParameterValue", "A count of addresses cannot be negative")

    @property
    def slots(self) -> int:
        """How many of an interface's address slots the request takes: a prefix takes one."""
        return len(self.addresses) + self.count + len(self.prefixes) + self.prefix_count


class Assignments:
    """`get` returns the interface with an id or raises; `plane` is `interfaces.DataPlane`; the pools are by subnet id."""

    def __init__(self, get: Callable[[str], NetworkInterface], interfaces: Mapping[str, NetworkInterface], plane: Any,
                 pools: Mapping[str, SubnetAddresses], pools6: Mapping[str, SubnetAddresses6]) -> None:
        self._get = get
        self._interfaces = interfaces
        self._plane = plane
        self._pools = {4: pools, 6: pools6}

    def assign(self, interface_id: str, wanted: AddressRequest, allow_reassignment: bool = False) -> Taken:
        """Returns what is new, lowest first."""
        wanted.check()
        if wanted.slots == 0:
            raise EC2Error("MissingParameter", "The request must contain a number or a list of addresses or prefixes")
        interface = self._get(interface_id)
        family = wanted.family
        if interface.instance:
            limits = limits_of(interface.instance.instance_type)
            if family.slots(interface) + wanted.slots > family.limit(limits):
                raise errors.too_many_addresses()
        if allow_reassignment:
            for address in wanted.addresses:
                self._take_from_others(interface, address)
        taken = self.take(interface.subnet.id, wanted, with_primary=False)
        family.add(interface, taken)
        self._plane.addresses_changed(interface)
        return taken

    def unassign(self, interface_id: str, family: Family, addresses: list[str], prefixes: list[str]) -> None:
        interface = self._get(interface_id)
        if not addresses and not prefixes:
            names = "privateIpAddress or ipv4Prefix" if family is IPV4 else "ipv6Addresses or ipv6Prefix"
            raise EC2Error("MissingParameter", f"The request must contain the parameter {names}")
        if interface.private_ip_address in addresses:
            raise EC2Error("InvalidParameterValue", f"Primary address [{interface.private_ip_address}] cannot be unassigned")
        has, has_prefixes = set(family.addresses(interface)), set(family.prefixes(interface))
        strangers = [each for each in addresses if each not in has]
        strangers += [each for each in prefixes if each not in has_prefixes]
        if strangers:
            raise EC2Error("InvalidParameterValue",
                           f"Some of [{', '.join(strangers)}] are not assigned to interface {interface_id}")
        self.release(interface.subnet.id, family, Taken(addresses=addresses, prefixes=prefixes))
        family.remove(interface, addresses, prefixes)
        self._plane.addresses_changed(interface)

    def reverse_prefixes(self, interface_id: str) -> None:
        """From now on EC2 and IMDS list the interface's prefixes the other way round: EC2 promises no order."""
        interface = self._get(interface_id)
        for family in (IPV4, IPV6):
            getattr(interface, family.kept[1]).reverse()
        self._plane.addresses_changed(interface)

    def take(self, subnet_id: str, wanted: AddressRequest, primary: str | None = None, with_primary: bool = True) -> Taken:
        """All or nothing: releases what it took if anything is refused. Only IPv4 has a primary address."""
        if wanted.family is IPV6 and wanted.slots == 0:
            return Taken()
        pool: Pool | None = self._pools[wanted.family.version].get(subnet_id)
        if pool is None:
            raise errors.no_ipv6_cidr(subnet_id)
        taken = Taken()
        try:
            if primary:
                pool.take_address(primary)
                taken.primary = primary
            for address in wanted.addresses:
                pool.take_address(address)
                taken.addresses.append(address)
            if with_primary and wanted.family is IPV4 and not primary:
                taken.primary = pool.take(1)[0]
            taken.addresses += pool.take(wanted.count)
            for prefix in wanted.prefixes:
                pool.take_prefix(prefix)
                taken.prefixes.append(prefix)
            taken.prefixes += pool.take_prefixes(wanted.prefix_count)
        except EC2Error:
            self.release(subnet_id, wanted.family, taken)
            raise
        return taken

    def release(self, subnet_id: str, family: Family, taken: Taken) -> None:
        pool: Pool | None = self._pools[family.version].get(subnet_id)
        if pool is None:  # a subnet without IPv6: nothing was taken
            return
        for address in {*taken.addresses, taken.primary} - {""}:
            pool.release(address)
        for prefix in set(taken.prefixes):
            pool.release_prefix(prefix)

    def _take_from_others(self, interface: NetworkInterface, address: str) -> None:
        for other in self._interfaces.values():
            if other is interface or other.private_ip_address == address:
                continue
            if address in IPV4.addresses(other):
                self.unassign(other.id, IPV4, [address], [])
                return
