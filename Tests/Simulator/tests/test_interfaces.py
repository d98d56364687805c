"""What EC2 guarantees and refuses for network interfaces."""

from __future__ import annotations

import pytest

from conftest import Account, refused, until


def test_create_gives_the_lowest_addresses_and_every_field(account: Account):
    made = account.create(SecondaryPrivateIpAddressCount=2, Description="d", Groups=[account.simulator.ready["security_group"]],
                          TagSpecifications=[{"ResourceType": "network-interface", "Tags": [{"Key": "k", "Value": "v"}]}])
    assert [each["PrivateIpAddress"] for each in made["PrivateIpAddresses"]] == ["192.168.64.4", "192.168.64.5", "192.168.64.6"]
    assert [each["Primary"] for each in made["PrivateIpAddresses"]] == [True, False, False]
    assert made["PrivateIpAddress"] == "192.168.64.4"
    assert made["Status"] == "available" and made["InterfaceType"] == "interface" and made["Description"] == "d"
    assert made["TagSet"] == [{"Key": "k", "Value": "v"}]
    assert made["Groups"][0]["GroupId"] == account.simulator.ready["security_group"]
    assert "Association" not in made


def test_macs_are_unique(account: Account):
    macs = {account.create()["MacAddress"] for _ in range(20)}
    assert len(macs) == 20


def test_the_same_token_gives_the_same_interface(account: Account):
    first = account.create(ClientToken="t1", SecondaryPrivateIpAddressCount=1)
    assert account.create(ClientToken="t1", SecondaryPrivateIpAddressCount=1)["NetworkInterfaceId"] == first["NetworkInterfaceId"]
    assert len(account.client.describe_network_interfaces()["NetworkInterfaces"]) == 1
    refused("IdempotentParameterMismatch", account.create, ClientToken="t1", SecondaryPrivateIpAddressCount=2)


def test_unknown_things_are_not_found(account: Account, node):
    client = account.client
    refused("InvalidNetworkInterfaceID.NotFound", client.describe_network_interfaces, NetworkInterfaceIds=["eni-0"])
    refused("InvalidNetworkInterfaceID.NotFound", client.delete_network_interface, NetworkInterfaceId="eni-0")
    refused("InvalidNetworkInterfaceID.NotFound", client.assign_private_ip_addresses, NetworkInterfaceId="eni-0",
            SecondaryPrivateIpAddressCount=1)
    refused("InvalidSubnetID.NotFound", client.create_network_interface, SubnetId="subnet-0")
    refused("InvalidSubnetID.NotFound", client.describe_subnets, SubnetIds=["subnet-0"])
    refused("InvalidGroup.NotFound", account.create, Groups=["sg-0"])
    refused("InvalidInstanceID.NotFound", client.attach_network_interface, InstanceId="i-0", DeviceIndex=1,
            NetworkInterfaceId=account.create()["NetworkInterfaceId"])
    refused("InvalidAttachmentID.NotFound", client.detach_network_interface, AttachmentId="eni-attach-0")
    refused("InvalidInstanceID.NotFound", client.terminate_instances, InstanceIds=["i-0"])


def test_attach_and_its_refusals(account: Account, node, vpc):
    client = account.client
    interface, attachment = account.attach(node)
    described = account.interface(interface)["Attachment"]
    assert described["AttachmentId"] == attachment and described["DeviceIndex"] == 1 and described["Status"] == "attached"
    assert described["InstanceId"] == node.instance_id and described["DeleteOnTermination"] is False
    error = refused("InvalidNetworkInterface.InUse", client.attach_network_interface, NetworkInterfaceId=interface,
                    InstanceId=node.instance_id, DeviceIndex=2)
    assert error.response["Error"]["Message"] == f"Interface: [{interface}] in use."
    spare = account.create()["NetworkInterfaceId"]
    error = refused("InvalidParameterValue", client.attach_network_interface, NetworkInterfaceId=spare,
                    InstanceId=node.instance_id, DeviceIndex=1)
    assert "already has an interface attached at device index '1'" in str(error)
    far = account.create("b")["NetworkInterfaceId"]
    error = refused("InvalidParameterCombination", client.attach_network_interface, NetworkInterfaceId=far,
                    InstanceId=node.instance_id, DeviceIndex=2)
    assert "availability zone" in str(error)
    account.client.attach_network_interface(NetworkInterfaceId=spare, InstanceId=node.instance_id, DeviceIndex=2)
    one_more = account.create()["NetworkInterfaceId"]
    error = refused("AttachmentLimitExceeded", client.attach_network_interface, NetworkInterfaceId=one_more,
                    InstanceId=node.instance_id, DeviceIndex=3)
    assert error.response["Error"]["Message"] == "Interface count 4 exceeds the limit for m5.large"
    interfaces = client.describe_instances(InstanceIds=[node.instance_id])["Reservations"][0]["Instances"][0]["NetworkInterfaces"]
    assert sorted(each["Attachment"]["DeviceIndex"] for each in interfaces) == [0, 1, 2]


