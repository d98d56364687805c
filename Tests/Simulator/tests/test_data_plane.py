"""The data plane: packets between instances, packets to the internet stand-in, and packets that a VPC drops."""

from __future__ import annotations

import subprocess

import pytest

from conftest import Account, until
from simulator.client import Simulator

INTERNET = "198.51.100.10"
PEER = "172.29.0.10"


def ping(node, source: str | None, destination: str) -> bool:
    words = ["ping", "-c", "1", "-W", "0.4", *(["-I", source] if source else []), destination]
    return node.run(words, check=False).returncode == 0


def reaches(node, source: str | None, destination: str) -> bool:
    """An echo is answered, on a busy machine not always the first one."""
    return until(lambda: ping(node, source, destination))


def own(node, address: str, device: str = "ens5") -> None:
    node.run(["ip", "addr", "add", f"{address}/32", "dev", device])


def test_a_node_looks_like_one_at_boot(node):
    links = node.run(["ip", "-o", "link", "show", "ens5"]).stdout
    assert "mtu 9001" in links and node.enis()[0]["mac"] in links
    assert f"default via 192.168.64.1 dev ens5" in node.run(["ip", "route"]).stdout
    assert node.run(["sysctl", "-n", "net.ipv4.ip_forward"]).stdout.strip() == "1"
    assert reaches(node, None, "192.168.64.1")


def test_an_attached_interface_appears_bare_and_at_once(account: Account, node):
    interface = account.create()["NetworkInterfaceId"]
    account.client.attach_network_interface(NetworkInterfaceId=interface, InstanceId=node.instance_id, DeviceIndex=1)
    line = node.run(["ip", "-o", "link", "show", "ens6"]).stdout
    assert account.interface(interface)["MacAddress"] in line
    shown = node.run(["ip", "-o", "addr", "show", "ens6"]).stdout + node.run(["ip", "-o", "link", "show", "ens6"]).stdout
    assert "state DOWN" in shown and "inet" not in shown and "mtu 1500" in shown


def test_a_detached_interface_goes(account: Account, node):
    _, attachment = account.attach(node)
    account.client.detach_network_interface(AttachmentId=attachment)
    assert "ens6" not in node.run(["ip", "-br", "link"]).stdout


def test_assigned_addresses_and_prefixes_are_forwarded_between_instances(account: Account, vpc, node):
    other = vpc.add_instance("across", subnet="b")
    primary = node.enis()[0]["eni"]
    answer = account.client.assign_private_ip_addresses(NetworkInterfaceId=primary, SecondaryPrivateIpAddressCount=1)
    address = answer["AssignedPrivateIpAddresses"][0]["PrivateIpAddress"]
    prefix = account.client.assign_private_ip_addresses(
        NetworkInterfaceId=primary, Ipv4PrefixCount=1)["AssignedIpv4Prefixes"][0]["Ipv4Prefix"]
    inside = prefix.replace(".16/28", ".21")
    for each in (address, inside):
        own(node, each)
        assert reaches(node, each, other.address)
        assert reaches(other, None, each)
    account.client.unassign_private_ip_addresses(NetworkInterfaceId=primary, PrivateIpAddresses=[address], Ipv4Prefixes=[prefix])
    for each in (address, inside):
        assert not ping(other, None, each)
    assert vpc.drops()["total"] == 0
    assert vpc.drops()["unassigned_destination"] == 2


def test_neighbours_of_one_subnet_reach_each_other(vpc, node):
    assert reaches(node, None, vpc.add_instance("next").address)


