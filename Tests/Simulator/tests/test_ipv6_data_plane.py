"""The data plane of IPv6: the router of a subnet, packets between instances and to the internet, and what a VPC drops."""

from __future__ import annotations

import ipaddress
import json
import subprocess

import pytest

from conftest import Account, until
from simulator.router6 import advertisement, link_local, router_mac

INTERNET = "2001:db8:ffff::10"
ROUTER = "fe80:ec2::1"
SUBNET_A, SUBNET_B = "2001:db8:1234:1a00", "2001:db8:1234:1a01"


def ping(node, source: str | None, destination: str) -> bool:
    words = ["ping", "-6", "-c", "1", "-W", "0.4", *(["-I", source] if source else []), destination]
    return node.run(words, check=False).returncode == 0


def reaches(node, source: str | None, destination: str) -> bool:
    return until(lambda: ping(node, source, destination))


def own(node, address: str, device: str = "ens5") -> None:
    node.run(["ip", "addr", "add", f"{address}/128", "dev", device, "nodad"])


def default_routes(node) -> list[dict]:
    return json.loads(node.run(["ip", "-j", "-6", "route", "show", "default"]).stdout)


def assign(account: Account, interface: str, **wanted: int) -> str:
    """The first new address or prefix."""
    answer = account.client.assign_ipv6_addresses(NetworkInterfaceId=interface, **wanted)
    return (answer["AssignedIpv6Addresses"] + answer["AssignedIpv6Prefixes"])[0]


def test_a_node_has_its_address_and_takes_its_routes_from_the_router(node6):
    shown = node6.run(["ip", "-6", "-o", "addr", "show", "dev", "ens5", "scope", "global"]).stdout
    assert f"inet6 {node6.address6}/128" in shown and node6.address6 == f"{SUBNET_A}::4"
    [route] = default_routes(node6)
    mac = node6.enis()[0]["mac"]
    assert route["protocol"] == "ra" and route["dev"] == "ens5"
    assert route["gateway"] == str(ipaddress.IPv6Address(link_local(bytes.fromhex(router_mac(mac).replace(":", "")))))
    assert f"{SUBNET_A}::/64 dev ens5 proto kernel" in node6.run(["ip", "-6", "route"]).stdout
    # no autoconfiguration: the only other address is the link's own
    assert len(json.loads(node6.run(["ip", "-j", "-6", "addr", "show", "dev", "ens5"]).stdout)[0]["addr_info"]) == 2
    assert reaches(node6, None, f"{ROUTER}%ens5")


def test_the_router_answers_at_its_fixed_address_on_every_interface(account6: Account, node6):
    """What a route `via fe80:ec2::1` in an interface's own table needs."""
    interface, _ = account6.attach(node6, Ipv6AddressCount=1)
    address = account6.interface(interface)["Ipv6Addresses"][0]["Ipv6Address"]
    shown = node6.run(["ip", "-o", "addr", "show", "ens6"]).stdout
    assert "inet" not in shown, "the interface appears bare"
    node6.run(["sh", "-ec", "ip link set ens6 up mtu 9001; sysctl -qw net.ipv6.conf.ens6.accept_ra=0;"
               f"ip addr add {address}/128 dev ens6 nodad; ip -6 rule add from {address} lookup 6 priority 1536;"
               f"ip -6 route add {ROUTER} dev ens6 table 6; ip -6 route add default via {ROUTER} dev ens6 table 6"])
    other = account6.simulator.add_instance("across", subnet="b")
    assert reaches(node6, address, other.address6) and reaches(other, None, address)
    neighbour = node6.run(["ip", "-6", "neigh", "show", ROUTER, "dev", "ens6"]).stdout
    assert router_mac(account6.interface(interface)["MacAddress"]) in neighbour
    assert account6.simulator.drops()["total"] == 0


def test_addresses_and_prefixes_are_delivered_to_the_interface_that_has_them(account6: Account, vpc6, node6):
    other = vpc6.add_instance("across", subnet="b")
    primary = node6.enis()[0]["eni"]
    address, prefix = assign(account6, primary, Ipv6AddressCount=1), assign(account6, primary, Ipv6PrefixCount=1)
    assert prefix == f"{SUBNET_A}:1::/80"
    inside = [f"{SUBNET_A}:1::", f"{SUBNET_A}:1::21", f"{SUBNET_A}:1:ffff:ffff:ffff"]
    for each in (address, *inside):
        own(node6, each)
        assert reaches(node6, each, other.address6) and reaches(other, None, each)
    account6.client.unassign_ipv6_addresses(NetworkInterfaceId=primary, Ipv6Addresses=[address], Ipv6Prefixes=[prefix])
    for each in (address, inside[1]):
        assert not ping(other, None, each)
    assert vpc6.drops()["total"] == 0 and vpc6.drops()["unassigned_destination"] == 2
    flows = {(each["source"], each["destination"]) for each in vpc6.drops()["flows"]["unassigned_destination"]}
    assert flows == {(other.address6, address), (other.address6, inside[1])}
    vpc6.drops(reset=True)
    assert vpc6.drops()["flows"]["unassigned_destination"] == []


