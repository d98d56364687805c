"""The instance metadata service, queried from inside instances."""

from __future__ import annotations

import json
import time

import pytest

from conftest import Account, refused, until

TOKEN = "http://169.254.169.254/latest/api/token"
DATA = "http://169.254.169.254/latest/meta-data/"


def curl(node, *words: str) -> tuple[int, str]:
    done = node.run(["curl", "-s", "-m", "3", "-w", "\n%{http_code}", *words], check=False)
    text, _, status = done.stdout.rpartition("\n")
    return int(status), text


def token(node, ttl: str = "60") -> str:
    status, text = curl(node, "-X", "PUT", "-H", f"X-aws-ec2-metadata-token-ttl-seconds: {ttl}", TOKEN)
    assert status == 200
    return text


class Metadata:
    def __init__(self, node) -> None:
        self.node = node
        self._token = token(node)

    def ask(self, path: str) -> tuple[int, str]:
        return curl(self.node, "-H", f"X-aws-ec2-metadata-token: {self._token}", path if "://" in path else DATA + path)

    def text(self, path: str) -> str:
        status, text = self.ask(path)
        assert status == 200, path
        return text

    def interface(self, mac: str, leaf: str) -> str:
        return self.text(f"network/interfaces/macs/{mac}/{leaf}")


def test_tokens(node):
    assert curl(node, DATA + "mac")[0] == 401
    assert curl(node, "-H", "X-aws-ec2-metadata-token: nonsense", DATA + "mac")[0] == 401
    for ttl in ("0", "21601", "x", ""):
        assert curl(node, "-X", "PUT", "-H", f"X-aws-ec2-metadata-token-ttl-seconds: {ttl}", TOKEN)[0] == 400
    assert curl(node, "-X", "PUT", TOKEN)[0] == 400
    forwarded = ["-X", "PUT", "-H", "X-Forwarded-For: 1.2.3.4", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60"]
    assert curl(node, *forwarded, TOKEN)[0] == 403
    brief = token(node, "3")
    assert curl(node, "-H", f"X-aws-ec2-metadata-token: {brief}", DATA + "mac")[0] == 200
    until(lambda: curl(node, "-H", f"X-aws-ec2-metadata-token: {brief}", DATA + "mac")[0] == 401)


def test_tokens_are_an_instances_own_and_can_be_forgotten(vpc, node):
    other = vpc.add_instance("other")
    mine = token(node)
    assert curl(other, "-H", f"X-aws-ec2-metadata-token: {mine}", DATA + "mac")[0] == 401
    vpc.ask("imds.forget")
    assert curl(node, "-H", f"X-aws-ec2-metadata-token: {mine}", DATA + "mac")[0] == 401


def test_version_1_where_it_is_allowed(vpc):
    node = vpc.add_instance("old", imds_v1=True)
    assert curl(node, DATA + "mac")[0] == 200
    vpc.ask("imds.tokens", instance="old", required=True)
    assert curl(node, DATA + "mac")[0] == 401


def test_the_instances_paths(vpc, node):
    data = Metadata(node)
    primary = node.enis()[0]
    assert data.text("mac") == primary["mac"]
    assert data.text("local-ipv4") == node.address
    assert data.text("instance-id") == node.instance_id
    assert data.text("instance-type") == "m5.large"
    assert data.text("placement/region") == "us-west-2"
    assert data.text("placement/availability-zone") == "us-west-2a"
    document = json.loads(data.text("http://169.254.169.254/latest/dynamic/instance-identity/document"))
    assert document["instanceId"] == node.instance_id and document["region"] == "us-west-2"
    assert document["privateIp"] == node.address and document["availabilityZone"] == "us-west-2a"
    for missing in ("ipv6", "public-ipv4", "nonsense", f"network/interfaces/macs/{primary['mac']}/ipv6s",
                    f"network/interfaces/macs/{primary['mac']}/ipv4-prefix", "network/interfaces/macs/06:00:00:00:ff:ff/",
                    f"network/interfaces/macs/{primary['mac']}/network-card",
                    f"network/interfaces/macs/{primary['mac']}/vpc-ipv6-cidr-blocks"):
        status, text = data.ask(missing)
        assert status == 404 and "404 - Not Found" in text, missing


def test_the_interfaces_paths(account: Account, vpc, node):
    interface, _ = account.attach(node, SecondaryPrivateIpAddressCount=2, Groups=[vpc.ready["security_group"]])
    account.client.assign_private_ip_addresses(NetworkInterfaceId=interface, Ipv4PrefixCount=1)
    data = Metadata(node)
    macs = [each.rstrip("/") for each in data.text("network/interfaces/macs/").split("\n")]
    assert sorted(macs) == sorted(each["mac"] for each in node.enis())
    mac = account.interface(interface)["MacAddress"]
    leaves = data.text(f"network/interfaces/macs/{mac}/").split("\n")
    assert {"device-number", "interface-id", "local-ipv4s", "subnet-id", "ipv4-prefix"} <= set(leaves)
    assert data.interface(mac, "device-number") == "1"
    assert data.interface(mac, "interface-id") == interface
    assert data.interface(mac, "subnet-id") == account.subnet("a")
    assert data.interface(mac, "vpc-id") == vpc.ready["vpc_id"]
    assert data.interface(mac, "security-group-ids") == vpc.ready["security_group"]
    assert data.interface(mac, "local-ipv4s").split("\n") == ["192.168.64.5", "192.168.64.6", "192.168.64.7"]
    assert data.interface(mac, "subnet-ipv4-cidr-block") == "192.168.64.0/19"
    assert data.interface(mac, "vpc-ipv4-cidr-blocks") == "192.168.0.0/16"
    assert data.interface(mac, "ipv4-prefix") == "192.168.64.16/28"


def test_multi_card_types_show_the_card(account: Account, vpc):
    node = vpc.add_instance("big", type="p4d.24xlarge")
    interface = account.create()["NetworkInterfaceId"]
    account.client.attach_network_interface(NetworkInterfaceId=interface, InstanceId=node.instance_id, DeviceIndex=1,
                                            NetworkCardIndex=1)
    data = Metadata(node)
    assert data.interface(account.interface(interface)["MacAddress"], "network-card") == "1"
    assert data.interface(node.enis()[0]["mac"], "network-card") == "0"


def test_imds_lags_behind_ec2(account: Account, vpc, node):
    vpc.imds_lag(node.name, 3)
    data = Metadata(node)
    before = time.monotonic()
    interface, _ = account.attach(node)
    mac = account.interface(interface)["MacAddress"]
    assert mac not in data.text("network/interfaces/macs/")
    until(lambda: mac in data.text("network/interfaces/macs/"))
    assert time.monotonic() - before >= 3
    vpc.imds_lag(node.name, 0)
    assert mac in data.text("network/interfaces/macs/")


def test_the_vpcs_cidrs_come_and_go(vpc, node, ec2):
    """The changes come from the command line and from EC2's own calls; a change that EC2 refuses has no effect."""
    data, vpc_id = Metadata(node), vpc.ready["vpc_id"]
    mac = node.enis()[0]["mac"]

    def shown() -> list[str]:
        return data.interface(mac, "vpc-ipv4-cidr-blocks").split("\n")

    vpc.ask("cidr.add", cidr="100.64.0.0/16")
    made = ec2.associate_vpc_cidr_block(VpcId=vpc_id, CidrBlock="100.65.0.0/16")["CidrBlockAssociation"]
    assert shown() == vpc.ask("cidrs") == ["192.168.0.0/16", "100.64.0.0/16", "100.65.0.0/16"]
    for cidr, code in (("100.64.7.0/24", "CidrConflict"), ("10.0.0.0/8", "InvalidVpc.Range"), ("junk", "InvalidParameterValue")):
        refused(code, ec2.associate_vpc_cidr_block, VpcId=vpc_id, CidrBlock=cidr)
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="100.65.1.0/24", AvailabilityZone="us-west-2a")["Subnet"]["SubnetId"]
    refused("InvalidCidrBlock.InUse", ec2.disassociate_vpc_cidr_block, AssociationId=made["AssociationId"])
    ec2.delete_subnet(SubnetId=subnet)
    ec2.disassociate_vpc_cidr_block(AssociationId=made["AssociationId"])
    vpc.ask("cidr.remove", cidr="100.64.0.0/16")
    assert shown() == ["192.168.0.0/16"]
    primary = ec2.describe_vpcs(VpcIds=[vpc_id])["Vpcs"][0]["CidrBlockAssociationSet"][0]["AssociationId"]
    refused("OperationNotPermitted", ec2.disassociate_vpc_cidr_block, AssociationId=primary)
    assert shown() == ["192.168.0.0/16"]