def test_volumes_share_the_slots(account: Account, node):
    account.simulator.ask("volumes", instance=node.name, count=1)
    account.attach(node)
    spare = account.create()["NetworkInterfaceId"]
    refused("AttachmentLimitExceeded", account.client.attach_network_interface, NetworkInterfaceId=spare,
            InstanceId=node.instance_id, DeviceIndex=2)
    account.simulator.ask("volumes", instance=node.name, count=0)
    account.client.attach_network_interface(NetworkInterfaceId=spare, InstanceId=node.instance_id, DeviceIndex=2)


def test_the_primary_stays(account: Account, node):
    primary = node.enis()[0]
    attachment = account.interface(primary["eni"])["Attachment"]["AttachmentId"]
    refused("OperationNotPermitted", account.client.detach_network_interface, AttachmentId=attachment)
    refused("InvalidParameterValue", account.client.unassign_private_ip_addresses, NetworkInterfaceId=primary["eni"],
            PrivateIpAddresses=[node.address])


def test_what_is_in_use_is_not_deleted(account: Account, node):
    interface, attachment = account.attach(node)
    refused("InvalidParameterValue", account.client.delete_network_interface, NetworkInterfaceId=interface)
    refused("DependencyViolation", account.client.delete_subnet, SubnetId=account.subnet("a"))
    refused("DependencyViolation", account.client.delete_security_group, GroupId=account.simulator.ready["security_group"])
    account.client.detach_network_interface(AttachmentId=attachment)
    account.client.delete_network_interface(NetworkInterfaceId=interface)
    refused("InvalidNetworkInterfaceID.NotFound", account.client.delete_network_interface, NetworkInterfaceId=interface)


def test_attaching_and_detaching_take_their_time(account: Account, node, vpc):
    vpc.ask("delay", attach=2, detach=2)
    interface, attachment = account.attach(node)
    assert account.interface(interface)["Attachment"]["Status"] == "attaching"
    assert "ens6" not in node.run(["ip", "-br", "link"]).stdout
    until(lambda: account.interface(interface)["Attachment"]["Status"] == "attached")
    assert "ens6" in node.run(["ip", "-br", "link"]).stdout
    account.client.detach_network_interface(AttachmentId=attachment)
    assert account.interface(interface)["Attachment"]["Status"] == "detaching"
    refused("InvalidParameterValue", account.client.delete_network_interface, NetworkInterfaceId=interface)
    until(lambda: account.interface(interface)["Status"] == "available")


def test_assign_returns_only_what_is_new(account: Account, node):
    interface, _ = account.attach(node, SecondaryPrivateIpAddressCount=2)
    answer = account.client.assign_private_ip_addresses(NetworkInterfaceId=interface, SecondaryPrivateIpAddressCount=2)
    assert [each["PrivateIpAddress"] for each in answer["AssignedPrivateIpAddresses"]] == ["192.168.64.8", "192.168.64.9"]
    account.client.unassign_private_ip_addresses(NetworkInterfaceId=interface, PrivateIpAddresses=["192.168.64.8"])
    answer = account.client.assign_private_ip_addresses(NetworkInterfaceId=interface, SecondaryPrivateIpAddressCount=1)
    assert [each["PrivateIpAddress"] for each in answer["AssignedPrivateIpAddresses"]] == ["192.168.64.8"]
    error = refused("InvalidParameterValue", account.client.unassign_private_ip_addresses, NetworkInterfaceId=interface,
                    PrivateIpAddresses=["192.168.64.200"])
    assert "are not assigned to interface" in str(error)


