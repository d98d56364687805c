"""The metadata service in a VPC with IPv6: its paths, and its own IPv6 address."""

from __future__ import annotations

import time

import pytest

from conftest import Account, until
from test_imds import TOKEN, Metadata, curl

TOKEN6 = TOKEN.replace("169.254.169.254", "[fd00:ec2::254]")
DATA6 = "http://[fd00:ec2::254]/latest/meta-data/"
SUBNET_A = "2001:db8:1234:1a00"


def test_the_paths_of_ipv6(account6: Account, node6):
    interface, _ = account6.attach(node6, Ipv6AddressCount=2)
    for _ in range(2):
        account6.client.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6PrefixCount=1)
    data, primary = Metadata(node6), node6.enis()[0]["mac"]
    mac = account6.interface(interface)["MacAddress"]
    assert data.text("ipv6") == node6.address6 == data.interface(primary, "ipv6s")
    assert data.interface(mac, "ipv6s").split("\n") == [f"{SUBNET_A}::5", f"{SUBNET_A}::6"]
    assert data.interface(mac, "ipv6-prefix").split("\n") == [f"{SUBNET_A}:1::/80", f"{SUBNET_A}:2::/80"]
    assert data.ask(f"network/interfaces/macs/{primary}/ipv6-prefix")[0] == 404
    for each in (mac, primary):
        assert data.interface(each, "subnet-ipv6-cidr-blocks") == f"{SUBNET_A}::/64"
        assert data.interface(each, "vpc-ipv6-cidr-blocks") == f"{SUBNET_A}::/56"
        assert data.interface(each, "vpc-ipv4-cidr-blocks") == "192.168.0.0/16"
    leaves = data.text(f"network/interfaces/macs/{mac}/").split("\n")
    assert {"ipv6s", "ipv6-prefix", "subnet-ipv6-cidr-blocks", "vpc-ipv6-cidr-blocks", "local-ipv4s"} <= set(leaves)


def test_what_an_interface_lacks_is_not_found(account6: Account, vpc6):
    node = vpc6.add_instance("plain", subnet="plain")
    data, path = Metadata(node), f"network/interfaces/macs/{node.enis()[0]['mac']}/"
    for missing in ("ipv6", path + "ipv6s", path + "ipv6-prefix", path + "subnet-ipv6-cidr-blocks"):
        status, text = data.ask(missing)
        assert status == 404 and "404 - Not Found" in text, missing
        assert missing.rpartition("/")[2] not in data.text(path).split("\n")
    assert data.text(path + "vpc-ipv6-cidr-blocks") == f"{SUBNET_A}::/56"


def test_imds_lags_behind_ec2(account6: Account, vpc6, node6):
    vpc6.imds_lag(node6.name, 3)
    data, primary = Metadata(node6), node6.enis()[0]
    path = f"network/interfaces/macs/{primary['mac']}/ipv6-prefix"
    before = time.monotonic()
    account6.client.assign_ipv6_addresses(NetworkInterfaceId=primary["eni"], Ipv6PrefixCount=1)
    assert data.ask(path)[0] == 404
    until(lambda: data.ask(path) == (200, f"{SUBNET_A}:1::/80"))
    assert time.monotonic() - before >= 3


def test_the_address_of_ipv6(account6: Account, vpc6, node6):
    """It answers like the other one, to every address that an interface has; a token is good for both."""
    header = ["-H", "X-aws-ec2-metadata-token-ttl-seconds: 60"]
    until(lambda: curl(node6, DATA6 + "mac")[0] == 401)
    status, token = curl(node6, "-X", "PUT", *header, TOKEN6)
    assert status == 200
    shown = ["-H", f"X-aws-ec2-metadata-token: {token}"]
    assert curl(node6, *shown, DATA6 + "instance-id") == (200, node6.instance_id)
    assert curl(node6, *shown, DATA6.replace("[fd00:ec2::254]", "169.254.169.254") + "ipv6") == (200, node6.address6)
    assert curl(node6, *shown, DATA6 + "nonsense")[0] == 404
    prefix = account6.client.assign_ipv6_addresses(NetworkInterfaceId=node6.enis()[0]["eni"], Ipv6PrefixCount=1)["AssignedIpv6Prefixes"][0]
    pod = prefix.replace("::/80", "::9")
    node6.run(["ip", "addr", "add", f"{pod}/128", "dev", "ens5", "nodad"])
    assert curl(node6, *shown, "--interface", pod, DATA6 + "ipv6") == (200, node6.address6)
    assert node6.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == "http://169.254.169.254"
    assert vpc6.ready["imds_endpoint6"] == "http://[fd00:ec2::254]"


def test_faults_and_silence(vpc6, node6):
    until(lambda: curl(node6, DATA6 + "mac")[0] == 401)
    vpc6.fault("imds:/latest/meta-data/mac", http=503)
    assert [curl(node6, DATA6 + "mac")[0] for _ in range(2)] == [503, 401]
    vpc6.imds(False)
    done = node6.run(["curl", "-s", "-m", "0.3", DATA6 + "mac"], check=False)
    assert done.returncode == 28  # timed out
    vpc6.imds(True)
    assert curl(node6, DATA6 + "mac")[0] == 401


@pytest.mark.parametrize("hops,reaches", [(1, False), (2, True)])
def test_the_hop_limit_keeps_tokens_from_pods(account6: Account, vpc6, hops, reaches):
    node = vpc6.add_instance(f"hops6-{hops}", hop_limit=hops)
    until(lambda: curl(node, DATA6 + "mac")[0] == 401)
    prefix = account6.client.assign_ipv6_addresses(NetworkInterfaceId=node.enis()[0]["eni"], Ipv6PrefixCount=1)["AssignedIpv6Prefixes"][0]
    pod = prefix.replace("::/80", "::9")
    node.run(["sh", "-ec", "sysctl -qw net.ipv6.conf.ens5.accept_ra=2 net.ipv6.conf.all.forwarding=1;"
              "ip netns add pod; ip link add v0 type veth peer name eth0 netns pod; ip link set v0 up;"
              f"ip addr add fe80::1/64 dev v0 nodad; ip -6 route add {pod}/128 dev v0;"
              f"ip -n pod link set eth0 up; ip -n pod addr add {pod}/128 dev eth0 nodad;"
              "ip -n pod -6 route add default via fe80::1 dev eth0"])
    words = ["ip", "netns", "exec", "pod", "curl", "-s", "-m", "1"]
    until(lambda: node.run([*words, "-o", "/dev/null", "-w", "%{http_code}", DATA6 + "mac"], check=False).stdout == "401")
    done = node.run([*words, "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", TOKEN6], check=False)
    assert (done.returncode == 0 and len(done.stdout) > 20) is reaches