def test_a_detached_interface_takes_its_addresses_along(account6: Account, vpc6, node6):
    interface, attachment = account6.attach(node6, Ipv6PrefixCount=1)
    other = vpc6.add_instance("across", subnet="b")
    account6.client.detach_network_interface(AttachmentId=attachment)
    assert not ping(other, None, f"{SUBNET_A}:1::5")
    assert vpc6.drops()["unassigned_destination"] == 1


def test_neighbours_of_one_subnet_find_each_other(account6: Account, vpc6, node6):
    """A subnet's /64 is on-link. The router answers for what another interface has, prefixes included, and for nothing else."""
    other = vpc6.add_instance("next")
    prefix = assign(account6, other.enis()[0]["eni"], Ipv6PrefixCount=1)
    inside = prefix.replace("::/80", "::7")
    own(other, inside)
    for each in (other.address6, inside):
        assert reaches(node6, None, each)
        assert router_mac(node6.enis()[0]["mac"]) in node6.run(["ip", "-6", "neigh", "show", each]).stdout
    nobody = f"{SUBNET_A}::99"
    assert not ping(node6, None, nobody)
    assert "lladdr" not in node6.run(["ip", "-6", "neigh", "show", nobody]).stdout
    assert vpc6.drops()["total"] == vpc6.drops()["unassigned_destination"] == 0


def test_the_router_does_not_answer_for_an_interfaces_own_addresses(account6: Account, node6):
    """Or the node would find its address a duplicate."""
    address = assign(account6, node6.enis()[0]["eni"], Ipv6AddressCount=1)
    node6.run(["ip", "addr", "add", f"{address}/128", "dev", "ens5"])

    def flags() -> dict:
        shown = json.loads(node6.run(["ip", "-j", "-6", "addr", "show", "dev", "ens5"]).stdout)[0]["addr_info"]
        return next(each for each in shown if each["local"] == address)

    until(lambda: "tentative" not in flags())
    assert "dadfailed" not in flags()


def test_a_source_that_the_interface_does_not_own_is_dropped_and_counted(vpc6, node6):
    other = vpc6.add_instance("target", subnet="b")
    strangers = [f"{SUBNET_A}::99", f"{SUBNET_A}:1::5", "2001:db8:77::1", "fd00:1::1"]
    for each in strangers:
        own(node6, each)
        assert not ping(node6, each, other.address6)
    drops = vpc6.drops()
    assert drops["unowned_source"] == drops["total"] == 4
    assert drops["enis"] == [{"instance": node6.name, "eni": node6.enis()[0]["eni"], "device": "ens5", "packets": 4}]
    flows = {(each["source"], each["destination"]): each["packets"] for each in drops["flows"]["unowned_source"]}
    assert flows == {(each, other.address6): 1 for each in strangers}
    vpc6.drops(reset=True)
    assert vpc6.drops()["total"] == 0 and vpc6.drops()["flows"]["unowned_source"] == []
    assert not ping(node6, strangers[0], INTERNET)
    assert vpc6.drops()["unowned_source"] == 1 and vpc6.internet()["sources"] == {}


def test_an_address_leaves_by_its_own_interface_only(account6: Account, vpc6, node6):
    account6.attach(node6, Ipv6AddressCount=1)
    address = f"{SUBNET_A}::5"
    own(node6, address, "lo")
    other = vpc6.add_instance("target", subnet="b")
    assert not ping(node6, address, other.address6)
    assert [each["device"] for each in vpc6.drops()["enis"]] == ["ens5"]


def test_the_source_check_can_be_switched_off(account6: Account, vpc6, node6):
    own(node6, "2001:db8:77::1")
    other = vpc6.add_instance("target", subnet="b")
    account6.client.modify_network_interface_attribute(NetworkInterfaceId=node6.enis()[0]["eni"], SourceDestCheck={"Value": False})
    assert not ping(node6, "2001:db8:77::1", other.address6)
    assert vpc6.drops()["total"] == 0
    assert not ping(node6, "2001:db8:77::1", INTERNET)
    drops = vpc6.drops()
    assert drops["no_public_address"] == drops["total"] == 1, "an internet gateway passes on the VPC's addresses only"
    assert drops["flows"]["no_public_address"][0]["source"] == "2001:db8:77::1"