def test_a_source_that_the_interface_does_not_own_is_dropped_and_counted(vpc, node):
    other = vpc.add_instance("target", subnet="b")
    own(node, "192.168.64.99")
    own(node, "10.1.2.3")
    assert not ping(node, "192.168.64.99", other.address)
    assert not ping(node, "10.1.2.3", other.address)
    drops = vpc.drops()
    assert drops["unowned_source"] == drops["total"] == 2
    assert drops["enis"] == [{"instance": node.name, "eni": node.enis()[0]["eni"], "device": "ens5", "packets": 2}]
    flows = {(each["source"], each["destination"]): each["packets"] for each in drops["flows"]["unowned_source"]}
    assert flows == {("192.168.64.99", other.address): 1, ("10.1.2.3", other.address): 1}
    vpc.drops(reset=True)
    assert vpc.drops()["total"] == 0 and vpc.drops()["flows"]["unowned_source"] == []


def test_an_address_leaves_by_its_own_interface_only(account: Account, vpc, node):
    """The address belongs to ens6, the packet leaves by ens5."""
    interface, _ = account.attach(node, SecondaryPrivateIpAddressCount=1)
    address = account.interface(interface)["PrivateIpAddresses"][1]["PrivateIpAddress"]
    other = vpc.add_instance("target", subnet="b")
    own(node, address, "lo")
    assert not ping(node, address, other.address)
    assert vpc.drops()["enis"][0]["device"] == "ens5"
    node.run(["sh", "-ec", "ip link set ens6 up mtu 9001; sysctl -qw net.ipv4.conf.ens6.rp_filter=2;"
              "ip route add 192.168.64.1 dev ens6 table 2; ip route add default via 192.168.64.1 dev ens6 table 2;"
              f"ip rule add from {address} lookup 2 priority 1536"])
    vpc.drops(reset=True)
    assert reaches(node, address, other.address)
    assert reaches(other, None, address)
    assert vpc.drops()["total"] == 0


def test_the_source_check_can_be_switched_off(account: Account, vpc, node):
    interface = node.enis()[0]["eni"]
    own(node, "10.1.2.3")
    other = vpc.add_instance("target", subnet="b")
    account.client.modify_network_interface_attribute(NetworkInterfaceId=interface, SourceDestCheck={"Value": False})
    assert not ping(node, "10.1.2.3", other.address)
    assert vpc.drops()["unowned_source"] == 0
    account.client.modify_network_interface_attribute(NetworkInterfaceId=interface, SourceDestCheck={"Value": True})
    assert not ping(node, "10.1.2.3", other.address)
    assert vpc.drops()["unowned_source"] == 1


def test_the_internet_sees_the_nodes_address_and_nothing_else(account: Account, vpc, node):
    interface = node.enis()[0]["eni"]
    answer = account.client.assign_private_ip_addresses(NetworkInterfaceId=interface, SecondaryPrivateIpAddressCount=1)
    pod = answer["AssignedPrivateIpAddresses"][0]["PrivateIpAddress"]
    own(node, pod)
    assert node.run(["curl", "-s", "-m", "2", f"http://{INTERNET}/ip"]).stdout == f"{node.address}\n"
    assert reaches(node, None, INTERNET)
    assert node.run(["curl", "-s", "-m", "0.3", "--interface", pod, f"http://{INTERNET}/"], check=False).returncode == 28
    drops = vpc.drops()
    assert drops["no_public_address"] >= 1 and drops["unowned_source"] == 0
    assert drops["flows"]["no_public_address"][0]["source"] == pod
    assert vpc.internet()["sources"] == {node.address: {"http": 1, "icmp": 1}}
    # what SNAT is for
    node.run(["sh", "-ec", "nft add table ip t; nft 'add chain ip t p { type nat hook postrouting priority 100; }';"
              f"nft add rule ip t p ip daddr != 192.168.0.0/16 snat to {node.address}"])
    assert node.run(["curl", "-s", "-m", "2", "--interface", pod, f"http://{INTERNET}/"]).stdout == f"{node.address}\n"


