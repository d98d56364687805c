"""ENIConfig: the subnet and the security groups of new ENIs, chosen by the node's annotation, its label or `default`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.pod import PluginFailure
from harness.waiting import wait_for
from kubeapi.client import KubeAPI, agent_pod, cni_node, eni_config, node
from simulator.client import Simulator

# The nodes are in subnet a; pods get addresses from c or d; g is in another zone.
SIMULATOR = {"subnet": ["a=192.168.0.0/20@a", "c=192.168.16.0/20@a", "d=192.168.32.0/20@a", "g=192.168.48.0/20@b"]}
CUSTOM = {"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "true", "WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"}
ZONE = {"ENI_CONFIG_LABEL_DEF": "topology.kubernetes.io/zone"}
INTROSPECTION = "http://127.0.0.1:61679"


@pytest.fixture(scope="module")
def ids(vpc: Simulator) -> dict[str, str]:
    return {each["name"]: each["subnet_id"] for each in vpc.ask("subnets")}


@pytest.fixture(scope="module")
def groups(vpc: Simulator) -> Iterator[list[str]]:
    ec2 = vpc.ec2()
    vpc_id = ec2.describe_subnets()["Subnets"][0]["VpcId"]
    yield [ec2.create_security_group(GroupName=f"pods-{number}", Description="pods", VpcId=vpc_id)["GroupId"]
           for number in range(3)]


def join(api: KubeAPI, make_node: Callable[..., Node], name: str, environment: dict[str, str] | None = None,
         **options: Any) -> Node:
    made = make_node(name, type="m5.large", subnet="a",
                     environment={**api.environment(name), **CUSTOM, **(environment or {})}, **options)
    api.install_account(made.instance)
    return made


def interfaces(vpc: Simulator, made: Node) -> list[dict[str, Any]]:
    """The secondary ENIs as EC2 describes them."""
    found = vpc.ec2().describe_network_interfaces(
        Filters=[{"Name": "attachment.instance-id", "Values": [made.instance.instance_id]}])["NetworkInterfaces"]
    return [each for each in found if each["Attachment"]["DeviceIndex"] != 0]


def places(vpc: Simulator, made: Node) -> set[str]:
    return {each["SubnetId"] for each in interfaces(vpc, made)}


def groups_of(vpc: Simulator, made: Node) -> list[list[str]]:
    return [sorted(group["GroupId"] for group in each["Groups"]) for each in interfaces(vpc, made)]


def config_name(made: Node) -> Any:
    return json.loads(made.instance.run(["curl", "-s", f"{INTROSPECTION}/v1/eni-configs"]).stdout)


@pytest.mark.parametrize(("name", "labels", "annotations", "environment"), [
    ("external", {"vpc.amazonaws.com/externalEniConfig": "wanted", "k8s.amazonaws.com/eniConfig": "x"},
     {"k8s.amazonaws.com/eniConfig": "y"}, {}),
    ("annotated", {"k8s.amazonaws.com/eniConfig": "x"}, {"k8s.amazonaws.com/eniConfig": "wanted"}, {}),
    ("labelled", {"topology.kubernetes.io/zone": "wanted"}, {}, ZONE),
])
def test_config_is_the_one_that_the_node_names(
        vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node], ids: dict[str, str], groups: list[str],
        name: str, labels: dict[str, str], annotations: dict[str, str], environment: dict[str, str]) -> None:
    """Pods get addresses of the ENIConfig's subnet, on ENIs with its security groups, and no address of the primary ENI."""
    api.add(node(name, labels=labels, annotations=annotations), eni_config("wanted", ids["c"], groups[:2]),
            eni_config("default", ids["d"]))
    made = join(api, make_node, name, environment)
    vpc.drops(reset=True)
    made.agent.start()
    pods = made.add_pods(3)
    assert all(each.address.startswith("192.168.") and 16 <= int(each.address.split(".")[2]) < 32 for each in pods)
    assert places(vpc, made) == {ids["c"]}
    assert all(each == sorted(groups[:2]) for each in groups_of(vpc, made))
    assert made.shape()[0] == (0, 0), "nothing on the primary ENI"
    assert config_name(made) == "wanted"
    assert vpc.drops()["total"] == 0
    asked = {each["query"].get("fieldSelector") for each in api.requests("list", "eniconfigs")}
    assert asked == {"metadata.name=wanted"}


