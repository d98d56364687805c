"""The EC2 actions that moto lacks or implements loosely. They override moto's own answers.

`install` replaces the EC2 of moto's server with an `OverlaidEC2`.
"""

from __future__ import annotations

import threading
from typing import Any

from botocore.model import OperationNotFoundError
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import get_service_model
from moto.ec2 import urls
from moto.ec2.responses import EC2Response
from moto.ec2.utils import add_tag_specification
from werkzeug.exceptions import HTTPException

from . import describe, moto_fixes
from .addresses6 import canonical_address, canonical_prefix
from .assignments import IPV4, IPV6, AddressRequest
from .errors import EC2Error, auth_failure

_API_VERSION = "2016-11-15"
_COMMON = {"Action", "Version", "AWSAccessKeyId", "DryRun"}


class OverlaidEC2(EC2Response):
    """One request. `world` is set by `install`."""

    world: Any = None

    def _dispatch(self, request: Any, full_url: str, headers: Any) -> Any:
        try:
            self._read(request, full_url, headers)
            self._check_form()
            with self.world.lock:
                return self.call_action()
        except EC2Error as error:
            return error.status, {"Content-Type": "text/xml;charset=UTF-8", "server": "amazon.com"}, error.xml()

    # moto uses IAM's error texts here; EC2 has its own
    def _authenticate_and_authorize_normal_action(self, resource: str = "*") -> None:
        try:
            super()._authenticate_and_authorize_normal_action(resource)
        except HTTPException as error:
            code = getattr(error, "error_type", "")
            if code == "AccessDenied":
                raise EC2Error("UnauthorizedOperation", "You are not authorized to perform this operation. "
                               + str(getattr(error, "message", "")), 403) from None
            raise auth_failure() from None
        except (KeyError, IndexError, ValueError):  # malformed headers, which no signer writes
            raise auth_failure() from None

    def describe_instance_types(self) -> ActionResult:
        self.error_on_dryrun()  # without this moto builds the full answer: 800 types, which takes two seconds
        return super().describe_instance_types()

    def describe_security_groups(self) -> ActionResult:
        self.error_on_dryrun()
        return super().describe_security_groups()

    # MARK: interfaces

    def create_network_interface(self) -> ActionResult:
        self.error_on_dryrun()
        listed = self._get_param("PrivateIpAddresses", [])
        primary = self._get_param("PrivateIpAddress") or next(
            (each["PrivateIpAddress"] for each in listed if each.get("Primary")), None)
        others = [each["PrivateIpAddress"] for each in listed if each["PrivateIpAddress"] != primary]
        wanted = AddressRequest(others, self._get_int_param("SecondaryPrivateIpAddressCount", 0),
                                [each["Ipv4Prefix"] for each in self._get_param("Ipv4Prefixes", [])],
                                self._get_int_param("Ipv4PrefixCount", 0))
        wanted6 = self._wanted_ipv6([each["Ipv6Address"] for each in self._get_param("Ipv6Addresses", [])],
                                    [each["Ipv6Prefix"] for each in self._get_param("Ipv6Prefixes", [])])
        if self._get_bool_param("EnablePrimaryIpv6"):
            raise EC2Error("UnsupportedOperation", "the simulated VPC has no primary IPv6 addresses")
        subnet_id = self._get_param("SubnetId")
        if self._get_param("Ipv6AddressCount") is None and wanted6.slots == 0 and self.world.subnets.assigns_ipv6(subnet_id):
            wanted6.count = 1
        token = self._get_param("ClientToken")
        fingerprint = {name: value for name, value in dict(self.params).items() if name != "ClientToken"}
        interface = self.world.interfaces.create(
            subnet_id, wanted, wanted6, primary, self._get_param("Groups", []),
            self._get_param("Description", ""), add_tag_specification(self._get_param("TagSpecifications", [])),
            token, fingerprint)
        return ActionResult({"NetworkInterface": interface, "ClientToken": token})

    def delete_network_interface(self) -> ActionResult:
        self.error_on_dryrun()
        self.world.interfaces.delete(self._get_param("NetworkInterfaceId"))
        return EmptyResult()

    def attach_network_interface(self) -> ActionResult:
        self.error_on_dryrun()
        interface_id = self._get_param("NetworkInterfaceId")
        delay = self.world.settings.attach_delay
        attachment = self.world.interfaces.attach(
            interface_id, self._get_param("InstanceId"), self._get_int_param("DeviceIndex"),
            self._get_int_param("NetworkCardIndex"), attaching=delay > 0)
        if delay > 0:
            self._later(delay, lambda: self.world.interfaces.complete_attach(interface_id, attachment))
        card = self.world.interfaces.get(interface_id).network_card_index
        return ActionResult({"AttachmentId": attachment, "NetworkCardIndex": card})

    def detach_network_interface(self) -> ActionResult:
        self.error_on_dryrun()
        attachment = self._get_param("AttachmentId")
        delay = self.world.settings.detach_delay
        self.world.interfaces.detach(attachment, detaching=delay > 0)
        if delay > 0:
            self._later(delay, lambda: self.world.interfaces.complete_detach(attachment))
        return ActionResult({"Return": True})

    def modify_network_interface_attribute(self) -> ActionResult:
        self.error_on_dryrun()
        interface = self.world.interfaces.get(self._get_param("NetworkInterfaceId"))
        given = [name for name in ("Attachment", "Description", "Groups", "SourceDestCheck",
                                   "ConnectionTrackingSpecification") if self._get_param(name) is not None]
        if len(given) != 1:
            raise EC2Error("InvalidParameterCombination" if given else "MissingParameter",
                           "Exactly one attribute must be specified")
        if given == ["Attachment"]:
            attachment = self._get_param("Attachment.AttachmentId")
            if interface.attachment_id != attachment:
                raise EC2Error("InvalidAttachmentID.NotFound", f"The attachment ID '{attachment}' does not exist.")
            interface.delete_on_termination = bool(self._get_bool_param("Attachment.DeleteOnTermination", False))
        elif given != ["ConnectionTrackingSpecification"]:
            for group in self._get_param("Groups", []):
                if self.ec2_backend.get_security_group_from_id(group) is None:
                    raise EC2Error("InvalidGroup.NotFound", f"The security group '{group}' does not exist")
            super().modify_network_interface_attribute()
            self.world.interface_modified(interface)
        return EmptyResult()

    def assign_private_ip_addresses(self) -> ActionResult:
        interface_id = self._get_param("NetworkInterfaceId")
        wanted = AddressRequest(self._get_param("PrivateIpAddresses", []),
                                self._get_int_param("SecondaryPrivateIpAddressCount", 0),
                                self._get_param("Ipv4Prefixes", []), self._get_int_param("Ipv4PrefixCount", 0))
        taken = self.world.interfaces.addresses.assign(
            interface_id, wanted, bool(self._get_bool_param("AllowReassignment", False)))
        return ActionResult({
            "NetworkInterfaceId": interface_id,
            "AssignedPrivateIpAddresses": [{"PrivateIpAddress": each} for each in taken.addresses],
            "AssignedIpv4Prefixes": [{"Ipv4Prefix": each} for each in taken.prefixes],
        })

    def unassign_private_ip_addresses(self) -> ActionResult:
        self.world.interfaces.addresses.unassign(self._get_param("NetworkInterfaceId"), IPV4,
                                                 self._get_param("PrivateIpAddresses", []), self._get_param("Ipv4Prefixes", []))
        return EmptyResult()

    def assign_ipv6_addresses(self) -> ActionResult:
        interface_id = self._get_param("NetworkInterfaceId")
        wanted = self._wanted_ipv6(self._get_param("Ipv6Addresses", []), self._get_param("Ipv6Prefixes", []))
        taken = self.world.interfaces.addresses.assign(interface_id, wanted)
        return ActionResult({"NetworkInterfaceId": interface_id, "AssignedIpv6Addresses": taken.addresses,
                             "AssignedIpv6Prefixes": taken.prefixes})

    def unassign_ipv6_addresses(self) -> ActionResult:
        interface_id = self._get_param("NetworkInterfaceId")
        addresses = [canonical_address(each) for each in self._get_param("Ipv6Addresses", [])]
        prefixes = [canonical_prefix(each) for each in self._get_param("Ipv6Prefixes", [])]
        self.world.interfaces.addresses.unassign(interface_id, IPV6, addresses, prefixes)
        return ActionResult({"NetworkInterfaceId": interface_id, "UnassignedIpv6Addresses": addresses,
                             "UnassignedIpv6Prefixes": prefixes})

    def describe_network_interfaces(self) -> ActionResult:
        self.error_on_dryrun()
        ids = self._get_param("NetworkInterfaceIds", [])
        found = [self.world.interfaces.get(each) for each in ids] if ids else list(self.ec2_backend.enis.values())
        found = describe.interfaces_matching(found, self._filters())
        shown, token = describe.page(found, self._get_int_param("MaxResults"), self._get_param("NextToken"), bool(ids),
                                     "networkInterfaceIdSet")
        return ActionResult({"NetworkInterfaces": shown, "NextToken": token})

    def describe_subnets(self) -> ActionResult:
        self.error_on_dryrun()
        ids = self._get_param("SubnetIds", [])
        everything = {subnet.id: subnet for subnet in self.ec2_backend.describe_subnets()}
        for each in ids:
            if each not in everything:
                raise EC2Error("InvalidSubnetID.NotFound", f"The subnet ID '{each}' does not exist")
        found = describe.subnets_matching([everything[each] for each in ids] if ids else everything.values(), self._filters())
        shown, token = describe.page(found, self._get_int_param("MaxResults"), self._get_param("NextToken"), bool(ids),
                                     "subnetIdSet")
        return ActionResult({"Subnets": shown, "NextToken": token})

    # MARK: the VPC's CIDRs

    def associate_vpc_cidr_block(self) -> ActionResult:
        if self._get_param("Ipv6CidrBlock") or self._get_param("AmazonProvidedIpv6CidrBlock"):
            raise _family_is_fixed()
        if self._get_param("VpcId") == self.world.vpc.id:
            try:
                self.world.subnets.check_new_cidr(self._get_param("CidrBlock"))
            except ValueError as error:
                raise EC2Error("InvalidParameterValue", f"Value for parameter cidrBlock is invalid: {error}") from None
        answer = super().associate_vpc_cidr_block()
        self.world.cidrs_changed()
        return answer

    def disassociate_vpc_cidr_block(self) -> ActionResult:
        if self._get_param("AssociationId") in self.world.subnets.ipv6_associations():
            raise _family_is_fixed()
        cidr = self.world.subnets.cidr_of(self._get_param("AssociationId"))
        if cidr is not None and cidr != self.world.vpc.cidr_block:
            self.world.subnets.check_unused(cidr)
        answer = super().disassociate_vpc_cidr_block()
        self.world.cidrs_changed()
        return answer

    def associate_subnet_cidr_block(self) -> ActionResult:
        raise _family_is_fixed()

    disassociate_subnet_cidr_block = associate_subnet_cidr_block

    # MARK: resources that depend on interfaces

    def delete_subnet(self) -> ActionResult:
        subnet_id = self._get_param("SubnetId")
        if any(each.subnet.id == subnet_id for each in self.ec2_backend.enis.values()):
            raise EC2Error("DependencyViolation", f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
        answer = super().delete_subnet()
        self.world.interfaces.subnets.pop(subnet_id, None)
        self.world.interfaces.subnets6.pop(subnet_id, None)
        return answer

    def delete_security_group(self) -> ActionResult:
        group_id = self._get_param("GroupId")
        if any(group.id == group_id for each in self.ec2_backend.enis.values() for group in each.group_set):
            raise EC2Error("DependencyViolation", f"resource {group_id} has a dependent object")
        return super().delete_security_group()

    def create_subnet_cidr_reservation(self) -> ActionResult:
        if ":" in self._get_param("Cidr"):
            raise EC2Error("UnsupportedOperation", "the simulated VPC has no reservations of IPv6 CIDRs")
        answer = super().create_subnet_cidr_reservation()
        self.world.interfaces.subnets[self._get_param("SubnetId")].reserve(
            self._get_param("Cidr"), self._get_param("ReservationType"))
        return answer

    def run_instances(self) -> ActionResult:
        raise EC2Error("UnsupportedOperation", "instances of the simulated VPC are made by `vpcsim instance add`")

    def terminate_instances(self) -> ActionResult:
        ids = self._get_param("InstanceIds", [])
        self.world.terminate(ids)
        return ActionResult({"TerminatingInstances": [
            {"InstanceId": each, "CurrentState": {"Code": 32, "Name": "shutting-down"},
             "PreviousState": {"Code": 16, "Name": "running"}} for each in ids]})

    # MARK: helpers

    def _read(self, request: Any, full_url: str, headers: Any) -> None:
        try:
            self.setup_class(request, full_url, headers)
        except OperationNotFoundError:
            raise EC2Error("InvalidAction", f"The action {self._get_action()} is not valid for this web service.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise EC2Error("InvalidParameterValue", f"a parameter's value is not valid: {error}") from None

    def _check_form(self) -> None:
        """Rejects unknown versions and parameters, as EC2 does; moto ignores them."""
        action = self._get_action()
        shape = get_service_model("ec2").operation_model(action).input_shape
        version = (self.querystring.get("Version") or [""])[0]
        if version != _API_VERSION:
            raise EC2Error("NoSuchVersion", f"The requested version ({version}) of service AmazonEC2 does not exist")
        wire = {}
        for member, each in (shape.members.items() if shape else ()):
            name = each.serialization.get("queryName") or each.serialization.get("name", member)
            wire[name[0].upper() + name[1:]] = member
        for name in self.querystring:
            top = name.partition(".")[0]
            if top not in wire and top not in _COMMON:
                raise EC2Error("UnknownParameter", f"The parameter {top} is not recognized")
        given = {wire.get(name.partition(".")[0]) for name in self.querystring}
        for member in (shape.required_members if shape else ()):
            if member not in given:
                raise EC2Error("MissingParameter", f"The request must contain the parameter {member}")

    def _filters(self) -> dict[str, list[str]]:
        return {name: [str(each) for each in values] for name, values in self._filters_from_querystring().items()}

    def _wanted_ipv6(self, addresses: list[str], prefixes: list[str]) -> AddressRequest:
        return AddressRequest([canonical_address(each) for each in addresses], self._get_int_param("Ipv6AddressCount", 0),
                              [canonical_prefix(each) for each in prefixes], self._get_int_param("Ipv6PrefixCount", 0), IPV6)

    def _later(self, delay: float, action: Any) -> None:
        def act() -> None:
            with self.world.lock:
                action()

        timer = threading.Timer(delay, act)
        timer.daemon = True
        timer.start()


def _family_is_fixed() -> EC2Error:
    return EC2Error("UnsupportedOperation", "whether the simulated VPC and a subnet have IPv6 is chosen when they are made")


def install(world: Any) -> None:
    """Must be called once, before moto's server builds its EC2 application."""
    OverlaidEC2.world = world
    for pattern in urls.url_paths:
        urls.url_paths[pattern] = OverlaidEC2.dispatch
    moto_fixes.give_request_ids()
    moto_fixes.remember_listings()
    moto_fixes.show_ipv6_of_subnets()

    def free(subnet_id: str) -> int:
        pool = world.interfaces.subnets.get(subnet_id)
        return pool.free if pool else 0

    moto_fixes.keep_books(free)