def test_a_peered_network_sees_any_address_of_the_vpc(account: Account, vpc, node):
    answer = account.client.assign_private_ip_addresses(NetworkInterfaceId=node.enis()[0]["eni"], SecondaryPrivateIpAddressCount=1)
    pod = answer["AssignedPrivateIpAddresses"][0]["PrivateIpAddress"]
    own(node, pod)
    assert node.run(["curl", "-s", "-m", "2", "--interface", pod, f"http://{PEER}/"]).stdout == f"{pod}\n"
    assert vpc.drops()["total"] == 0


@pytest.mark.parametrize("address", [INTERNET, PEER])
def test_echo_over_tcp_and_udp(node, address):
    program = ("import socket,sys\n"
               "t=socket.create_connection((sys.argv[1],7),3); f=t.makefile('rwb'); print(f.readline().split()[0].decode())\n"
               "f.write(b'x\\n'); f.flush(); print(f.readline().decode().strip())\n"
               "u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u.settimeout(3); u.connect((sys.argv[1],7)); u.send(b'y')\n"
               "print(*u.recv(99).decode().split())")
    words = node.run(["python3", "-c", program, address]).stdout.split()
    assert words[:2] == [node.address, "x"] and words[2] == node.address and words[4] == "y"


def test_the_internet_reaches_a_nodes_port(vpc, node):
    server = node.popen(["python3", "-m", "http.server", "30080"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/run")
    try:
        words = ["nsenter", f"--net={vpc.ready['state']}/ns/@internet.net", "curl", "-s", "-o", "/dev/null", "-m", "1",
                 f"http://{node.address}:30080/"]
        until(lambda: subprocess.run(words, check=False).returncode == 0)
    finally:
        server.kill()
        server.wait()


def test_an_instance_has_files_of_its_own(vpc, node):
    other = vpc.add_instance("files")
    for path in ("/run/aws-node", "/var/run/aws-node", "/opt/cni/bin", "/etc/cni/net.d", "/var/lib/cni", "/var/log/aws-routed-eni"):
        node.run(["sh", "-ec", f"mkdir -p {path}; echo mine > {path}/mark"])
        assert other.run(["cat", f"{path}/mark"], check=False).returncode != 0
        assert subprocess.run(["cat", f"{path}/mark"], check=False, capture_output=True).returncode != 0
    assert node.run(["cat", "/run/aws-node/mark"]).stdout == "mine\n"
    assert node.run(["stat", "-f", "-c", "%T", "/run"]).stdout.strip() == "tmpfs"
    node.run(["ip", "netns", "add", "pod1"])
    assert "pod1" in node.run(["ip", "netns"]).stdout and "pod1" not in other.run(["ip", "netns"]).stdout
    assert set(node.run(["ls", "/sys/class/net"]).stdout.split()) == {"lo", "ens5"}
    assert node.run(["ls", "/sys/fs/cgroup"]).stdout == subprocess.run(["ls", "/sys/fs/cgroup"], capture_output=True, text=True, check=True).stdout


def test_ec2_answers_inside_an_instance_and_knows_the_caller(vpc, node):
    vpc.counts(reset=True)
    assert node.run(["curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}",
                     vpc.ready["ec2_endpoint"] + "/?Action=DescribeSubnets&Version=2016-11-15"]).stdout == "401"
    assert vpc.counts()["callers"] == {node.name: {"DescribeSubnets": 1}}


def test_behind_a_nat_gateway_every_address_reaches_the_internet():
    with Simulator(nat_gateway=True) as vpc:
        node = vpc.add_instance("n1")
        answer = vpc.ec2().assign_private_ip_addresses(NetworkInterfaceId=node.enis()[0]["eni"], SecondaryPrivateIpAddressCount=1)
        pod = answer["AssignedPrivateIpAddresses"][0]["PrivateIpAddress"]
        own(node, pod)
        assert node.run(["curl", "-s", "-m", "2", "--interface", pod, f"http://{INTERNET}/"]).stdout == f"{pod}\n"
        assert vpc.drops()["total"] == 0