def test_default_config_without_groups_has_the_primarys(
        vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node], ids: dict[str, str]) -> None:
    api.add(node("plain"), eni_config("default", ids["c"]))
    plain = join(api, make_node, "plain")
    plain.agent.start()
    plain.add_pods(2)
    primary = next(each for each in vpc.ec2().describe_network_interfaces(Filters=[
        {"Name": "attachment.instance-id", "Values": [plain.instance.instance_id]}])["NetworkInterfaces"]
        if each["Attachment"]["DeviceIndex"] == 0)
    assert groups_of(vpc, plain) == [sorted(group["GroupId"] for group in primary["Groups"])]


def test_changes_are_followed(
        vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node], ids: dict[str, str], groups: list[str]) -> None:
    """A changed subnet applies to future ENIs, changed groups to all ENIs, and the node may name another ENIConfig."""
    api.add(node("moving"), eni_config("default", ids["c"], groups[:1]), eni_config("second", ids["c"], groups[2:]))
    moving = join(api, make_node, "moving", {"WARM_IP_TARGET": "0", "WARM_ENI_TARGET": "0", "MINIMUM_IP_TARGET": "1"},
                  fast_clock=True)
    moving.agent.start()
    moving.add_pods(2, "first")
    assert places(vpc, moving) == {ids["c"]}
    api.patch("eniconfigs", "default", {"spec": {"subnet": ids["d"], "securityGroups": groups[1:2]}})
    with moving.hurry(20):
        wait_for(lambda: groups_of(vpc, moving) == [groups[1:2]], "the groups of the ENI there is", 60, 0.2)
    moving.add_pods(9, "second")
    assert places(vpc, moving) == {ids["c"], ids["d"]}
    assert all(each == groups[1:2] for each in groups_of(vpc, moving))
    api.patch("nodes", "moving", {"metadata": {"annotations": {"k8s.amazonaws.com/eniConfig": "second"}}})
    with moving.hurry(20):
        wait_for(lambda: all(each == groups[2:] for each in groups_of(vpc, moving)), "the other config's groups", 60, 0.2)
    assert config_name(moving) == "second"


def test_fresh_node_waits_for_its_config_and_not_for_ever(
        vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node], ids: dict[str, str]) -> None:
    """The agent waits 30 s for the API server, then goes on without: pods are told why, and start once it is back."""
    api.add(node("lost"), agent_pod("lost"), eni_config("default", ids["c"]))
    lost = join(api, make_node, "lost", fast_clock=True)
    api.down()
    lost.agent.start(wait=False)
    began = lost.agent.clock.elapsed()
    with lost.hurry(5):
        wait_for(lost.agent.ready_or_dead, "ready without it", 30)
        assert 25 < lost.agent.clock.elapsed() - began < 60
    with pytest.raises(PluginFailure) as failure:
        lost.pod("too-early").add()
    assert "cannot create an ENI: " in failure.value.error["msg"], failure.value.error
    api.up()
    with lost.hurry(10):
        wait_for(lambda: "using ENIConfig for new ENIs" in lost.agent.log(), "the config", 30)
    lost.add_pods(1)
    assert places(vpc, lost) == {ids["c"]}


def test_restart_without_api_server_serves_pods_at_once(
        vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node], ids: dict[str, str]) -> None:
    api.add(node("again"), eni_config("default", ids["c"]))
    again = join(api, make_node, "again")
    again.agent.start()
    again.add_pods(2)
    again.agent.stop()
    api.down()
    again.agent.start()
    assert again.agent.seconds_to_ready < 15
    more = again.add_pods(2, "more")
    assert all(16 <= int(each.address.split(".")[2]) < 32 for each in more)


@pytest.mark.parametrize(("name", "config", "said"), [
    ("zoned", lambda ids: {"subnet": ids["g"]}, "is in zone us-"),
    ("absent", lambda ids: {"subnet": "subnet-0123456789abcdef0"}, "does not exist"),
    ("nosubnet", lambda ids: {"securityGroups": []}, "spec.subnet is missing"),
    ("nogroups", lambda ids: {"subnet": ids["c"], "securityGroups": "sg-1"}, "spec.securityGroups is a string"),
])
def test_wrong_configs_are_named_and_the_old_one_holds(
        vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node], ids: dict[str, str], name: str,
        config: Callable[[dict[str, str]], dict[str, Any]], said: str) -> None:
    wrong = {"kind": "ENIConfig", "metadata": {"name": "default"}, "spec": config(ids)}
    api.add(node(name), agent_pod(name), wrong)
    made = join(api, make_node, name)
    made.agent.start()
    with pytest.raises(PluginFailure) as failure:
        made.pod("early").add()
    assert "ENIConfig default" in failure.value.error["msg"] and said in failure.value.error["msg"], failure.value.error
    wait_for(lambda: [each for each in api.events() if each["reason"] == "NoENIConfig"], "the event")
    api.add(eni_config("default", ids["c"]))
    wait_for(lambda: "using ENIConfig for new ENIs" in made.agent.log(), "the config")
    made.add_pods(1)
    lines = made.agent.log().count("cannot use the ENIConfig")
    api.add(wrong)
    wait_for(lambda: made.agent.log().count("cannot use the ENIConfig") > lines, "the second complaint")
    made.add_pods(9, "late")
    assert places(vpc, made) == {ids["c"]}