def test_the_types_limit_of_addresses_binds(account: Account, node):
    interface, _ = account.attach(node, SecondaryPrivateIpAddressCount=9)
    error = refused("PrivateIpAddressLimitExceeded", account.client.assign_private_ip_addresses,
                    NetworkInterfaceId=interface, SecondaryPrivateIpAddressCount=1)
    assert error.response["Error"]["Message"] == "Number of private addresses will exceed limit."
    refused("PrivateIpAddressLimitExceeded", account.client.assign_private_ip_addresses, NetworkInterfaceId=interface,
            Ipv4PrefixCount=1)
    crowded = account.create(SecondaryPrivateIpAddressCount=10)["NetworkInterfaceId"]
    refused("PrivateIpAddressLimitExceeded", account.client.attach_network_interface, NetworkInterfaceId=crowded,
            InstanceId=node.instance_id, DeviceIndex=2)


def test_reassignment_moves_an_address(account: Account, node):
    first, _ = account.attach(node, 1, SecondaryPrivateIpAddressCount=1)
    second, _ = account.attach(node, 2)
    address = account.interface(first)["PrivateIpAddresses"][1]["PrivateIpAddress"]
    refused("InvalidIPAddress.InUse", account.client.assign_private_ip_addresses, NetworkInterfaceId=second,
            PrivateIpAddresses=[address])
    account.client.assign_private_ip_addresses(NetworkInterfaceId=second, PrivateIpAddresses=[address], AllowReassignment=True)
    assert len(account.interface(first)["PrivateIpAddresses"]) == 1
    assert address in [each["PrivateIpAddress"] for each in account.interface(second)["PrivateIpAddresses"]]


def test_a_full_subnet(account: Account, vpc, node):
    vpc.ask("subnet.take", subnet="small", leave=2)
    account.create("small", SecondaryPrivateIpAddressCount=1)
    error = refused("InsufficientFreeAddressesInSubnet", account.create, subnet="small")
    assert error.response["Error"]["Message"] == (
        "The specified subnet does not have enough free addresses to satisfy the request.")
    shown = account.client.describe_subnets(SubnetIds=[account.subnet("small")])["Subnets"][0]
    assert shown["AvailableIpAddressCount"] == 0


def test_a_refused_create_takes_nothing(account: Account, vpc):
    before = {each["name"]: each["free"] for each in vpc.ask("subnets")}
    refused("InsufficientFreeAddressesInSubnet", account.create, subnet="small", SecondaryPrivateIpAddressCount=200)
    refused("InvalidParameterValue", account.create, subnet="small", PrivateIpAddress="10.9.9.9", SecondaryPrivateIpAddressCount=2)
    assert {each["name"]: each["free"] for each in vpc.ask("subnets")} == before


def test_prefixes(account: Account, node):
    interface, _ = account.attach(node, Ipv4PrefixCount=1)
    assert account.interface(interface)["Ipv4Prefixes"] == [{"Ipv4Prefix": "192.168.64.16/28"}]
    answer = account.client.assign_private_ip_addresses(NetworkInterfaceId=interface, Ipv4PrefixCount=2)
    assert answer["AssignedIpv4Prefixes"] == [{"Ipv4Prefix": "192.168.64.32/28"}, {"Ipv4Prefix": "192.168.64.48/28"}]
    assert answer["AssignedPrivateIpAddresses"] == []
    account.client.unassign_private_ip_addresses(NetworkInterfaceId=interface, Ipv4Prefixes=["192.168.64.32/28"])
    assert [each["Ipv4Prefix"] for each in account.interface(interface)["Ipv4Prefixes"]] == ["192.168.64.16/28", "192.168.64.48/28"]
    # a prefix takes one slot of the ten
    account.client.assign_private_ip_addresses(NetworkInterfaceId=interface, Ipv4PrefixCount=7)
    refused("PrivateIpAddressLimitExceeded", account.client.assign_private_ip_addresses, NetworkInterfaceId=interface,
            Ipv4PrefixCount=1)
    instance = account.client.describe_instances(InstanceIds=[node.instance_id])["Reservations"][0]["Instances"][0]
    assert any(len(each["Ipv4Prefixes"]) == 9 for each in instance["NetworkInterfaces"])