def test_credentials(vpc, node):
    data = Metadata(node)
    role = data.text("iam/security-credentials/")
    assert role == "vpcsim-node-role"
    first = json.loads(data.text(f"iam/security-credentials/{role}"))
    assert first["Code"] == "Success" and first["Token"] and first["AccessKeyId"].startswith("ASIA")
    assert json.loads(data.text(f"iam/security-credentials/{role}")) == first
    vpc.ask("credentials.rotate")
    assert json.loads(data.text(f"iam/security-credentials/{role}"))["AccessKeyId"] != first["AccessKeyId"]


def test_faults_and_silence(vpc, node):
    data = Metadata(node)
    vpc.fault("imds:/latest/meta-data/mac", http=503, times=2)
    assert [data.ask("mac")[0] for _ in range(3)] == [503, 503, 200]
    vpc.imds(False)
    done = node.run(["curl", "-s", "-m", "0.3", TOKEN], check=False)
    assert done.returncode == 28  # timed out
    vpc.imds(True)
    assert data.ask("mac")[0] == 200


@pytest.mark.parametrize("hops,reaches", [(1, False), (2, True)])
def test_the_hop_limit_keeps_tokens_from_pods(vpc, hops, reaches):
    """A pod's request passes one more router: the node."""
    node = vpc.add_instance(f"hops-{hops}", hop_limit=hops)
    pod = ["ip", "netns", "exec", "pod"]
    node.run(["sh", "-ec", "ip netns add pod; ip link add v0 type veth peer name eth0 netns pod; ip link set v0 up;"
              "ip addr add 169.254.1.1/32 dev v0; ip route add 10.1.1.1/32 dev v0;"
              "ip -n pod link set eth0 up; ip -n pod addr add 10.1.1.1/32 dev eth0;"
              "ip -n pod route add 169.254.1.1 dev eth0; ip -n pod route add default via 169.254.1.1;"
              f"nft add table ip t; nft 'add chain ip t p {{ type nat hook postrouting priority 100; }}';"
              f"nft add rule ip t p oifname ens5 snat to {node.address}"])
    done = node.run([*pod, "curl", "-s", "-m", "1", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", TOKEN],
                    check=False)
    assert (done.returncode == 0 and len(done.stdout) > 20) is reaches
