"""One simulated VPC for the whole run, emptied between tests, and helpers."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from botocore.exceptions import ClientError  # noqa: E402

from simulator.client import Instance, Simulator  # noqa: E402
from simulator.patience import patient  # noqa: E402

_numbers = itertools.count(1)


def until(condition: Callable[[], Any], deadline: float = 20) -> Any:
    """The first true value of `condition`; fails after the deadline, which is for a machine that is not slow."""
    end = time.monotonic() + patient(deadline)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not so within {patient(deadline):.0f} s")
        time.sleep(0.005)  # pause between looks


def refused(code: str, call: Callable[..., Any], **arguments: Any) -> ClientError:
    """Checks that EC2 refuses the call with this code, and returns the error."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value


@pytest.fixture(scope="session")
def shared() -> Iterator[Simulator]:
    with Simulator(subnet=["a=192.168.64.0/19@a", "b=192.168.96.0/19@b", "small=192.168.128.0/26@a"]) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def shared6() -> Iterator[Simulator]:
    """The same with IPv6; the subnet `plain` has none."""
    with Simulator(family="dual", subnet=["a=192.168.64.0/19@a", "b=192.168.96.0/19@b"]) as simulator:
        simulator.ready["subnets"]["plain"] = simulator.ask("subnet.add", name="plain", cidr="192.168.128.0/24", no_ipv6=True)
        yield simulator


def emptied(shared: Simulator) -> Iterator[Simulator]:
    """Lends the simulated VPC to a test and removes what the test made."""
    yield shared
    shared.clear_faults()
    shared.throttle(False)
    shared.latency("*", 0)
    shared.ask("delay", attach=0, detach=0)
    for action in shared.ask("iam"):
        shared.allow(action)
    for instance in shared.instances():
        instance.remove()
    client = shared.ec2()
    for each in client.describe_network_interfaces()["NetworkInterfaces"]:
        client.delete_network_interface(NetworkInterfaceId=each["NetworkInterfaceId"])
    for subnet in shared.ready["subnets"]:
        shared.ask("subnet.free", subnet=subnet)
    shared.counts(reset=True)
    shared.drops(reset=True)
    shared.internet(reset=True)


@pytest.fixture
def vpc(shared: Simulator) -> Iterator[Simulator]:
    yield from emptied(shared)


@pytest.fixture
def vpc6(shared6: Simulator) -> Iterator[Simulator]:
    yield from emptied(shared6)


@pytest.fixture
def ec2(vpc: Simulator) -> Any:
    return vpc.ec2()


@pytest.fixture
def node(vpc: Simulator) -> Instance:
    return vpc.add_instance(f"n{next(_numbers)}")


class Account:
    """Shortcuts for what most tests do."""

    def __init__(self, simulator: Simulator, client: Any) -> None:
        self.simulator = simulator
        self.client = client

    def subnet(self, name: str) -> str:
        return self.simulator.ready["subnets"][name]

    def create(self, subnet: str = "a", **arguments: Any) -> dict[str, Any]:
        return self.client.create_network_interface(SubnetId=self.subnet(subnet), **arguments)["NetworkInterface"]

    def attach(self, node: Instance, index: int = 1, **arguments: Any) -> tuple[str, str]:
        """Attaches a new interface to the node; returns its id and the attachment's."""
        interface = self.create(**arguments)["NetworkInterfaceId"]
        answer = self.client.attach_network_interface(NetworkInterfaceId=interface, InstanceId=node.instance_id,
                                                      DeviceIndex=index)
        return interface, answer["AttachmentId"]

    def interface(self, interface_id: str) -> dict[str, Any]:
        return self.client.describe_network_interfaces(NetworkInterfaceIds=[interface_id])["NetworkInterfaces"][0]


@pytest.fixture
def account(vpc: Simulator, ec2: Any) -> Account:
    return Account(vpc, ec2)


@pytest.fixture
def node6(vpc6: Simulator) -> Instance:
    return vpc6.add_instance(f"n{next(_numbers)}")


@pytest.fixture
def account6(vpc6: Simulator) -> Account:
    return Account(vpc6, vpc6.ec2())
