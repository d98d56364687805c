"""The VPC's CIDRs and subnets, and a simulated other user of their addresses."""

from __future__ import annotations

import ipaddress
import itertools
from typing import Any

from .addresses import SubnetAddresses
from .addresses6 import SubnetAddresses6
from .errors import EC2Error
from .fabric import Fabric


class Subnets:
    """The caller holds the world's lock. `pools` and `pools6` are shared with `Interfaces`, by subnet id."""

    def __init__(self, backend: Any, vpc: Any, fabric: Fabric, pools: dict[str, SubnetAddresses],
                 pools6: dict[str, SubnetAddresses6], region: str) -> None:
        self._backend = backend
        self._vpc = vpc
        self._fabric = fabric
        self._pools = pools
        self._pools6 = pools6
        self._region = region
        self._fillers: dict[tuple[str, int], list[str]] = {}
        self.ids: dict[str, str] = {}
        self.cidrs6: list[str] = [each["cidr_block"] for each in vpc.ipv6_cidr_block_association_set]
        self._new_cidrs6 = itertools.chain(*(ipaddress.IPv6Network(each).subnets(new_prefix=64) for each in self.cidrs6))
        fabric.set_vpc_cidrs({vpc.cidr_block, *self.cidrs6})

    # MARK: the VPC's CIDRs

    def check_new_cidr(self, cidr: str) -> None:
        """Checks whether the VPC may get it as a secondary CIDR. Raises EC2Error, or ValueError if it is no CIDR."""
        network = ipaddress.IPv4Network(cidr)
        if not 16 <= network.prefixlen <= 28:
            raise EC2Error("InvalidVpc.Range", f"The CIDR '{cidr}' is invalid: not between a /16 and a /28.")
        for each in self.vpc_cidrs():
            if network.overlaps(ipaddress.IPv4Network(each)):
                raise EC2Error("CidrConflict", f"The CIDR '{cidr}' conflicts with the VPC's {each}.")

    def check_unused(self, cidr: str) -> None:
        """Checks whether the VPC may lose it: no subnet is within. Raises EC2Error."""
        for subnet in self._backend.describe_subnets():
            network = ipaddress.IPv4Network(subnet.cidr_block)
            if subnet.vpc_id == self._vpc.id and network.subnet_of(ipaddress.IPv4Network(cidr)):
                raise EC2Error("InvalidCidrBlock.InUse",
                               f"The vpc {self._vpc.id} currently has a subnet within CIDR block {cidr}")

    def association_of(self, cidr: str) -> str:
        """The id of an associated CIDR. Raises ValueError."""
        found = {each["cidr_block"]: each["association_id"] for each in self._associated()}
        if cidr not in found:
            raise ValueError(f"CIDR {cidr} is not the VPC's; it has {', '.join(self.vpc_cidrs())}")
        return str(found[cidr])

    def cidr_of(self, association: str) -> str | None:
        """The CIDR with this association id; None if there is none."""
        return next((each["cidr_block"] for each in self._associated() if each["association_id"] == association), None)

    def vpc_cidrs(self) -> list[str]:
        """The VPC's CIDRs, the primary one first."""
        associated = [each["cidr_block"] for each in self._associated()]
        return [self._vpc.cidr_block, *(each for each in associated if each != self._vpc.cidr_block)]

    def ipv6_associations(self) -> set[str]:
        """The ids of the associations of IPv6 CIDRs with the VPC."""
        return {each["association_id"] for each in self._vpc.ipv6_cidr_block_association_set}

    def _associated(self) -> list[dict[str, Any]]:
        """Leaves out removed CIDRs, which EC2 still shows for a while."""
        return [each for each in self._vpc.cidr_block_association_set
                if each["cidr_block_state"]["state"] == "associated"]

    # MARK: subnets

    def add(self, name: str, cidr: str, zone: str, tags: dict[str, str] | None = None, ipv6: bool = True) -> str:
        """Returns the subnet's id. With `ipv6` it gets the VPC's next /64, if the VPC has IPv6.

        Raises ValueError with the reason.
        """
        if name in self.ids:
            raise ValueError(f"subnet {name!r} exists")
        if len(zone) != 1 or zone not in "abcdef":
            raise ValueError(f"zone {zone!r} is not a letter from a to f")
        network = ipaddress.IPv4Network(cidr)
        if not 16 <= network.prefixlen <= 28:
            raise ValueError(f"subnet CIDR {cidr} is not between a /16 and a /28")
        if not any(network.subnet_of(ipaddress.IPv4Network(each)) for each in self.vpc_cidrs()):
            raise ValueError(f"subnet CIDR {cidr} is not within the VPC's {', '.join(self.vpc_cidrs())}")
        for pool in self._pools.values():
            if network.overlaps(pool.network):
                raise ValueError(f"subnet CIDR {cidr} overlaps with {pool.network}")
        cidr6 = None
        if ipv6 and self.cidrs6:
            cidr6 = str(next(self._new_cidrs6, ""))
            if not cidr6:
                raise ValueError(f"every /64 of the VPC's {', '.join(self.cidrs6)} has been given to a subnet")
        subnet = self._backend.create_subnet(self._vpc.id, cidr, cidr6, f"{self._region}{zone}",
                                             tags={"subnet": {"Name": name, **(tags or {})}})
        subnet.default_for_az = False
        subnet.map_public_ip_on_launch = True
        self.ids[name] = subnet.id
        self._pools[subnet.id] = SubnetAddresses(cidr)
        if cidr6:
            self._pools6[subnet.id] = SubnetAddresses6(cidr6)
        self._fabric.add_gateway(str(network.network_address + 1))
        return str(subnet.id)

    def id_of(self, name: str) -> str:
        """The id of a subnet given by name or id. Raises ValueError."""
        if name in self._pools:
            return name
        if name not in self.ids:
            raise ValueError(f"subnet {name!r} is unknown; there are {', '.join(sorted(self.ids))}")
        return self.ids[name]

    def name_of(self, subnet_id: str) -> str:
        return next((name for name, each in self.ids.items() if each == subnet_id), subnet_id)

    def assigns_ipv6(self, subnet_id: str) -> bool:
        """Whether a new interface in the subnet gets an IPv6 address unasked."""
        return subnet_id in self._pools6 and bool(self._backend.get_subnet(subnet_id).assign_ipv6_address_on_creation)

    def listed(self) -> list[dict[str, Any]]:
        """`cidr6` and `free_prefixes6` are None for a subnet without IPv6."""
        rows = []
        for name, subnet_id in sorted(self.ids.items()):
            pool, pool6 = self._pools.get(subnet_id), self._pools6.get(subnet_id)
            if pool:
                rows.append({"name": name, "subnet_id": subnet_id, "cidr": str(pool.network),
                             "zone": self._backend.get_subnet(subnet_id).availability_zone, "free": pool.free,
                             "cidr6": str(pool6.network) if pool6 else None,
                             "free_prefixes6": pool6.free_prefixes if pool6 else None})
        return rows

    def take(self, name: str, leave: int) -> int:
        """Takes all free IPv4 addresses of the subnet but `leave`, like another user. Returns how many."""
        if leave < 0:
            raise ValueError(f"leave {leave} is negative")
        pool = self._pools[self.id_of(name)]
        taken = pool.take(max(0, pool.free - leave))
        self._fillers.setdefault((self.id_of(name), 4), []).extend(taken)
        return len(taken)

    def fragment(self, name: str, family: int = 4, leave: int = 0) -> int:
        """Takes one address in every free /28 (/80 if `family` is 6) but the lowest `leave`, like another user.

        No further prefix fits then. Returns how many it took; raises ValueError.
        """
        if leave < 0:
            raise ValueError(f"leave {leave} is negative")
        pool = self._pool(name, family)
        taken = pool.lowest_of_each_free_block()[leave:]
        for address in taken:
            pool.take_address(address)
        self._fillers.setdefault((self.id_of(name), family), []).extend(taken)
        return len(taken)

    def give_back(self, name: str) -> int:
        """Undoes `take` and `fragment`. Returns how many addresses it released."""
        released = 0
        for family in (4, 6):
            for address in self._fillers.pop((self.id_of(name), family), []):
                self._pool(name, family).release(address)
                released += 1
        return released

    def _pool(self, name: str, family: int) -> SubnetAddresses | SubnetAddresses6:
        subnet_id = self.id_of(name)
        if family == 4:
            return self._pools[subnet_id]
        if family != 6 or subnet_id not in self._pools6:
            raise ValueError(f"subnet {name!r} has no addresses of family {family!r}")
        return self._pools6[subnet_id]

    def reserve(self, name: str, cidr: str, kind: str) -> None:
        """Adds a subnet CIDR reservation. Raises ValueError."""
        pool = self._pools[self.id_of(name)]
        if not ipaddress.IPv4Network(cidr).subnet_of(pool.network):
            raise ValueError(f"CIDR {cidr} is not within the subnet's {pool.network}")
        self._backend.create_subnet_cidr_reservation(self.id_of(name), kind, cidr)
        pool.reserve(cidr, kind)
