"""Patches for moto: its network interface, its request ids, its address bookkeeping of subnets, its slow paths."""

from __future__ import annotations

import functools
import ipaddress
import itertools
import uuid
from typing import Any

import moto.backends
import moto.core.responses
import moto.ec2.models.vpcs
from moto.core.serialize import AttributePickerContext, SerializationContext, XFormedAttributePicker
from moto.ec2.models.elastic_network_interfaces import Attachment, NetworkInterface
from moto.ec2.models.subnets import Subnet


def extend_interfaces() -> None:
    """Adds the attributes that moto's interfaces lack, with the defaults of an interface that is not attached."""

    def attachment(self: NetworkInterface) -> Attachment | None:
        if not self.attachment_id:
            return None
        shown = Attachment(self)
        shown.status = self.attach_status
        shown.network_card_index = self.network_card_index
        return shown

    NetworkInterface.attachment = property(attachment)  # type: ignore[assignment]
    # moto shows all groups of the instance on each of its interfaces
    NetworkInterface.group_set = property(lambda self: list(self._group_set))  # type: ignore[assignment]
    NetworkInterface.association = None  # type: ignore[assignment]  # moto shows an empty one
    NetworkInterface.attach_status = "attached"
    NetworkInterface.network_card_index = 0
    NetworkInterface.client_token = None
    if not hasattr(NetworkInterface, "_vpcsim"):
        made = NetworkInterface.__init__

        def init(self: NetworkInterface, *args: Any, **kwargs: Any) -> None:
            made(self, *args, **kwargs)
            self.ipv4_prefixes: list[dict[str, str]] = []
            self.ipv6_prefixes: list[dict[str, str]] = []

        NetworkInterface.__init__ = init  # type: ignore[method-assign]
        NetworkInterface._vpcsim = True


def choose_ipv6_cidrs(first: str) -> None:
    """Gives VPCs with IPv6 the CIDR `first` and the ones after it; moto draws them, and may draw one twice."""
    network = ipaddress.IPv6Network(first)
    starts = itertools.count(int(network.network_address), network.num_addresses)
    moto.ec2.models.vpcs.random_ipv6_cidr = lambda: str(ipaddress.IPv6Network((next(starts), network.prefixlen)))


def show_ipv6_of_subnets() -> None:
    """Shows the state of a subnet's IPv6 CIDRs as a text, and no key that EC2 lacks; moto shows a dictionary."""
    Subnet.ipv6_cidr_block_association_set = property(lambda self: [  # type: ignore[assignment,method-assign]
        {"AssociationId": each["associationId"], "Ipv6CidrBlock": each["ipv6CidrBlock"],
         "Ipv6CidrBlockState": each["ipv6CidrBlockState"]} for each in self.ipv6_cidr_block_associations.values()])


def give_request_ids() -> None:
    """Gives each answer its own request id: moto always uses `request-id`."""
    made = SerializationContext.__init__

    def init(self: SerializationContext, request_id: str | None = None) -> None:
        made(self, request_id or str(uuid.uuid4()))

    SerializationContext.__init__ = init  # type: ignore[method-assign]


def keep_books(free: Any) -> None:
    """Leaves address allocation to SubnetAddresses. `free` returns the number of free addresses of a subnet id."""
    Subnet.available_ip_address_count = property(lambda self: free(self.id))  # type: ignore[assignment]
    Subnet.request_ip = lambda *_, **__: None  # type: ignore[method-assign]
    Subnet.del_subnet_ip = lambda *_, **__: None  # type: ignore[method-assign]


def remember_listings() -> None:
    """Caches listings: moto lists its folder and its methods for every request, a third of a small call's time."""
    modules = tuple(moto.backends.list_of_moto_modules())
    moto.backends.list_of_moto_modules = lambda: modules  # type: ignore[assignment]
    moto.core.responses.method_names_from_class = functools.cache(moto.core.responses.method_names_from_class)

    # The names under which a value may occur depend on its type and its place in the service's model. Looking them up
    # takes half of the time of a long answer.
    possible_keys = XFormedAttributePicker.get_possible_keys
    known: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def remembered(self: XFormedAttributePicker, context: AttributePickerContext) -> tuple[str, ...]:
        shape = context.shape
        parent = getattr(shape, "parent", None)
        place = (type(context.obj), context.key, context.service_model and context.service_model.service_name,
                 shape and shape.name, parent and parent.name)
        keys = known.get(place)
        if keys is None:
            keys = known[place] = tuple(dict.fromkeys(possible_keys(self, context)))
        return keys

    XFormedAttributePicker.get_possible_keys = remembered  # type: ignore[method-assign,assignment]
