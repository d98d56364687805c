"""A CIDR is added to the VPC and removed again while the node runs: SNAT for it follows, on every firewall."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness import firewall, kube_proxy
from harness.held_connection import HeldConnection
from harness.node import Node
from harness.pod import Pod
from harness.traffic import Flow, Place, Traffic, device_index
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET_ROUTER
from simulator.patience import patient

SIMULATOR = {"nat_gateway": True}
CIDR = "100.64.0.0/16"
BEYOND = "100.64.9.9"  # an address in it that none of our ENIs has: the VPC's router leads to that network


def with_pods(node: Node) -> list[Pod]:
    """Starts the agent; the pods are on its primary and on a secondary ENI."""
    node.agent.start()
    node.add_pods(5)  # a t3.small's primary ENI holds three pods
    return [next(pod for pod in node.pods if device_index(node, pod) == index) for index in (0, 1)]


@contextmanager
def beyond(vpc: Simulator) -> Iterator[None]:
    """A host has the address all the time, so only the packets show which source address pods use."""
    vpc.run_in("@internet", ["ip", "address", "add", f"{BEYOND}/32", "dev", "lo"], check=True)
    vpc.run_in("@fabric", ["ip", "route", "add", f"{BEYOND}/32", "via", INTERNET_ROUTER, "dev", "internet"], check=True)
    try:
        yield
    finally:
        vpc.run_in("@fabric", ["ip", "route", "del", f"{BEYOND}/32"], check=True)
        vpc.run_in("@internet", ["ip", "address", "del", f"{BEYOND}/32", "dev", "lo"], check=True)


def seen_as(pod: Pod) -> str:
    """The address that a server there sees for a new connection of the pod."""
    return pod.exec(["curl", "-sS", "-m", "5", f"http://{BEYOND}/ip"]).stdout.strip()


def written(node: Node) -> dict[str, list[str]]:
    """Everything in any firewall of the node, and its policy rules, without counters."""
    state = {}
    for backend in ("legacy", "nft"):
        save = node.instance.run([f"iptables-{backend}-save"], check=False).stdout
        state[backend] = sorted(line.split(" [")[0] for line in save.splitlines() if line[:1] in ("-", ":"))
    listed = node.instance.run(["nft", "-s", "-n", "list", "ruleset"]).stdout
    state["nftables"] = [line.strip() for line in listed.splitlines()]
    state["rules"] = node.instance.run(["ip", "rule"]).stdout.splitlines()
    return state


class Asking:
    """A pod opens one new TCP connection after the other, all the time: none may fail, whichever source address it has."""

    _PROGRAM = ("import select,socket,sys\nseen=set(); failed=[]; asked=0\n"
                "while not select.select([sys.stdin],[],[],0)[0]:\n"
                "    try:\n"
                "        with socket.create_connection((sys.argv[1],7),4) as c: seen.add(c.makefile().readline().split()[0])\n"
                "    except OSError as error: failed.append(str(error))\n"
                "    asked+=1\n"
                "    if asked==1: print('begun',flush=True)\n"
                "print(asked,','.join(sorted(seen)),failed[:3],sep=';')\n")

    def __init__(self, pod: Pod) -> None:
        self._process = pod.instance.popen(["nsenter", f"--net={pod.netns}", "python3", "-c", self._PROGRAM, BEYOND], stdin=-1, stdout=-1)
        assert self._process.stdout.readline() == b"begun\n"

    def end(self) -> tuple[int, set[str], str]:
        """The number of connections, the source addresses that the server saw, and the failures."""
        asked, seen, failed = self._process.communicate(input=b"", timeout=patient(30))[0].decode().strip().split(";")
        return int(asked), set(seen.split(",")), failed

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.mark.parametrize("form", ["legacy", "nft", "without-iptables"])
def test_a_cidr_comes_and_goes(vpc: Simulator, make_node: Callable[..., Node], form: str) -> None:
    """New connections to the CIDR leave with the pod's address within half a minute after it becomes part of the VPC, and
    with the node's address before and afterwards. Open connections continue as they began, and no connection that begins
    in between fails. At the end nothing differs from the beginning."""
    node = make_node(type="t3.small", fast_clock=True)
    if form == "without-iptables":
        firewall.hide_iptables(node)
    else:
        kube_proxy.hint(node, form)
    pods = with_pods(node)
    node.wait_quiet()
    held: list[HeldConnection] = []
    asking: list[Asking] = []
    vpc.drops(reset=True)

    def hold() -> list[str]:
        made = [HeldConnection(pod, BEYOND) for pod in pods]
        held.extend(made)
        return [each.seen_as for each in made]

    with beyond(vpc):
        try:
            before, translated, own = written(node), [node.instance.address] * 2, [pod.address for pod in pods]
            assert [seen_as(pod) for pod in pods] == hold() == translated
            asking += [Asking(pod) for pod in pods]

            vpc.ask("cidr.add", cidr=CIDR)
            since = node.agent.clock.elapsed()
            with node.hurry(5):  # IMDS then has a fifth of a second to answer
                wait_for(lambda: [seen_as(pod) for pod in pods] == own, "pods' own addresses", 20)
            assert node.agent.clock.elapsed() - since < 60, "half a minute, and what the looking took at 5 times its pace"
            grown = written(node)
            assert hold() == own and all(each.answers() for each in held)
            assert node.pod("late").add().exec(["curl", "-sS", "-m", "5", f"http://{BEYOND}/ip"]).stdout.strip() == node.pods[-1].address
            node.delete_pods([node.pods[-1]])

            ec2 = vpc.ec2()
            blocks = ec2.describe_vpcs(VpcIds=[vpc.ready["vpc_id"]])["Vpcs"][0]["CidrBlockAssociationSet"]
            ec2.disassociate_vpc_cidr_block(AssociationId=next(
                each["AssociationId"] for each in blocks
                if each["CidrBlock"] == CIDR and each["CidrBlockState"]["State"] == "associated"))
            with node.hurry(20):
                wait_for(lambda: [seen_as(pod) for pod in pods] == translated, "the node's address again", 20)
            assert hold() == translated and all(each.answers() for each in held)
            # The temporary rules that cover the change are removed a moment after packets take the new rules.
            wait_for(lambda: written(node) == before, "nothing differs from the beginning")
            assert grown != before
            for pod, each in zip(pods, asking):
                asked, seen, failed = each.end()
                assert failed == "[]" and seen == {pod.address, node.instance.address}, (asked, seen, failed)
        finally:
            for one in asking:
                one.stop()
            for each in held:
                each.close()
            if CIDR in vpc.ask("cidrs"):
                vpc.ask("cidr.remove", cidr=CIDR)
    said = [line["cidrs"] for line in firewall.lines(node, "VPC CIDRs changed")]
    assert len(said) == 2 and CIDR in said[0] and CIDR not in said[1], said
    assert not firewall.lines(node, "another program changed"), "our own changes are nobody's undoing"
    assert vpc.drops()["total"] == 0, vpc.drops()


def test_an_answer_without_cidrs_changes_nothing(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """IMDS shows no CIDRs, or rubbish, for a while: the rules stay, and the agent still sees a CIDR that is added later."""
    node = make_node(type="t3.small", fast_clock=True)
    pod = with_pods(node)[1]
    node.wait_quiet()
    before = written(node)
    path = "imds:/latest/meta-data/network/interfaces/macs/*/vpc-ipv4-cidr-blocks"
    with beyond(vpc):
        for body in ("\n", "no CIDR", "192.168.0.0/16\n10.0.0.0/99"):
            vpc.fault(path, body=body, http=200, times=-1)
            until = node.agent.clock.elapsed() + 90
            with node.hurry(20):
                wait_for(lambda: node.agent.clock.elapsed() > until, "three looks")
            assert written(node) == before, body
            vpc.clear_faults()
        assert seen_as(pod) == node.instance.address
        try:
            vpc.ask("cidr.add", cidr="100.66.0.0/16")
            with node.hurry(20):
                wait_for(lambda: any("100.66.0.0/16" in line for line in firewall.rules(node, "nft")), "seen later", 20)
        finally:
            vpc.ask("cidr.remove", cidr="100.66.0.0/16")


def test_translation_begins_and_ends(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """An agent restarts with the other value of EXTERNALSNAT, with rules in iptables-nft: no connection fails."""
    node = make_node(type="t3.small")
    kube_proxy.hint(node, "nft")
    pods = with_pods(node)
    node.wait_quiet()
    own = dict(node.agent.environment)
    with beyond(vpc):
        asking = [Asking(pod) for pod in pods]
        try:
            for external in ("true", "false") * 3:
                node.agent.stop()
                node.agent.environment = {**own, "AWS_VPC_K8S_CNI_EXTERNALSNAT": external}
                node.agent.start()
                assert [seen_as(pod) for pod in pods] == [
                    pod.address if external == "true" else node.instance.address for pod in pods]
            for pod, each in zip(pods, asking):
                asked, seen, failed = each.end()
                assert failed == "[]" and seen == {pod.address, node.instance.address}, (asked, seen, failed)
        finally:
            for each in asking:
                each.stop()
    assert vpc.drops()["total"] == 0, vpc.drops()


def test_nodes_of_a_new_cidr_are_reached(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """The packets carry the pod's own address by its own ENI, there and back. The CIDR stays: no other test of this VPC uses it."""
    node = make_node(type="t3.small", fast_clock=True)
    pod = with_pods(node)[1]
    vpc.ask("cidr.add", cidr="100.67.0.0/16")
    vpc.ask("subnet.add", name="late", cidr="100.67.7.0/24")
    other = make_node("n2", type="t3.small", subnet="late")
    with node.hurry():
        wait_for(lambda: any("100.67.0.0/16" in line for line in firewall.rules(node, "nft")), "the new CIDR in the rules", 20)
    traffic = Traffic(vpc)
    with traffic.servers([Place.of(other)]), traffic.observer():
        ask = Flow("pod to the new CIDR", Place.of(pod), other.instance.address, pod.address, legs=frozenset(
            {("n1", 1, pod.address, other.instance.address), ("n2", 0, other.instance.address, pod.address)}))
        assert not traffic.run([ask])
