"""EC2's network interfaces: what may be created, attached and assigned. moto keeps the objects, this module decides.

Every method is called with the world's lock held.
"""

from __future__ import annotations

import itertools
import json
from typing import Any, Protocol

from moto.ec2.models.elastic_network_interfaces import NetworkInterface

from . import errors
from .addresses import SubnetAddresses
from .addresses6 import SubnetAddresses6
from .assignments import IPV4, IPV6, AddressRequest, Assignments, Taken
from .errors import EC2Error
from .limits import limits_of
from .moto_fixes import extend_interfaces


class DataPlane(Protocol):
    """The receiver of changes. It is notified before EC2 answers."""

    def attached(self, interface: NetworkInterface) -> None: ...
    def detached(self, interface: NetworkInterface, instance_id: str) -> None: ...
    def addresses_changed(self, interface: NetworkInterface) -> None: ...
    def source_check_changed(self, interface: NetworkInterface) -> None: ...


class Interfaces:
    def __init__(self, backend: Any, plane: DataPlane) -> None:
        self._backend = backend
        self._plane = plane
        self.subnets: dict[str, SubnetAddresses] = {}
        self.subnets6: dict[str, SubnetAddresses6] = {}  # only of subnets with an IPv6 CIDR
        self.addresses = Assignments(self.get, backend.enis, plane, self.subnets, self.subnets6)
        self._tokens: dict[str, tuple[str, str]] = {}
        self._macs = itertools.count(1)
        self._volumes: dict[str, int] = {}
        extend_interfaces()

    def get(self, interface_id: str) -> NetworkInterface:
        interface = self._backend.enis.get(interface_id)
        if interface is None:
            raise errors.interface_not_found(interface_id)
        return interface

    def create(self, subnet_id: str, wanted: AddressRequest, wanted6: AddressRequest, primary: str | None, groups: list[str],
               description: str, tags: dict[str, str], token: str | None, fingerprint: Any) -> NetworkInterface:
        """Creates an interface with a primary address, `wanted` and `wanted6`; the same client token returns the same interface."""
        asked = json.dumps(fingerprint, sort_keys=True, default=str)
        if token and token in self._tokens:
            interface_id, before = self._tokens[token]
            if before != asked:
                raise EC2Error("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent "
                                                              "with arguments used in previous request(s).")
            if interface_id in self._backend.enis:
                return self.get(interface_id)
        wanted.check()
        wanted6.check()
        if subnet_id not in self.subnets:
            raise errors.subnet_not_found(subnet_id)
        self._check_groups(groups)
        taken = self.addresses.take(subnet_id, wanted, primary)
        try:
            taken6 = self.addresses.take(subnet_id, wanted6)
        except EC2Error:
            self.addresses.release(subnet_id, IPV4, taken)
            raise
        interface = self._backend.create_network_interface(
            self._backend.get_subnet(subnet_id), taken.primary, [{"Primary": True, "PrivateIpAddress": taken.primary}],
            groups or None, description, tags)
        interface.mac_address = self.next_mac()
        IPV4.add(interface, taken)
        IPV6.add(interface, taken6)
        if token:
            self._tokens[token] = (interface.id, asked)
            interface.client_token = token
        return interface

    def delete(self, interface_id: str) -> None:
        interface = self.get(interface_id)
        if interface.attachment_id or interface.status == "in-use":
            raise EC2Error("InvalidParameterValue", f"Network interface '{interface_id}' is currently in use.")
        self.forget(interface)

    def forget(self, interface: NetworkInterface) -> None:
        """Releases everything the interface had."""
        for family in (IPV4, IPV6):
            self.addresses.release(interface.subnet.id, family,
                                   Taken(addresses=family.addresses(interface), prefixes=family.prefixes(interface)))
        self._backend.enis.pop(interface.id, None)

    def attach(self, interface_id: str, instance_id: str, device_index: int, card: int | None, attaching: bool) -> str:
        """Returns the attachment's id. With `attaching`, `complete_attach` follows; until then nobody is notified."""
        interface = self.get(interface_id)
        instance = self._instance(instance_id)
        limits = limits_of(instance.instance_type)
        card = limits.default_card if card is None else card
        if interface.attachment_id:
            raise EC2Error("InvalidNetworkInterface.InUse", f"Interface: [{interface_id}] in use.")
        if interface.subnet.availability_zone != instance.placement.zone:
            raise EC2Error("InvalidParameterCombination", "You may not attach a network interface to an instance if they "
                                                          "are not in the same availability zone")
        if interface.subnet.vpc_id != instance.vpc_id:
            raise EC2Error("InvalidParameterValue", f"{interface_id} and {instance_id} are not in the same VPC")
        if card not in limits.cards:
            raise EC2Error("InvalidParameterValue", f"Network card index {card} is not valid for {instance.instance_type}")
        on_card = [each for each in instance.nics.values() if each.network_card_index == card]
        if any(each.device_index == device_index for each in on_card):
            raise EC2Error("InvalidParameterValue",
                           f"Instance '{instance_id}' already has an interface attached at device index '{device_index}'.")
        if not 0 <= device_index < 100:
            raise EC2Error("InvalidParameterValue", f"Device index {device_index} is not valid")
        count = len(instance.nics) + 1
        if count > limits.interfaces - self._volumes.get(instance_id, 0) or len(on_card) + 1 > limits.cards[card]:
            raise EC2Error("AttachmentLimitExceeded",
                           f"Interface count {count} exceeds the limit for {instance.instance_type}")
        if any(family.slots(interface) > family.limit(limits) for family in (IPV4, IPV6)):
            raise errors.too_many_addresses()
        interface.network_card_index = card
        interface.attach_status = "attaching" if attaching else "attached"
        interface.delete_on_termination = False
        attachment = instance.attach_eni(interface, device_index)
        if card:  # moto's key is the device index alone
            instance.nics[card * 1000 + device_index] = interface
            if instance.nics.get(device_index) is interface:
                del instance.nics[device_index]
        if not attaching:
            self._plane.attached(interface)
        return attachment

    def set_volumes(self, instance_id: str, count: int) -> None:
        """Sets how many of the slots that the instance's interfaces and volumes share are used by volumes."""
        self._instance(instance_id)
        self._volumes[instance_id] = count

    def complete_attach(self, interface_id: str, attachment_id: str) -> None:
        interface = self._backend.enis.get(interface_id)
        if interface is not None and interface.attachment_id == attachment_id and interface.attach_status == "attaching":
            interface.attach_status = "attached"
            self._plane.attached(interface)

    def detach(self, attachment_id: str, detaching: bool) -> NetworkInterface:
        """With `detaching`, `complete_detach` follows; the device leaves the instance immediately in either case."""
        interface = self.by_attachment(attachment_id)
        if interface.device_index == 0 and interface.network_card_index == 0:
            raise EC2Error("OperationNotPermitted",
                           "The network interface at device index 0 and networkCard index 0 cannot be detached.")
        if interface.attach_status == "detaching":
            raise EC2Error("IncorrectState", f"Attachment {attachment_id} is being detached.")
        self._plane.detached(interface, interface.instance.id)
        interface.attach_status = "detaching"
        if not detaching:
            self.complete_detach(attachment_id)
        return interface

    def complete_detach(self, attachment_id: str) -> None:
        for interface in self._backend.enis.values():
            if interface.attachment_id == attachment_id and interface.attach_status == "detaching":
                for key, each in list(interface.instance.nics.items()):
                    if each is interface:
                        del interface.instance.nics[key]
                interface.instance.detach_eni(interface)
                return

    def by_attachment(self, attachment_id: str) -> NetworkInterface:
        for interface in self._backend.enis.values():
            if interface.attachment_id == attachment_id:
                return interface
        raise EC2Error("InvalidAttachmentID.NotFound", f"The attachment ID '{attachment_id}' does not exist.")

    def terminate(self, instance: Any) -> None:
        """Deletes interfaces with DeleteOnTermination; the others become available again."""
        for interface in list(instance.nics.values()):
            if interface.attach_status == "attached":
                self._plane.detached(interface, instance.id)
            delete = interface.delete_on_termination
            instance.detach_eni(interface)
            if delete:
                self.forget(interface)
        instance.nics.clear()

    def next_mac(self) -> str:
        """A MAC from a counter: moto draws MACs from 24 bits and repeats them."""
        digits = f"06{next(self._macs):010x}"
        return ":".join(digits[at:at + 2] for at in range(0, 12, 2))

    def _check_groups(self, groups: list[str]) -> None:
        for group in groups:
            if self._backend.get_security_group_from_id(group) is None:
                raise EC2Error("InvalidGroup.NotFound", f"The security group '{group}' does not exist")

    def _instance(self, instance_id: str) -> Any:
        instance = self._backend.get_instance_by_id(instance_id)
        if instance is None:
            raise errors.instance_not_found(instance_id)
        return instance