def test_deleted_config_holds_on(vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node], ids: dict[str, str]) -> None:
    api.add(node("kept"), eni_config("default", ids["d"]))
    kept = join(api, make_node, "kept")
    kept.agent.start()
    kept.add_pods(1)
    api.delete("eniconfigs", "default")
    wait_for(lambda: "was deleted" in kept.agent.log(), "the deletion")
    kept.add_pods(9, "more")
    assert places(vpc, kept) == {ids["d"]}


def test_custom_networking_is_announced_beside_pod_groups(
        api: KubeAPI, make_node: Callable[..., Node], ids: dict[str, str]) -> None:
    annotations = {"k8s.amazonaws.com/eniConfig": "zone-a"}
    api.add(node("both", annotations=annotations), eni_config("zone-a", ids["c"]),
            cni_node("both", [{"name": "CustomNetworking", "value": "old"}]))
    both = join(api, make_node, "both", {"ENABLE_POD_ENI": "true"})
    both.agent.start()
    wait_for(lambda: api.get("cninodes", "both")["spec"]["features"] == [
        {"name": "SecurityGroupsForPods"}, {"name": "CustomNetworking", "value": "zone-a"}], "the features")


def test_a_users_own_address_on_the_primary_stays(
        vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node], ids: dict[str, str]) -> None:
    """The agent neither removes from the host nor gives back to EC2 a VIP that somebody put on the primary ENI."""
    api.add(node("vip"), eni_config("default", ids["c"]))
    made = join(api, make_node, "vip", fast_clock=True)
    primary = made.enis()[0]
    vpc.ec2().assign_private_ip_addresses(NetworkInterfaceId=primary["eni"], SecondaryPrivateIpAddressCount=1)
    vip = next(address for address in made.enis()[0]["addresses"] if address != primary["primary"])
    made.instance.run(["ip", "address", "add", f"{vip}/32", "dev", "ens5"])
    made.agent.start()
    made.add_pods(1)
    clock = made.agent.clock
    assert clock is not None
    with made.hurry(60):
        until = clock.elapsed() + 300
        wait_for(lambda: clock.elapsed() > until, "five minutes", 60, pause=0.25)
    made.agent.stop()
    made.agent.start()
    made.add_pods(1, prefix="later")
    made.wait_quiet()
    assert vip in made.enis()[0]["addresses"], "given back to EC2"
    assert vip in made.instance.run(["ip", "address", "show", "dev", "ens5"]).stdout, "taken off the host"
    assert vip not in {pod.address for pod in made.pods}


def test_switched_on_under_running_pods(
        vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node], ids: dict[str, str]) -> None:
    """Pods keep the addresses of the old subnet, and the log and the status report them; new pods use the
    ENIConfig's subnet at once, and the old ENI is released with its last pod."""
    api.add(node("switched"), eni_config("default", ids["c"]))
    made = join(api, make_node, "switched", {"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "false", "IP_COOLDOWN_PERIOD": "1"},
                fast_clock=True)
    made.agent.start()
    old = made.add_pods(12, prefix="old")
    made.wait_quiet()
    made.agent.stop()
    made.agent.environment |= {"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "true"}
    made.agent.start()
    wait_for(lambda: ids["c"] in places(vpc, made), "an ENI in the ENIConfig's subnet, before any new pod", 30)
    new = made.add_pods(6, prefix="new")
    assert all(16 <= int(pod.address.split(".")[2]) < 32 for pod in new), [pod.address for pod in new]
    assert "pods run outside the ENIConfig's subnet" in made.agent.log()
    shown = made.instance.run([str(paths.BINARY), "status"]).stdout
    assert "12 pods run outside ENIConfig's subnet" in shown and "old subnet" in shown, shown
    for pod in old:
        pod.check()
    made.delete_pods(old)
    with made.hurry(60):
        wait_for(lambda: places(vpc, made) == {ids["c"]}, "the old ENI is gone", 60)
    assert "outside ENIConfig" not in made.instance.run([str(paths.BINARY), "status"]).stdout