def test_no_room_for_a_prefix(account: Account, vpc):
    interface = account.create("small")["NetworkInterfaceId"]
    vpc.ask("subnet.fragment", subnet="small")
    error = refused("InsufficientCidrBlocks", account.client.assign_private_ip_addresses, NetworkInterfaceId=interface,
                    Ipv4PrefixCount=1)
    assert error.response["Error"]["Message"] == (
        "The specified subnet does not have enough free cidr blocks to satisfy the request.")
    vpc.ask("subnet.take", subnet="small", leave=5)
    error = refused("InvalidParameterValue", account.client.assign_private_ip_addresses, NetworkInterfaceId=interface,
                    Ipv4PrefixCount=1)
    assert error.response["Error"]["Message"] == "There aren't sufficient free Ipv4 addresses or prefixes"
    account.client.assign_private_ip_addresses(NetworkInterfaceId=interface, SecondaryPrivateIpAddressCount=1)


def test_termination_takes_what_is_marked_and_leaves_the_rest(account: Account, node):
    gone, attachment = account.attach(node, 1)
    account.client.modify_network_interface_attribute(
        NetworkInterfaceId=gone, Attachment={"AttachmentId": attachment, "DeleteOnTermination": True})
    assert account.interface(gone)["Attachment"]["DeleteOnTermination"] is True
    stays, _ = account.attach(node, 2)
    account.client.terminate_instances(InstanceIds=[node.instance_id])
    refused("InvalidNetworkInterfaceID.NotFound", account.client.describe_network_interfaces, NetworkInterfaceIds=[gone])
    assert account.interface(stays)["Status"] == "available" and "Attachment" not in account.interface(stays)
    refused("InvalidInstanceID.NotFound", account.client.describe_instances, InstanceIds=[node.instance_id])


def test_one_attribute_at_a_time(account: Account, node):
    interface, attachment = account.attach(node)
    refused("InvalidParameterCombination", account.client.modify_network_interface_attribute, NetworkInterfaceId=interface,
            Description={"Value": "d"}, SourceDestCheck={"Value": False})
    refused("InvalidAttachmentID.NotFound", account.client.modify_network_interface_attribute, NetworkInterfaceId=interface,
            Attachment={"AttachmentId": "eni-attach-0", "DeleteOnTermination": True})
    account.client.modify_network_interface_attribute(NetworkInterfaceId=interface, Description={"Value": "d"})
    assert account.interface(interface)["Description"] == "d"


def test_tags(account: Account):
    interface = account.create()["NetworkInterfaceId"]
    account.client.create_tags(Resources=[interface], Tags=[{"Key": "k", "Value": "v"}])
    assert account.interface(interface)["TagSet"] == [{"Key": "k", "Value": "v"}]
    assert account.client.describe_tags(Filters=[{"Name": "resource-id", "Values": [interface]}])["Tags"][0]["Value"] == "v"


def test_dry_run(account: Account):
    refused("DryRunOperation", account.create, DryRun=True)
    assert account.client.describe_network_interfaces()["NetworkInterfaces"] == []


@pytest.mark.parametrize("instance_type,interfaces,addresses", [("t3.nano", 2, 2), ("m5.large", 3, 10), ("m5.4xlarge", 8, 30)])
def test_instance_types_are_described(ec2, instance_type, interfaces, addresses):
    network = ec2.describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"][0]["NetworkInfo"]
    assert (network["MaximumNetworkInterfaces"], network["Ipv4AddressesPerInterface"]) == (interfaces, addresses)