def test_the_internet_sees_a_pods_own_address(account6: Account, vpc6, node6):
    prefix = assign(account6, node6.enis()[0]["eni"], Ipv6PrefixCount=1)
    pod = prefix.replace("::/80", "::9")
    own(node6, pod, "lo")  # not a source of the node's own connections
    for words, seen in (([], node6.address6), (["--interface", pod], pod)):
        until(lambda: node6.run(["curl", "-s", "-m", "2", *words, f"http://[{INTERNET}]/ip"], check=False).stdout == f"{seen}\n")
    assert reaches(node6, pod, vpc6.ready["internet6"])
    sources = until(lambda: (seen := vpc6.internet()["sources"]) and "icmp" in seen[pod] and seen)  # the kernel answers first
    assert sources[pod]["http"] >= 1 and sources[node6.address6]["http"] >= 1
    assert node6.run(["curl", "-s", "-m", "2", "http://198.51.100.10/"]).stdout == f"{node6.address}\n"
    assert vpc6.drops()["total"] == 0
    inward = ["ping", "-6", "-c", "1", "-W", "1", pod]
    assert until(lambda: vpc6.run_in("@internet", inward, check=False, capture_output=True).returncode == 0)


def test_echo_over_tcp_and_udp(node6):
    program = ("import socket,sys\n"
               "t=socket.create_connection((sys.argv[1],7),3); f=t.makefile('rwb'); print(f.readline().split()[0].decode())\n"
               "f.write(b'x\\n'); f.flush(); print(f.readline().decode().strip())\n"
               "u=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM); u.settimeout(3); u.connect((sys.argv[1],7)); u.send(b'y')\n"
               "print(*u.recv(99).decode().split())")
    assert reaches(node6, None, INTERNET)
    words = node6.run(["python3", "-c", program, INTERNET]).stdout.split()
    assert words[:2] == [node6.address6, "x"] and words[2] == node6.address6 and words[4] == "y"


def test_a_router_that_forwards_loses_its_default_route_unless_it_insists(vpc6, node6):
    """Forwarding makes the kernel ignore advertisements where accept_ra is 1, and the route runs out. With 2 it stays."""
    other = vpc6.add_instance("insists")
    other.run(["sysctl", "-qw", "net.ipv6.conf.ens5.accept_ra=2"])
    try:
        vpc6.ask("router.lifetime", seconds=3)
        until(lambda: all(route["expires"] <= 3 for node in (node6, other) for route in default_routes(node)))
        for each in (node6, other):
            each.run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])
        until(lambda: default_routes(node6) == [])
        until(lambda: len(default_routes(other)) == 1)
        vpc6.ask("router.lifetime", seconds=1800)
        until(lambda: [each for each in default_routes(other) if each["expires"] > 1000])
        assert default_routes(node6) == []
        vpc6.ask("router.lifetime", seconds=0)
        until(lambda: default_routes(other) == [])
    finally:
        vpc6.ask("router.lifetime", seconds=1800)


def test_the_router_advertises_itself_on_every_interface(account6: Account, node6):
    """As in a VPC: a node that takes advertisements on a second interface gets a second default route."""
    account6.attach(node6)
    node6.run(["ip", "link", "set", "ens6", "up"])
    until(lambda: {route["dev"] for route in default_routes(node6)} >= {"ens5", "ens6"} or "nexthops" in str(default_routes(node6)))


def test_a_subnet_without_ipv6_has_no_advertisements(vpc6):
    node = vpc6.add_instance("plain", subnet="plain")
    assert node.address6 is None and default_routes(node) == []
    vpc6.ask("router.lifetime", seconds=1800)
    assert default_routes(node) == []
    bare = vpc6.add_instance("bare", no_ipv6=True)
    assert bare.address6 is None


def test_the_bytes_of_an_advertisement():
    mac = bytes.fromhex("0a0000000001")
    frame = advertisement(mac, link_local(mac), ipaddress.IPv6Address(f"{SUBNET_A}::").packed[:8], 1800)
    assert frame[:14].hex() == "333300000001" "0a0000000001" "86dd"
    assert frame[14:22].hex() == "6000000000383aff"
    assert frame[22:38].hex() == "fe80000000000000080000fffe000001" and frame[38:54].hex() == "ff02" + "0" * 27 + "1"
    assert frame[54:56].hex() == "8600" and frame[58:70].hex() == "ffc0" "0708" + "00" * 8
    assert frame[70:78].hex() == "0101" "0a0000000001"
    assert frame[78:].hex() == "03044080" "ffffffff" "ffffffff" "00000000" "20010db812341a00" + "00" * 8
    words = frame[22:54] + len(frame[54:]).to_bytes(4, "big") + (58).to_bytes(4, "big") + frame[54:]
    total = sum(int.from_bytes(words[at:at + 2], "big") for at in range(0, len(words), 2))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
