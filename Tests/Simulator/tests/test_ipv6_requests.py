"""What EC2 guarantees and refuses for the IPv6 addresses and prefixes of network interfaces."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError

from conftest import Account, refused

SUBNET_A, SUBNET_B = "2001:db8:1234:1a00", "2001:db8:1234:1a01"


def addresses(interface: dict) -> list[str]:
    return [each["Ipv6Address"] for each in interface["Ipv6Addresses"]]


def prefixes(interface: dict) -> list[str]:
    return [each["Ipv6Prefix"] for each in interface["Ipv6Prefixes"]]


def test_the_vpc_and_its_subnets_show_their_cidrs(account6: Account):
    vpc = account6.client.describe_vpcs(VpcIds=[account6.simulator.ready["vpc_id"]])["Vpcs"][0]
    assert [(each["Ipv6CidrBlock"], each["Ipv6CidrBlockState"]["State"]) for each in vpc["Ipv6CidrBlockAssociationSet"]] == [
        (f"{SUBNET_A}::/56", "associated")]
    assert [each["CidrBlock"] for each in vpc["CidrBlockAssociationSet"]] == ["192.168.0.0/16"]
    shown = {each["SubnetId"]: [(one["Ipv6CidrBlock"], one["Ipv6CidrBlockState"]["State"]) for one in each["Ipv6CidrBlockAssociationSet"]]
             for each in account6.client.describe_subnets()["Subnets"]}
    assert shown == {account6.subnet("a"): [(f"{SUBNET_A}::/64", "associated")],
                     account6.subnet("b"): [(f"{SUBNET_B}::/64", "associated")], account6.subnet("plain"): []}
    found = account6.client.describe_subnets(
        Filters=[{"Name": "ipv6-cidr-block-association.ipv6-cidr-block", "Values": [f"{SUBNET_B}::/64"]}])["Subnets"]
    assert [each["SubnetId"] for each in found] == [account6.subnet("b")]


def test_without_the_option_there_is_no_ipv6(account: Account, node):
    vpc = account.client.describe_vpcs(VpcIds=[account.simulator.ready["vpc_id"]])["Vpcs"][0]
    assert vpc.get("Ipv6CidrBlockAssociationSet", []) == []
    assert all(each["Ipv6CidrBlockAssociationSet"] == [] for each in account.client.describe_subnets()["Subnets"])
    interface = account.create()["NetworkInterfaceId"]
    error = refused("InvalidParameterValue", account.client.assign_ipv6_addresses, NetworkInterfaceId=interface, Ipv6PrefixCount=1)
    assert account.subnet("a") in str(error) and "IPv6 CIDR" in str(error)
    refused("InvalidParameterValue", account.create, Ipv6AddressCount=1)
    assert node.address6 is None and "vpc_cidr6" not in account.simulator.ready
    assert "ec2::1" not in account.simulator.run_in("@fabric", ["ip", "-6", "addr"], capture_output=True, text=True).stdout


def test_a_subnet_without_ipv6_gives_none(account6: Account):
    before = {each["name"]: each["free"] for each in account6.simulator.ask("subnets")}
    for wanted in ({"Ipv6AddressCount": 1}, {"Ipv6PrefixCount": 1}):
        refused("InvalidParameterValue", account6.create, subnet="plain", **wanted)
    assert {each["name"]: each["free"] for each in account6.simulator.ask("subnets")} == before
    assert account6.create("plain")["Ipv6Addresses"] == []


def test_the_families_of_the_vpc_do_not_change(account6: Account):
    client, vpc = account6.client, account6.simulator.ready["vpc_id"]
    refused("UnsupportedOperation", client.associate_vpc_cidr_block, VpcId=vpc, AmazonProvidedIpv6CidrBlock=True)
    refused("UnsupportedOperation", client.associate_subnet_cidr_block, SubnetId=account6.subnet("plain"),
            Ipv6CidrBlock=f"{SUBNET_A[:-1]}9::/64")
    associated = client.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"][0]["AssociationId"]
    refused("UnsupportedOperation", client.disassociate_vpc_cidr_block, AssociationId=associated)
    refused("UnsupportedOperation", client.create_subnet_cidr_reservation, SubnetId=account6.subnet("a"),
            Cidr=f"{SUBNET_A}:1::/80", ReservationType="prefix")
    refused("UnsupportedOperation", account6.create, Ipv6AddressCount=1, EnablePrimaryIpv6=True)


def test_create_with_addresses_or_prefixes(account6: Account):
    made = account6.create(Ipv6AddressCount=2)
    assert addresses(made) == [f"{SUBNET_A}::4", f"{SUBNET_A}::5"] and prefixes(made) == []
    assert made["PrivateIpAddress"] == "192.168.64.4" and len(made["PrivateIpAddresses"]) == 1
    assert account6.interface(made["NetworkInterfaceId"])["Ipv6Addresses"] == made["Ipv6Addresses"]
    assert prefixes(account6.create(Ipv6PrefixCount=1, Ipv4PrefixCount=1)) == [f"{SUBNET_A}:1::/80"]
    named = account6.create(Ipv6Addresses=[{"Ipv6Address": "2001:DB8:1234:1a00:0::99"}])
    assert addresses(named) == [f"{SUBNET_A}::99"]
    assert prefixes(account6.create(Ipv6Prefixes=[{"Ipv6Prefix": f"{SUBNET_A}:77::/80"}])) == [f"{SUBNET_A}:77::/80"]
    found = account6.client.describe_network_interfaces(
        Filters=[{"Name": "ipv6-addresses.ipv6-address", "Values": [f"{SUBNET_A}::99"]}])["NetworkInterfaces"]
    assert [each["NetworkInterfaceId"] for each in found] == [named["NetworkInterfaceId"]]
    refused("DryRunOperation", account6.create, Ipv6PrefixCount=1, DryRun=True)


def test_a_refused_create_takes_nothing_of_either_family(account6: Account):
    before = account6.simulator.ask("subnets")
    refused("InvalidIPAddress.InUse", account6.create, Ipv6Prefixes=[{"Ipv6Prefix": f"{SUBNET_A}:1::/80"},
                                                                     {"Ipv6Prefix": f"{SUBNET_A}:1::/80"}])
    refused("InvalidParameterValue", account6.create, SecondaryPrivateIpAddressCount=3,
            Ipv6Addresses=[{"Ipv6Address": f"{SUBNET_B}::9"}])
    refused("InvalidParameterCombination", account6.create, Ipv6AddressCount=1, Ipv6PrefixCount=1)
    assert account6.simulator.ask("subnets") == before
    assert addresses(account6.create(Ipv6AddressCount=1)) == [f"{SUBNET_A}::4"]


def test_a_token_covers_ipv6(account6: Account):
    first = account6.create(ClientToken="t6", Ipv6PrefixCount=1)
    assert account6.create(ClientToken="t6", Ipv6PrefixCount=1)["NetworkInterfaceId"] == first["NetworkInterfaceId"]
    refused("IdempotentParameterMismatch", account6.create, ClientToken="t6", Ipv6AddressCount=1)


def test_a_subnet_may_give_each_new_interface_an_address(account6: Account):
    subnet = account6.subnet("b")
    account6.client.modify_subnet_attribute(SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": True})
    try:
        assert addresses(account6.create("b")) == [f"{SUBNET_B}::4"]
        assert addresses(account6.create("b", Ipv6AddressCount=0)) == []
        assert addresses(account6.create("b", Ipv6PrefixCount=1)) == []
    finally:
        account6.client.modify_subnet_attribute(SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": False})


def test_assign_and_unassign(account6: Account):
    client, interface = account6.client, account6.create()["NetworkInterfaceId"]
    answer = client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6PrefixCount=2)
    assert answer["AssignedIpv6Prefixes"] == [f"{SUBNET_A}:1::/80", f"{SUBNET_A}:2::/80"]
    assert answer["AssignedIpv6Addresses"] == [] and answer["NetworkInterfaceId"] == interface
    answer = client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6AddressCount=1)
    assert answer["AssignedIpv6Addresses"] == [f"{SUBNET_A}::4"] and answer["AssignedIpv6Prefixes"] == []
    client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6Addresses=[f"{SUBNET_A}:0::99"])
    client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6Prefixes=[f"{SUBNET_A}:9::/80"])
    shown = account6.interface(interface)
    assert addresses(shown) == [f"{SUBNET_A}::4", f"{SUBNET_A}::99"]
    assert prefixes(shown) == [f"{SUBNET_A}:{each}::/80" for each in (1, 2, 9)]
    answer = client.unassign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6Addresses=[f"{SUBNET_A}:0:0::99"],
                                            Ipv6Prefixes=[f"{SUBNET_A}:1::/80"])
    assert answer["UnassignedIpv6Addresses"] == [f"{SUBNET_A}::99"]
    assert answer["UnassignedIpv6Prefixes"] == [f"{SUBNET_A}:1::/80"] and answer["NetworkInterfaceId"] == interface
    assert client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6PrefixCount=1)["AssignedIpv6Prefixes"] == [
        f"{SUBNET_A}:1::/80"]
    client.delete_network_interface(NetworkInterfaceId=interface)
    again = account6.create()["NetworkInterfaceId"]
    assert client.assign_ipv6_addresses(NetworkInterfaceId=again, Ipv6PrefixCount=1)["AssignedIpv6Prefixes"] == [
        f"{SUBNET_A}:1::/80"]


def test_the_order_of_prefixes_may_change(account6: Account, node6):
    interface, _ = account6.attach(node6, Ipv6PrefixCount=2, Ipv4PrefixCount=2)
    before = account6.interface(interface)
    account6.simulator.ask("prefixes.reverse", interface=interface)
    after = account6.interface(interface)
    for name in ("Ipv6Prefixes", "Ipv4Prefixes"):
        assert len(before[name]) == 2 and after[name] == before[name][::-1]


@pytest.mark.parametrize("code,arguments", [
    ("MissingParameter", {}), ("InvalidParameterCombination", {"Ipv6AddressCount": 1, "Ipv6PrefixCount": 1}),
    ("InvalidParameterCombination", {"Ipv6AddressCount": 1, "Ipv6Addresses": [f"{SUBNET_A}::9"]}),
    ("InvalidParameterCombination", {"Ipv6PrefixCount": 1, "Ipv6Prefixes": [f"{SUBNET_A}:9::/80"]}),
    ("InvalidParameterValue", {"Ipv6AddressCount": -1}), ("InvalidParameterValue", {"Ipv6Addresses": ["192.168.64.9"]}),
    ("InvalidParameterValue", {"Ipv6Addresses": [f"{SUBNET_B}::9"]}), ("InvalidParameterValue", {"Ipv6Addresses": [f"{SUBNET_A}::1"]}),
    ("InvalidParameterValue", {"Ipv6Prefixes": [f"{SUBNET_A}:9::/96"]}), ("InvalidIPAddress.InUse", {"Ipv6Addresses": [f"{SUBNET_A}::4"]}),
    ("InvalidIPAddress.InUse", {"Ipv6Prefixes": [f"{SUBNET_A}:1::/80"]}),
    ("InvalidIPAddress.InUse", {"Ipv6Addresses": [f"{SUBNET_A}:1::9"]}),
])
def test_what_assign_refuses(account6: Account, code, arguments):
    account6.create(Ipv6AddressCount=1)
    account6.create(Ipv6PrefixCount=1)
    interface = account6.create()["NetworkInterfaceId"]
    refused(code, account6.client.assign_ipv6_addresses, NetworkInterfaceId=interface, **arguments)
    shown = account6.interface(interface)
    assert addresses(shown) == prefixes(shown) == []


def test_what_is_unknown_or_not_assigned(account6: Account):
    client, interface = account6.client, account6.create(Ipv6AddressCount=1)["NetworkInterfaceId"]
    refused("InvalidNetworkInterfaceID.NotFound", client.assign_ipv6_addresses, NetworkInterfaceId="eni-0", Ipv6PrefixCount=1)
    refused("InvalidNetworkInterfaceID.NotFound", client.unassign_ipv6_addresses, NetworkInterfaceId="eni-0",
            Ipv6Prefixes=[f"{SUBNET_A}:1::/80"])
    refused("MissingParameter", client.unassign_ipv6_addresses, NetworkInterfaceId=interface)
    for arguments in ({"Ipv6Addresses": [f"{SUBNET_A}::4", f"{SUBNET_A}::5"]}, {"Ipv6Prefixes": [f"{SUBNET_A}:1::/80"]}):
        error = refused("InvalidParameterValue", client.unassign_ipv6_addresses, NetworkInterfaceId=interface, **arguments)
        assert "are not assigned to interface" in str(error)
    assert addresses(account6.interface(interface)) == [f"{SUBNET_A}::4"]


def test_the_types_limit_counts_a_prefix_as_an_address(account6: Account, node6):
    """m5.large has ten IPv6 addresses for each interface, whatever it has of IPv4."""
    interface, _ = account6.attach(node6, SecondaryPrivateIpAddressCount=9)
    account6.client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6PrefixCount=9)
    account6.client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6AddressCount=1)
    for wanted in ({"Ipv6PrefixCount": 1}, {"Ipv6AddressCount": 1}, {"Ipv6Addresses": [f"{SUBNET_A}::99"]}):
        refused("PrivateIpAddressLimitExceeded", account6.client.assign_ipv6_addresses, NetworkInterfaceId=interface, **wanted)
    large = account6.create(Ipv6AddressCount=11)["NetworkInterfaceId"]
    refused("PrivateIpAddressLimitExceeded", account6.client.attach_network_interface, NetworkInterfaceId=large,
            InstanceId=node6.instance_id, DeviceIndex=2)
    shown = account6.client.describe_instances(InstanceIds=[node6.instance_id])["Reservations"][0]["Instances"][0]
    by_index = {each["Attachment"]["DeviceIndex"]: each for each in shown["NetworkInterfaces"]}
    assert addresses(by_index[0]) == [node6.address6] and prefixes(by_index[0]) == []
    assert len(prefixes(by_index[1])) == 9 and len(addresses(by_index[1])) == 1


def test_a_type_without_ipv6_gets_no_address(vpc6, account6: Account):
    described = account6.client.describe_instance_types(InstanceTypes=["m1.small", "m5.large"])["InstanceTypes"]
    assert {each["InstanceType"]: each["NetworkInfo"]["Ipv6AddressesPerInterface"] for each in described} == {
        "m1.small": 0, "m5.large": 10}
    node = vpc6.add_instance("old", type="m1.small")
    assert node.address6 is None
    refused("PrivateIpAddressLimitExceeded", account6.client.assign_ipv6_addresses, NetworkInterfaceId=node.enis()[0]["eni"],
            Ipv6AddressCount=1)


def test_no_room_for_a_prefix(account6: Account):
    vpc, interface = account6.simulator, account6.create()["NetworkInterfaceId"]
    vpc.ask("subnet.fragment", subnet="a", family=6, leave=1)
    assert {each["name"]: each["free_prefixes6"] for each in vpc.ask("subnets")} == {"a": 1, "b": 65534, "plain": None}
    error = refused("InsufficientCidrBlocks", account6.client.assign_ipv6_addresses, NetworkInterfaceId=interface,
                    Ipv6PrefixCount=2)
    assert error.response["Error"]["Message"] == (
        "The specified subnet does not have enough free cidr blocks to satisfy the request.")
    account6.client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6PrefixCount=1)
    account6.client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6AddressCount=1)
    vpc.ask("subnet.free", subnet="a")
    account6.client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6PrefixCount=1)


def test_termination_releases_ipv6(account6: Account, vpc6, node6):
    assert node6.address6 == f"{SUBNET_A}::4"
    account6.client.assign_ipv6_addresses(NetworkInterfaceId=node6.enis()[0]["eni"], Ipv6PrefixCount=1)
    assert node6.enis()[0]["addresses6"] == [f"{SUBNET_A}::4"] and node6.enis()[0]["prefixes6"] == [f"{SUBNET_A}:1::/80"]
    account6.client.terminate_instances(InstanceIds=[node6.instance_id])
    made = account6.create(Ipv6AddressCount=1)
    assert addresses(made) == [f"{SUBNET_A}::4"]
    assert vpc6.ask("subnets")[0]["free_prefixes6"] == 65534


@pytest.mark.parametrize("action", ["AssignIpv6Addresses", "UnassignIpv6Addresses"])
def test_the_gate_is_before_the_calls_of_ipv6_too(account6: Account, vpc6, action):
    interface = account6.create(Ipv6PrefixCount=1)["NetworkInterfaceId"]
    call, arguments = {
        "AssignIpv6Addresses": (account6.client.assign_ipv6_addresses, {"Ipv6PrefixCount": 1}),
        "UnassignIpv6Addresses": (account6.client.unassign_ipv6_addresses, {"Ipv6Prefixes": [f"{SUBNET_A}:1::/80"]}),
    }[action]
    before = prefixes(account6.interface(interface))
    vpc6.counts(reset=True)
    vpc6.fault(action, code="Unavailable", http=503)
    refused("Unavailable", call, NetworkInterfaceId=interface, **arguments)
    vpc6.deny(action)
    refused("UnauthorizedOperation", call, NetworkInterfaceId=interface, **arguments)
    vpc6.allow(action)
    assert prefixes(account6.interface(interface)) == before
    vpc6.throttle(True)
    vpc6.ask("bucket", action=action, capacity=0, refill=0)
    refused("RequestLimitExceeded", call, NetworkInterfaceId=interface, **arguments)
    vpc6.throttle(False)
    vpc6.latency(action, 0.5)
    vpc6.fault(action, when="after", code="InternalError", http=500)
    start = time.monotonic()
    with pytest.raises(ClientError, match="InternalError"):
        call(NetworkInterfaceId=interface, **arguments)
    assert time.monotonic() - start >= 0.5
    assert prefixes(account6.interface(interface)) != before, "the act happened, its answer is lost"
    row = vpc6.counts()["actions"][action]
    assert (row["calls"], row["successful"], row["refused"], row["failed"]) == (4, 0, 1, 3)
