"""A seeded chaos of restarts: SIGTERM or SIGKILL ends the agent while its EC2 calls are in flight or have just been
answered. The agent's next start gets stale or incomplete listings from EC2 or IMDS, or EC2 refuses to list.

Before and after each restart, three ledgers are compared for every running pod: the address it got, the ENI on which EC2
has that address, and the route of its packets in the kernel. They never differ, and no two pods have the same address.

    VPC_CNI_CHAOS_RESTARTS=5000 make e2e FILTER=test_chaos      # the total number of restarts; 500 by default
    VPC_CNI_CHAOS_SEED=7                                        # another sequence; without it always the same one

The agent's time runs faster, so that ENIs soon become old enough to be freed and an address returned a minute ago was
returned two seconds ago. The slow EC2 calls are scaled to the agent's faster time.
"""

from __future__ import annotations

import ipaddress
import os
import random
import re
import signal
import socket
import time
import xml.etree.ElementTree as ET
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from harness import paths
from harness.ipv6 import IPV6, init
from harness.node import Node
from harness.pod import Pod, PluginFailure
from harness.state import listing, source_map
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.patience import patient

SIMULATOR = {"family": "dual"}
RESTARTS = int(os.environ.get("VPC_CNI_CHAOS_RESTARTS", "500"))
SEED = int(os.environ.get("VPC_CNI_CHAOS_SEED", "1"))
RATE = 30
NAMESPACES = 14
# The maximum age of a listing, in the agent's time: docs/decisions/0055 assumes this of EC2.
STALE = 60
MODES = {
    "addresses": {"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"},
    "prefixes": {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"},
    "warm ENI": {"WARM_ENI_TARGET": "0"},
    "IPv6": IPV6,
}
CALLS6 = ["AssignIpv6Addresses", "DescribeNetworkInterfaces"]
CALLS = ["AssignPrivateIpAddresses", "UnassignPrivateIpAddresses", "CreateNetworkInterface", "AttachNetworkInterface",
         "DetachNetworkInterface", "DeleteNetworkInterface", "ModifyNetworkInterfaceAttribute", "DescribeNetworkInterfaces"]
THROTTLED = {"http": 503, "code": "RequestLimitExceeded", "message": "Request limit exceeded."}


@dataclass
class Chaos:
    """One node, its pods, and the operations on them."""

    vpc: Simulator
    node: Node
    dice: random.Random
    idle: list[str] = field(default_factory=list)
    pods: dict[str, Pod] = field(default_factory=dict)
    # The namespaces of pods whose ADD failed: a runtime repeats DEL until it succeeds.
    half: list[Pod] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    number: int = 0
    stale: str = ""
    stale_at: float = 0.0

    # MARK: what happens

    def run(self, restarts: int) -> Counter[str]:
        for name in (f"{self.node.name}-{index}" for index in range(NAMESPACES)):
            self.node.pod(name)
            self.idle.append(name)
        self.start()
        for _ in range(restarts):
            if self.dice.random() < 0.4:
                self.stale, self.stale_at = listing(self.vpc, self.node), self.now()
            self.disturb()
            self.come_and_go()
            self.compare("running")
            self.end()
            self.vpc.clear_faults(caller=self.node.name)
            self.mislead()
            self.start()
            self.compare("restarted")
            self.done["restarts"] += 1
        return self.done

    @property
    def calls(self) -> list[str]:
        return CALLS6 if self.node.family == 6 else CALLS

    def start(self) -> None:
        agent = self.node.agent
        assert agent.clock is not None
        # IMDS has one second to answer: on a busy machine a thirtieth of a second is too little for every start.
        agent.clock.rate = 1
        agent.start(wait=False)
        wait_for(self.serves, f"{self.node.name}: agent serves", 60)
        agent.clock.rate = RATE

    def now(self) -> float:
        """Seconds of the agent's time."""
        assert self.node.agent.clock is not None
        return self.node.agent.clock.elapsed()

    def serves(self) -> bool:
        """Whether the socket accepts connections: faster than a probe, and needs no process."""
        process = self.node.agent.process
        assert process is not None
        if process.poll() is not None:
            said = process.stderr.read().decode(errors="replace") if process.stderr else ""
            raise AssertionError(f"the agent ended with {process.returncode}: {said[-2000:]}{self.node.agent.log()[-3000:]}")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(f"/proc/{process.pid}/root{paths.AGENT_SOCKET.replace('/var/run/', '/run/')}")
            except OSError:
                return False
        return True

    def end(self) -> None:
        """Ends the agent, mostly while a call is in flight or just after a call was answered."""
        process = self.node.agent.process
        assert process is not None
        kind = signal.SIGTERM if self.dice.random() < 0.4 else signal.SIGKILL
        if self.dice.random() < 0.5:
            action = self.dice.choice(self.calls)
            self.vpc.fault(action, when="answered", kill=process.pid, times=1, caller=self.node.name)
        limit = time.monotonic() + self.dice.choice([0, 0.02, 0.1, 0.25])
        while time.monotonic() < limit and process.poll() is None:
            time.sleep(0.005)  # pause between looks
        if process.poll() is None:
            process.send_signal(kind)
        self.done["killed" if kind == signal.SIGKILL else "terminated"] += 1
        process.wait(timeout=patient(20))
        if process.stderr:
            process.stderr.close()
        self.node.agent.process = None

    def disturb(self) -> None:
        """Slows calls, loses answers and refuses calls while the agent runs. EC2 executes a slow call after the agent's death."""
        for _ in range(self.dice.randint(0, 3)):
            action = self.dice.choice(self.calls)
            match self.dice.randrange(4):
                case 0 | 1: how: dict[str, Any] = {"delay": self.dice.uniform(0.05, 0.6), "only_delay": True}
                case 2: how = {"when": "after", "drop": True}
                case _: how = dict(THROTTLED)
            self.vpc.fault(action, times=1, caller=self.node.name, **how)

    def come_and_go(self) -> None:
        jobs: list[Any] = []
        going = self.dice.sample(sorted(self.pods), min(len(self.pods), self.dice.randint(0, 5)))
        coming = self.dice.sample(self.idle, min(len(self.idle), self.dice.randint(0, 6)))
        if self.dice.random() < 0.1:
            going, coming = sorted(self.pods), []
        jobs += [(self.add, name) for name in coming] + [(self.delete, self.pods.pop(name)) for name in going]
        jobs += [(self.delete, pod) for pod in self.half]
        self.half = []
        for name in coming:
            self.idle.remove(name)
        with ThreadPoolExecutor(4) as workers:
            for result in [workers.submit(job, subject) for job, subject in jobs]:
                result.result()

    def add(self, name: str) -> None:
        self.number += 1
        pod = Pod(self.node.instance, name)
        try:
            pod.add()
            self.pods[name] = pod
            self.done["ADD"] += 1
        except PluginFailure:
            self.half.append(pod)
            self.done["refused ADD"] += 1

    def delete(self, pod: Pod) -> None:
        try:
            pod.delete()
            self.idle.append(pod.name)
            self.done["DEL"] += 1
        except PluginFailure:
            self.half.append(pod)

    # MARK: what the next start is told

    def mislead(self) -> None:
        """The next agent's first listing is stale, incomplete or unavailable; IMDS lacks something or does not answer."""
        caller = self.node.name
        match self.dice.randrange(6):
            case 0 if self.stale and self.now() - self.stale_at < STALE:
                self.done["stale listing"] += 1
                self.vpc.fault("DescribeNetworkInterfaces", times=self.dice.choice([1, 1, 2]), http=200, body=self.stale, caller=caller)
            case 1:
                self.done["incomplete listing"] += 1
                body = without_something(listing(self.vpc, self.node), self.dice)
                self.vpc.fault("DescribeNetworkInterfaces", times=self.dice.choice([1, 1, 2]), http=200, body=body, caller=caller)
            case 2:
                self.done["EC2 refuses to list"] += 1
                self.vpc.fault("DescribeNetworkInterfaces", times=self.dice.randint(1, 6), caller=caller, **THROTTLED)
                if self.dice.random() < 0.5:
                    self.done["incomplete IMDS"] += 1
                    self.mislead_imds()
            case 3:
                self.done["incomplete IMDS"] += 1
                self.mislead_imds()
            case _:
                pass

    def mislead_imds(self) -> None:
        tree = "imds:/latest/meta-data/network/interfaces/macs"
        if self.node.family == 6:
            mac = self.node.enis()[0]["mac"]
            self.vpc.fault(f"{tree}/{mac}/ipv6-prefix", times=1, http=404, body="no", caller=self.node.name)
            return
        enis = [eni for eni in self.node.enis() if eni["index"] > 0]
        if not enis:
            return
        eni = self.dice.choice(enis)
        if self.dice.random() < 0.5:
            macs = "\n".join(f"{each['mac']}/" for each in self.node.enis() if each["eni"] != eni["eni"])
            self.vpc.fault(f"{tree}/", times=1, http=200, body=macs, caller=self.node.name)
        elif eni["prefixes"]:
            left = "\n".join(eni["prefixes"][1:])
            self.vpc.fault(f"{tree}/{eni['mac']}/ipv4-prefix", times=1, http=200 if left else 404, body=left or "no", caller=self.node.name)
        else:
            left = "\n".join(eni["addresses"][:-1] or eni["addresses"])
            self.vpc.fault(f"{tree}/{eni['mac']}/local-ipv4s", times=1, http=200, body=left, caller=self.node.name)

    # MARK: the ledgers

    def compare(self, when: str) -> None:
        """Raises AssertionError with the differences. No pod starts or stops during the comparison."""
        pods = list(self.pods.values())
        have = Counter(pod.address for pod in pods)
        faults = [f"{address} is had {count} times" for address, count in have.items() if count > 1]
        enis = self.node.enis()
        routes = {route["dst"]: route["dev"] for route in self.node.ip(f"-{self.node.family}", "route", "show", "table", "20512")}
        elements, _, _ = source_map(self.node, self.node.family)
        led = sorted(elements, key=lambda entry: "/" in entry[0])  # the longest prefix first
        for pod in pods:
            owner = next((eni for eni in enis if has(eni, pod.address)), None)
            if owner is None:
                faults.append(f"{pod.name} has {pod.address}, and EC2 has it on no ENI of the node")
                continue
            if routes.get(pod.address) != pod.host_veth:
                faults.append(f"{pod.name}: {pod.address} is routed to {routes.get(pod.address)}, its veth is {pod.host_veth}")
            by = next((eni for cidr, eni in led if within(pod.address, cidr)), None)
            if by != (owner["eni"] if owner["index"] else None):
                faults.append(f"{pod.name}: {pod.address} is on {owner['eni']} (device {owner['index']}), the kernel leads it by {by}")
        self.done["pods compared"] += len(pods)
        assert not faults, (f"{self.node.name}, {when} {self.done['restarts']}, seed {SEED}: " + "; ".join(faults)
                            + "\n" + "\n".join(self.node.agent.log().splitlines()[-60:]))


def within(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def has(eni: dict[str, Any], address: str) -> bool:
    if address in eni["addresses"]:
        return address != eni["primary"]
    return any(within(address, prefix) for prefix in eni["prefixes6"] + eni["prefixes"])


def without_something(body: str, dice: random.Random) -> str:
    """The listing without one prefix, one secondary address, one ENI, or any ENI at all."""
    namespace = re.search(r'xmlns="([^"]+)"', body)
    ET.register_namespace("", namespace.group(1) if namespace else "")
    root = ET.fromstring(body)
    prefix = f"{{{namespace.group(1)}}}" if namespace else ""
    interfaces = root.find(f"{prefix}networkInterfaceSet")
    assert interfaces is not None
    kind = dice.randrange(4)
    if kind == 0:
        for item in list(interfaces):
            interfaces.remove(item)
    elif kind == 1:
        interfaces.remove(dice.choice(list(interfaces)))
    else:
        removable = []
        for item in interfaces:
            for name in ("ipv4PrefixSet", "privateIpAddressesSet", "ipv6PrefixSet"):
                sets = item.find(f"{prefix}{name}")
                for each in list(sets) if sets is not None else []:
                    if each.findtext(f"{prefix}primary") != "true":
                        removable.append((sets, each))
        if removable:
            sets, each = dice.choice(removable)
            sets.remove(each)
    return ET.tostring(root, encoding="unicode")


def test_nothing_is_lost_in_a_chaos_of_restarts(vpc: Simulator, make_node: Any) -> None:
    walks = [Chaos(vpc, make_node(f"c{index}", type="t3.small" if mode == "prefixes" else "m5.large", subnet="a", fast_clock=True,
                                  environment={**environment, "IP_COOLDOWN_PERIOD": "1", "AWS_VPC_K8S_CNI_LOGLEVEL": "INFO"}),
                   random.Random(f"{SEED} {mode}"))
             for index, (mode, environment) in enumerate(MODES.items())]
    for walk in walks:
        if walk.node.family == 6:
            init(walk.node)
    with ThreadPoolExecutor(len(walks)) as workers:
        for result in [workers.submit(walk.run, -(-RESTARTS // len(walks))) for walk in walks]:
            result.result()
    for walk in walks:
        print(walk.node.name, dict(walk.done))
        assert walk.done["ADD"] > RESTARTS / 5, "there was something to lose"
        assert walk.done["refused ADD"] < walk.done["ADD"] / 5, "pods start, whatever happens"
