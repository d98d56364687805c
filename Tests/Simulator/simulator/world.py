"""The whole simulated VPC: its subnets, its instances, and the connection between EC2 and the data plane."""

from __future__ import annotations

import ipaddress
import threading
from pathlib import Path
from typing import Any

from . import overview
from .addresses import PREFIX_LENGTH
from .addresses6 import PREFIX_LENGTH6
from .assignments import IPV4, IPV6, Taken
from .cleanup import remove_instance_namespaces
from .credentials import ACCOUNT, ROLE, RoleCredentials
from .ec2_overlay import install
from .errors import instance_not_found
from .fabric import EC2_ADDRESS, Fabric
from .imds_tree import InterfaceHistory, Tree, instance_tree, interface_tree
from .instance import Instance, device_name
from .interfaces import Interfaces
from .limits import limits_of
from .moto_fixes import choose_ipv6_cidrs
from .settings import Settings
from .subnets import Subnets


class World:
    """Implements `interfaces.DataPlane`. `lock` guards both EC2's state and the data plane."""

    def __init__(self, settings: Settings, namespaces: Path) -> None:
        from moto.ec2.models import ec2_backends

        self.settings = settings
        self.lock = threading.RLock()
        self._namespaces = namespaces
        self.backend: Any = ec2_backends[ACCOUNT][settings.region]
        self.instances: dict[str, Instance] = {}
        self._made: dict[str, Any] = {}  # instance id to moto's object
        self._histories: dict[str, InterfaceHistory] = {}
        self._routes: dict[str, set[str]] = {}  # ENI id to its addresses and prefixes, for attached ENIs
        self._owners: dict[str, Instance] = {}  # each of those addresses and prefixes to the instance
        self.fabric = Fabric(namespaces / "@fabric.net", namespaces / "@internet.net", settings.nat_gateway,
                             settings.vpc_cidr6 if settings.family == "dual" else None, settings.router_lifetime)
        self.interfaces = Interfaces(self.backend, self)
        install(self)
        self.credentials = RoleCredentials(settings.region, settings.credentials_lifetime)
        self._remove_default_vpc()
        choose_ipv6_cidrs(settings.vpc_cidr6)
        self.vpc = self.backend.create_vpc(settings.vpc_cidr, amazon_provided_ipv6_cidr_block=settings.family == "dual")
        tags = {"Name": f"{settings.cluster}-node", f"kubernetes.io/cluster/{settings.cluster}": "owned"}
        self.group = self.backend.create_security_group(f"{settings.cluster}-node", "nodes", vpc_id=self.vpc.id, tags=tags)
        self.subnets = Subnets(self.backend, self.vpc, self.fabric, self.interfaces.subnets, self.interfaces.subnets6,
                               settings.region)
        for name, cidr, zone in settings.subnets:
            self.subnets.add(name, cidr, zone)

    # MARK: instances

    def add_instance(self, name: str, instance_type: str, subnet: str, rp_filter: int, ipv6: bool = True,
                     **options: Any) -> dict[str, Any]:
        """With `ipv6`, the primary interface gets an IPv6 address if its subnet has IPv6.

        Raises ValueError for invalid input, EC2Error if EC2 refuses.
        """
        with self.lock:
            if name in self.instances:
                raise ValueError(f"instance {name!r} exists")
            limits_of(instance_type)
            subnet_id = self.subnets.id_of(subnet)
            pool = self.interfaces.subnets[subnet_id]
            address = pool.take(1)[0]
            pool6 = self.interfaces.subnets6.get(subnet_id) if ipv6 and limits_of(instance_type).ipv6_per_interface else None
            addresses6 = pool6.take(1) if pool6 else []
            try:
                made = self._run_instance(name, instance_type, subnet_id, address)
            except Exception:
                pool.release(address)
                self.interfaces.addresses.release(subnet_id, IPV6, Taken(addresses=addresses6))
                raise
            IPV6.add(made.nics[0], Taken(addresses=addresses6))
            instance = Instance(name, made.id, instance_type, subnet, self._namespaces / f"{name}.net",
                                self._namespaces / f"{name}.mnt", imds_lag=self.settings.imds_lag, **options)
            self.instances[name] = instance
            self._made[made.id] = made
            self._histories[made.id] = InterfaceHistory()
        region = self.settings.region
        hosts = f"{EC2_ADDRESS} ec2.{region}.amazonaws.com sts.{region}.amazonaws.com monitoring.{region}.amazonaws.com"
        try:
            instance.create_namespaces(rp_filter, hosts)
            with self.lock:
                self.attached(made.nics[0])
                self.fabric.set_public(address, True)
                instance.configure_primary(device_name(0, 0), address, pool.network.prefixlen,
                                           str(pool.network.network_address + 1), next(iter(addresses6), None))
                if addresses6 and self.fabric.router6 and self.fabric.router6.lifetime:
                    instance.await_default_route6(lambda: self.fabric.advertise(made.nics[0].id))
                return overview.of_instance(self, name)
        except Exception:
            # Removes everything, including the name, so that the next attempt starts clean.
            remove_instance_namespaces(self._namespaces, name)
            self.fabric.set_public(address, True)  # remove_instance reverts this
            self.remove_instance(name)
            raise

    def remove_instance(self, name: str) -> None:
        """Terminates the instance as EC2 does. The caller must end its processes."""
        with self.lock:
            instance = self.instance(name)
            made = self._made[instance.instance_id]
            self.fabric.set_public(made.nics[0].private_ip_address, False)
            self.interfaces.terminate(made)
            for key, reservation in list(self.backend.reservations.items()):
                if made in reservation.instances:
                    del self.backend.reservations[key]
            del self.instances[name]
            del self._histories[made.id], self._made[made.id]

    def terminate(self, instance_ids: list[str]) -> None:
        """EC2's TerminateInstances."""
        names = {each.instance_id: each.name for each in self.instances.values()}
        for each in instance_ids:
            if each not in names:
                raise instance_not_found(each)
        for each in instance_ids:
            remove_instance_namespaces(self._namespaces, names[each])
            self.remove_instance(names[each])

    def instance(self, name: str) -> Instance:
        found = self.instances.get(name)
        if found is None:
            raise ValueError(f"instance {name!r} is unknown; there are {', '.join(sorted(self.instances)) or 'none'}")
        return found

    def made(self, instance: Instance) -> Any:
        """moto's object for the instance."""
        return self._made[instance.instance_id]

    # MARK: the VPC's CIDRs

    def add_cidr(self, cidr: str) -> None:
        """Adds a secondary CIDR to the VPC. Raises ValueError, EC2Error."""
        self.subnets.check_new_cidr(cidr)
        self.backend.associate_vpc_cidr_block(self.vpc.id, cidr, False)
        self.cidrs_changed()

    def remove_cidr(self, cidr: str) -> None:
        """Removes a CIDR. Raises ValueError, EC2Error, and moto's error for the primary CIDR."""
        association = self.subnets.association_of(cidr)
        self.subnets.check_unused(cidr)
        self.backend.disassociate_vpc_cidr_block(association)
        self.cidrs_changed()

    def cidrs_changed(self) -> None:
        """From now on IMDS shows the CIDRs, and addresses of new CIDRs are blackholed until an ENI owns them."""
        self.fabric.set_vpc_cidrs({*self.subnets.vpc_cidrs(), *self.subnets.cidrs6})
        for instance in self.instances.values():
            self._record(instance)

    # MARK: IMDS

    def metadata(self, source: str) -> tuple[Instance, Tree] | None:
        """The metadata of the instance that owns the source address."""
        with self.lock:
            instance = self._owner(source)
            if instance is None:
                return None
            made = self._made[instance.instance_id]
            return instance, instance_tree(made, ACCOUNT, self.settings.region,
                                           self._histories[made.id].at(instance.imds_lag), ROLE,
                                           lambda: self.credentials.current(instance.instance_id))

    def caller(self, source: str) -> str:
        """The owner of a source address: an instance's name, or `host`."""
        with self.lock:
            owner = self._owner(source)
        return owner.name if owner else "host"

    # MARK: notifications of the data plane

    def attached(self, interface: Any) -> None:
        instance = self._by_id(interface.instance.id)
        device = device_name(interface.device_index, interface.network_card_index)
        pool6 = self.interfaces.subnets6.get(interface.subnet.id)
        self.fabric.attach(interface.id, interface.mac_address, instance.name, device, instance.network,
                           _routes(interface), interface.source_dest_check, subnet6=pool6.network if pool6 else None)
        self._own(interface.id, instance, _routes(interface))
        instance.devices[interface.id] = device
        self._record(instance)

    def detached(self, interface: Any, instance_id: str) -> None:
        instance = self._by_id(instance_id)
        self.fabric.detach(interface.id)
        self._own(interface.id, instance, set())
        instance.devices.pop(interface.id, None)
        self._record(instance)

    def addresses_changed(self, interface: Any) -> None:
        if not interface.instance:
            return
        instance = self._by_id(interface.instance.id)
        if interface.id in instance.devices:
            self.fabric.set_routes(interface.id, _routes(interface))
            self._own(interface.id, instance, _routes(interface))
            self._record(instance)

    def interface_modified(self, interface: Any) -> None:
        """Groups, description or the source check have changed."""
        self.fabric.set_source_check(interface.id, interface.source_dest_check)
        if interface.instance:
            self._record(self._by_id(interface.instance.id))

    source_check_changed = interface_modified

    def _record(self, instance: Instance) -> None:
        made = self._made[instance.instance_id]
        single = len(limits_of(instance.instance_type).cards) == 1
        cidrs = self.subnets.vpc_cidrs()
        self._histories[made.id].record({
            each.mac_address: interface_tree(each, cidrs, self.subnets.cidrs6, single)
            for each in made.nics.values() if each.id in instance.devices})

    def _own(self, interface_id: str, instance: Instance, routes: set[str]) -> None:
        for each in self._routes.pop(interface_id, set()):
            self._owners.pop(each, None)
        if routes:
            self._routes[interface_id] = routes
            self._owners.update((each, instance) for each in routes)

    def _owner(self, source: str) -> Instance | None:
        single, length = (128, PREFIX_LENGTH6) if ":" in source else (32, PREFIX_LENGTH)
        found = self._owners.get(f"{source}/{single}")
        if found is None:
            found = self._owners.get(str(ipaddress.ip_network(f"{source}/{length}", strict=False)))
        return found

    def _by_id(self, instance_id: str) -> Instance:
        return next(each for each in self.instances.values() if each.instance_id == instance_id)

    def _run_instance(self, name: str, instance_type: str, subnet_id: str, address: str) -> Any:
        tags = {"Name": name, f"kubernetes.io/cluster/{self.settings.cluster}": "owned"}
        reservation = self.backend.run_instances(
            image_id="ami-03cf127a", count=1, user_data=None, security_group_names=[], instance_type=instance_type,
            is_instance_type_default=False, subnet_id=subnet_id, private_ip=address, security_group_ids=[self.group.id],
            region_name=self.settings.region, tags={"instance": tags}, nics=[], placement=None,
            iam_instance_profile=None, metadata_options={"HttpTokens": "required", "HttpPutResponseHopLimit": 2})
        made = reservation.instances[0]
        primary = made.nics[0]
        primary.mac_address = self.interfaces.next_mac()
        primary.delete_on_termination = True
        primary.network_card_index = limits_of(instance_type).default_card
        return made

    def _remove_default_vpc(self) -> None:
        """Removes the default VPC: a cluster's account has none, and moto's would appear in every describe."""
        for subnets in list(self.backend.subnets.values()):
            for subnet in list(subnets.values()):
                self.backend.delete_subnet(subnet.id)
        for vpc in list(self.backend.vpcs.values()):
            self.backend.vpcs.pop(vpc.id)
            self.backend.groups.pop(vpc.id, None)


def _routes(interface: Any) -> set[str]:
    return {f"{each}/32" for each in IPV4.addresses(interface)} | {f"{each}/128" for each in IPV6.addresses(interface)} | {
        *IPV4.prefixes(interface), *IPV6.prefixes(interface)}
