"""How the agent uses the cluster's API server, and what it does without one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.pod import PluginFailure
from harness.waiting import wait_for
from kubeapi.client import ACCOUNT, TOKEN, KubeAPI, agent_pod, cni_node, node, pod
from simulator.client import Simulator

SIMULATOR = {"subnet": ["a=192.168.0.0/20@a", "tiny=192.168.16.0/28@a"]}


def join(api: KubeAPI, make_node: Callable[..., Node], name: str, environment: dict[str, str] | None = None,
         **options: Any) -> Node:
    """A node whose agent finds the API server as in a pod: by service account and variables. The agent is not started."""
    made = make_node(name, environment={**api.environment(name), **(environment or {})}, **{"subnet": "a", **options})
    api.install_account(made.instance)
    return made


def total(made: Node) -> int:
    return sum(singles for singles, _ in made.shape())


def test_pod_limit_is_the_nodes_and_follows_it(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    api.add(node("limited", pods=11))
    limited = join(api, make_node, "limited", {"WARM_IP_TARGET": "20"}, type="m5.xlarge")
    limited.agent.start()
    limited.wait_quiet()
    assert total(limited) == 11
    metrics = limited.instance.run(["curl", "-s", "http://127.0.0.1:61678/metrics"]).stdout
    assert 'awscni_ipamd_startup_duration_seconds_count{success="true",with_api_server="true",failure_reason=""} 1' in metrics
    api.patch("nodes", "limited", {"status": {"capacity": {"pods": "16"}}})
    wait_for(lambda: total(limited) == 16, "the new limit")
    api.patch("nodes", "limited", {"status": {"capacity": {"pods": "plenty"}}})
    wait_for(lambda: "status.capacity.pods is" in limited.agent.log(), "the bad value in the log")
    api.patch("nodes", "limited", {"status": {"capacity": {"pods": "18"}}})
    wait_for(lambda: total(limited) == 18, "the limit after the bad value")


def test_only_own_objects_are_asked_for(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """Requests are by name or by node, never for the whole cluster; one list each, then a watch, all on one connection."""
    api.add(node("own"), node("other"), agent_pod("own"))
    own = join(api, make_node, "own", {"ANNOTATE_POD_IP": "true", "VPC_CNI_VERSION": "v9"})
    own.agent.start()
    wait_for(lambda: api.watches() == 2, "both watches")
    seen = api.requests()
    assert {each["query"].get("fieldSelector") for each in seen} == {"metadata.name=own", "spec.nodeName=own"}
    assert sorted((each["verb"], each["plural"]) for each in seen) == [
        ("list", "nodes"), ("list", "pods"), ("watch", "nodes"), ("watch", "pods")]
    assert {each["headers"]["user-agent"] for each in seen} == {"aws-k8s-agent-v9"}
    assert {each["version"] for each in seen} == {"2"}
    assert all("PartialObjectMetadata" in each["headers"]["accept"] for each in seen if each["plural"] == "pods")
    assert TOKEN not in own.agent.log()


def test_cordoned_node_neither_grows_nor_shrinks(vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node]) -> None:
    api.add(node("corded", unschedulable=True))
    corded = join(api, make_node, "corded", {"WARM_IP_TARGET": "2", "MINIMUM_IP_TARGET": "2"}, type="m5.large")
    vpc.counts(reset=True)
    corded.agent.start()
    assert total(corded) == 0
    with pytest.raises(PluginFailure) as failure:
        corded.pod("early").add()
    assert "node is cordoned" in failure.value.error["msg"], failure.value.error
    assert "AssignPrivateIpAddresses" not in corded.calls()
    api.patch("nodes", "corded", {"spec": {"taints": []}})
    wait_for(lambda: "node uncordoned" in corded.agent.log(), "the end of the cordon")
    corded.pod("later").add()


def test_cordon_is_overridden(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    api.add(node("managed", unschedulable=True))
    managed = join(api, make_node, "managed", {"AWS_MANAGE_ENIS_NON_SCHEDULABLE": "true"})
    managed.agent.start()
    managed.add_pods(2)


def test_pods_are_annotated_and_cleared(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    api.add(node("noted"), *[pod(f"noted-pod-{number}", "noted") for number in range(6)], pod("late", "noted"))
    noted = join(api, make_node, "noted", {"ANNOTATE_POD_IP": "true"})
    noted.agent.start()
    pods = noted.add_pods(6)
    for each in pods:
        wait_for(lambda each=each: api.annotation(each.name) == each.address, f"annotation of {each.name}")
    # This comes before the next change: once that change is handled, the same watch has reported this one.
    api.delete("pods", pods[3].name)
    api.patch("pods", pods[1].name, {"metadata": {"annotations": {"vpc.amazonaws.com/pod-ips": "10.9.9.9"}}})
    wait_for(lambda: api.annotation(pods[1].name) == pods[1].address, "the address again")
    # A pod that shows another address by then keeps it; a deleted pod costs no request.
    api.ask("fault", verb="patch", name=pods[2].name, status=409, reason="Conflict", times=2)
    noted.delete_pods(pods[:4])
    wait_for(lambda: api.annotation(pods[0].name) == "", "the annotation cleared")
    wait_for(lambda: api.annotation(pods[2].name) == "", "cleared after conflicts")
    assert api.annotation(pods[4].name) == pods[4].address
    assert [each for each in api.requests("patch") if each["name"] == pods[3].name and '""' in each["body"]] == []


def test_annotation_is_tried_again_though_nothing_else_happens(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """The last event on a node is a refused write: no later pod event triggers the next try."""
    api.add(node("still"), pod("still-pod-0", "still"))
    still = join(api, make_node, "still", {"ANNOTATE_POD_IP": "true"})
    still.agent.start()
    only = still.add_pods(1)[0]
    wait_for(lambda: api.annotation(only.name) == only.address, "the annotation")
    # The refusal arrives after everything that the DEL triggers is done.
    api.fault(verb="patch", name=only.name, status=409, reason="Conflict", delay=1.0, times=2)
    still.delete_pods([only])
    wait_for(lambda: api.annotation(only.name) == "", "cleared after conflicts", 30)


def test_pod_that_cannot_be_annotated_holds_up_no_other(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """One pod's writes fail so often that its next try is a minute away; another pod's write happens at once."""
    api.add(node("apart"), pod("apart-refused-0", "apart"), pod("apart-fine-0", "apart"))
    apart = join(api, make_node, "apart", {"ANNOTATE_POD_IP": "true"}, fast_clock=True)
    api.fault(verb="patch", name="apart-refused-0", status=500, times=-1)
    apart.agent.start()
    apart.add_pods(1, "refused")
    with apart.hurry(20):
        wait_for(lambda: len(api.requests("patch")) >= 7, "seven failures: the next write is 60 s away", 30)
    fine = apart.add_pods(1, "fine")[0]
    wait_for(lambda: api.annotation(fine.name) == fine.address, "the other pod's annotation", 20)
    assert [each["name"] for each in api.requests("patch")][7:] == [fine.name]


def test_annotations_are_made_good_after_outages(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """Covers pods that started without an API server, and pods of an agent that was killed before it wrote."""
    api.add(node("late"), *[pod(f"late-pod-{number}", "late") for number in range(3)])
    late = join(api, make_node, "late", {"ANNOTATE_POD_IP": "true"})
    api.down()
    late.agent.start()
    pods = late.add_pods(3)
    late.agent.kill()
    late.agent.start()
    api.up()
    for each in pods:
        wait_for(lambda each=each: api.annotation(each.name) == each.address, f"annotation of {each.name}", 40)


def test_missing_permission_is_an_event_once(vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node]) -> None:
    api.add(node("poor"), agent_pod("poor"))
    poor = join(api, make_node, "poor", {"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"}, type="m5.large")
    for action in ("AssignPrivateIpAddresses", "CreateNetworkInterface"):
        vpc.deny(action)
    try:
        poor.agent.start()
        for number in range(3):
            with pytest.raises(PluginFailure):
                poor.pod(f"poor-{number}").add()
        wait_for(lambda: len(api.events()) >= 2, "events")
    finally:
        for action in ("AssignPrivateIpAddresses", "CreateNetworkInterface"):
            vpc.allow(action)
    events = api.events()
    assert sorted(each["action"] for each in events) == ["ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface"]
    for event in events:
        assert event["reason"] == "MissingIAMPermissions" and event["type"] == "Warning"
        assert event["reportingController"] == "aws-node" and event["metadata"]["namespace"] == "kube-system"
        assert event["regarding"] == {"apiVersion": "v1", "kind": "Pod", "name": "aws-node-poor", "namespace": "kube-system",
                                      "uid": api.get("pods", "aws-node-poor", "kube-system")["metadata"]["uid"]}


def test_cause_without_an_address_is_an_event(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    api.add(node("full"), agent_pod("full"))
    full = join(api, make_node, "full", {"VPC_CNI_ADD_TIMEOUT": "2"}, type="t3.medium", subnet="tiny")
    full.agent.start()
    full.wait_quiet()
    failed = 0
    for number in range(14):
        try:
            full.pod(f"full-{number}").add()
        except PluginFailure:
            failed += 1
    assert failed >= 2
    event = wait_for(lambda: next((each for each in api.events() if each["reason"] == "SubnetFull"), None), "the event")
    assert "is full" in event["note"] and event["action"] == "AssignAddress"
    assert len([each for each in api.events() if each["reason"] == "SubnetFull"]) == 1


def test_features_of_the_cninode(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """The controller creates the CNINode some time after the node; the agent keeps features that others added."""
    api.add(node("trunk"))
    trunk = join(api, make_node, "trunk", {"ENABLE_POD_ENI": "true"})
    trunk.agent.start()
    wait_for(lambda: api.requests("get", "cninodes"), "the first look")
    api.ask("fault", verb="patch", plural="cninodes", status=409, reason="Conflict")
    api.add(cni_node("trunk", [{"name": "Other", "value": "x"}]))
    wait_for(lambda: len(api.get("cninodes", "trunk")["spec"]["features"]) == 2, "the feature", 30)
    assert api.get("cninodes", "trunk")["spec"]["features"] == [
        {"name": "Other", "value": "x"}, {"name": "SecurityGroupsForPods"}]
    patch = api.requests("patch", "cninodes")[-1]
    assert "resourceVersion" in json.loads(patch["body"])["metadata"]


def test_start_without_api_server_is_healed(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """The agent is ready without waiting, and pods start; when the API server appears, its pod limit applies."""
    api.add(node("alone", pods=13))
    alone = join(api, make_node, "alone", {"WARM_IP_TARGET": "20"}, type="m5.xlarge")
    api.down()
    alone.agent.start()
    assert alone.agent.seconds_to_ready < 10
    alone.add_pods(2)
    wait_for(lambda: total(alone) == 22, "the warm target without a limit")
    api.up()
    wait_for(lambda: "max pods of the node" in alone.agent.log(), "healed", 60)


def test_api_server_that_goes_breaks_nothing(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """Two minutes of the agent's time without API server; pods start and stop, and a cordon from then applies afterwards."""
    api.add(node("calm"))
    calm = join(api, make_node, "calm", fast_clock=True, type="m5.large")
    calm.agent.start()
    wait_for(lambda: api.watches() == 1, "the watch")
    api.down()
    with calm.hurry(30):
        began = calm.agent.clock.elapsed()
        wait_for(lambda: calm.agent.clock.elapsed() - began > 120, "two minutes", 30)
    pods = calm.add_pods(3)
    calm.delete_pods(pods)
    api.patch("nodes", "calm", {"spec": {"taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}})
    api.ask("compact")
    api.up()
    with calm.hurry(10):
        wait_for(lambda: "node cordoned" in calm.agent.log(), "the cordon", 30)
    log = calm.agent.log()
    assert log.count("cannot read from the API server") == 1, "one line for one outage"
    assert "API server reachable again" in log


def looked(made: Node, check: str) -> dict[str, Any]:
    """doctor's answer for one check, run as in the agent's container."""
    done = made.instance.run([str(paths.BINARY), "doctor", "--json", f"--check={check}"], check=False)
    return json.loads(done.stdout)["checks"][0]


def shown(made: Node) -> str:
    return made.instance.run([str(paths.BINARY), "status"]).stdout


def test_missing_rbac_is_named_by_doctor_and_status(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """The agent still serves, with the instance type's limit, so nobody would notice."""
    api.add(node("barred", pods=29))
    api.fault(plural="nodes", status=403, reason="Forbidden", times=-1)
    barred = join(api, make_node, "barred", type="m5.large")
    barred.agent.start()
    assert barred.agent.healthy(), "readiness does not depend on the API server"
    answer = wait_for(lambda: (found := looked(barred, "api-server"))["verdict"] == "broken" and found, "doctor names it")
    assert "403" in answer["found"] and "missing permission: list and watch nodes" in answer["found"], answer
    assert "list and watch nodes" in answer["remedy"] and "clusterrole aws-node" in answer["remedy"]
    assert looked(barred, "pod-limit")["verdict"] == "could not look"
    text = shown(barred)
    assert f"cluster    {api.url}\n" in text and "missing permission: list and watch nodes" in text, text
    assert '"permission":"list and watch nodes"' in barred.agent.log()

    # Allowed again: the agent would notice within two minutes; a restart makes that shorter here.
    api.ask("clear_faults")
    barred.agent.stop()
    barred.agent.start()
    wait_for(lambda: looked(barred, "api-server")["verdict"] == "ok", "doctor sees it mended")
    assert f"cluster    {api.url}, node barred: 29 pods\n" in shown(barred)
    limit = looked(barred, "pod-limit")
    assert limit["verdict"] == "ok" and "kubelet 29" in limit["found"], limit
    api.patch("nodes", "barred", {"status": {"capacity": {"pods": "234"}}})
    wait_for(lambda: looked(barred, "pod-limit")["verdict"] == "warning", "more pods than the ENIs carry")


def test_unreachable_api_server_is_named_and_each_new_cause(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """The agent keeps using what it knew and reports that it is old; a server that comes back and refuses is a new cause."""
    api.add(node("apart"))
    apart = join(api, make_node, "apart", type="m5.large")
    apart.agent.start()
    wait_for(lambda: looked(apart, "api-server")["verdict"] == "ok", "the first look")
    api.down()
    answer = wait_for(lambda: (found := looked(apart, "api-server"))["verdict"] == "broken" and found, "unreachable", 30)
    assert "node apart: " in answer["found"] and "missing permission" not in answer["found"], answer
    assert ", node apart: " in shown(apart) and "cannot use node apart: " in shown(apart)
    api.fault(plural="nodes", status=403, reason="Forbidden", times=-1)
    api.up()
    wait_for(lambda: "missing permission: list and watch nodes" in looked(apart, "api-server")["found"], "the new cause", 60)
    assert apart.agent.log().count("cannot read from the API server") == 2


@pytest.mark.parametrize(("environment", "words"), [
    ({"KUBECONFIG": "/run/none"}, "/run/none"), ({"MY_NODE_NAME": ""}, "MY_NODE_NAME is not set"),
])
def test_configuration_faults_are_named(api: KubeAPI, make_node: Callable[..., Node], environment: dict[str, str], words: str) -> None:
    made = join(api, make_node, "astray", environment, type="m5.large")
    made.agent.start()
    answer = wait_for(lambda: (found := looked(made, "api-server"))["verdict"] == "broken" and found, "doctor names it")
    assert words in answer["found"] and words in shown(made), answer


def test_expired_token_is_read_again(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    api.add(node("renewed", pods=20))
    renewed = join(api, make_node, "renewed", {"WARM_IP_TARGET": "30"}, type="m5.xlarge")
    renewed.agent.start()
    wait_for(lambda: api.watches() == 1, "the watch")
    api.ask("tokens", accept=["another"])
    api.set_token(renewed.instance, "another")
    api.ask("end_watches")
    api.patch("nodes", "renewed", {"status": {"capacity": {"pods": "22"}}})
    wait_for(lambda: total(renewed) == 22, "the limit by the new token", 30)
    assert "another" not in renewed.agent.log()


@pytest.mark.parametrize(("name", "text", "said"), [
    ("broken", "clusters: [", "line 2"), ("nocluster", "current-context: x\ncontexts: []\n", "contexts[x]"),
    ("plugin", "current-context: x\ncontexts:\n- name: x\n  context: {cluster: c}\n", "clusters: is not a list"),
])
def test_broken_kubeconfig_is_named_and_pods_start(make_node: Callable[..., Node], name: str, text: str, said: str) -> None:
    made = make_node(name, subnet="a", environment={"KUBECONFIG": "/run/kubeconfig", "MY_NODE_NAME": name})
    made.instance.run(["sh", "-c", "cat > /run/kubeconfig"], input=text)
    made.agent.start()
    log = made.agent.log()
    assert "/run/kubeconfig" in log and said in log
    made.add_pods(1)


def test_a_kubeconfig_in_flow_form_is_read(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    api.add(node("flowing", pods=17))
    made = join(api, make_node, "flowing", {"KUBECONFIG": "/run/kubeconfig", "KUBERNETES_SERVICE_HOST": ""}, type="m5.large")
    text = (f"clusters: [{{name: c, cluster: {{server: '{api.url}', certificate-authority: {ACCOUNT}/ca.crt}}}}]\n"
            f"users: [&user {{name: u, user: {{tokenFile: {ACCOUNT}/token}}}}]\n"
            "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n")
    made.instance.run(["sh", "-c", "cat > /run/kubeconfig"], input=text)
    made.agent.start()
    wait_for(lambda: f"cluster    {api.url}, node flowing: 17 pods\n" in shown(made), "the node is read")


def test_wrong_authority_is_named(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    api.add(node("wary"))
    wary = join(api, make_node, "wary")
    api.install_account(wary.instance, ca="other-ca.crt")
    wary.agent.start()
    wait_for(lambda: "certificate" in wary.agent.log(), "the reason")
    wary.add_pods(1)
    assert api.requests() == []


@pytest.mark.parametrize("fault", [{"cut": True}, {"garbage": True}, {"hang": True}, {"expire": True}, {"status": 500, "times": 3}])
def test_bad_watches_are_survived(api: KubeAPI, make_node: Callable[..., Node], fault: dict[str, Any]) -> None:
    name = "odd-" + "-".join(fault)
    api.add(node(name, pods=11))
    api.fault(verb="watch", plural="nodes", **fault)
    odd = join(api, make_node, name, {"WARM_IP_TARGET": "20"}, type="m5.xlarge", fast_clock=True)
    odd.agent.start()
    wait_for(lambda: api.requests("watch", "nodes"), "a watch")
    api.patch("nodes", name, {"status": {"capacity": {"pods": "12"}}})
    with odd.hurry(20 if "hang" in fault else 1):
        wait_for(lambda: total(odd) == 12, "the new limit", 40)


def test_thousand_changes_a_second(api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """A thousand node and pod changes a second for ten seconds, then for five seconds more with two minutes without API
    server in the middle: memory and processor time stay bounded, pods start, and the last change counts."""
    api.add(node("busy", pods=58), pod("shaky", "busy"), *[pod(f"busy-pod-{number}", "busy") for number in range(3)])
    busy = join(api, make_node, "busy", {"ANNOTATE_POD_IP": "true"}, type="m5.large", fast_clock=True)
    busy.agent.start()
    wait_for(lambda: api.watches() == 2, "the watches")
    busy.wait_quiet()
    before, spent, made = busy.agent.memory(), 0.0, 0
    for seconds, outage in ((10, False), (2.5, True), (2.5, False)):
        cpu = _cpu(busy)
        api.ask("flood", plural="nodes", name="busy", rate=500, seconds=seconds)
        api.ask("flood", plural="pods", name="shaky", rate=500, seconds=seconds)
        made += api.ask("flooded")
        spent += _cpu(busy) - cpu
        if outage:
            api.down()
            began = busy.agent.clock.elapsed()
            with busy.hurry(30):
                wait_for(lambda: busy.agent.clock.elapsed() - began > 120, "two minutes", 30)
            api.up()
            wait_for(lambda: api.watches() == 2, "the watches again", 60)
    pods = busy.add_pods(3)
    api.patch("nodes", "busy", {"status": {"capacity": {"pods": "57"}}})
    wait_for(lambda: '"57"' in busy.agent.log(), "the last change", 30)
    for each in pods:
        wait_for(lambda each=each: api.annotation(each.name) == each.address, f"annotation of {each.name}", 30)
    after = busy.agent.memory()
    print(f"{made} changes: RssAnon {before['RssAnon']} -> {after['RssAnon']} kB, CPU {spent:.2f} s of 15 s")
    assert made > 7500
    assert after["RssAnon"] - before["RssAnon"] < 3000, (before, after)
    assert spent < 9.0


def test_connection_that_leads_nowhere_is_given_up(vpc: Simulator, api: KubeAPI, make_node: Callable[..., Node]) -> None:
    """Packets of one connection are lost, as behind a load balancer that forgot it; others pass. About 50 s of real time."""
    api.add(node("cut-off", pods=11))
    cut_off = join(api, make_node, "cut-off", {"WARM_IP_TARGET": "20"}, type="m5.xlarge")
    cut_off.agent.start()
    cut_off.wait_quiet()
    wait_for(lambda: api.watches() == 1 and len(_connections(vpc, api.port)) == 1, "one connection for everything")
    ports = _connections(vpc, api.port)
    rules = f"""table ip cut {{
      chain from_node {{ type filter hook prerouting priority raw; tcp sport {ports[0]} drop; }}
      chain to_node {{ type filter hook output priority raw; tcp dport {ports[0]} drop; }}
    }}
    """
    vpc.run_in("@fabric", ["nft", "-f", "-"], input=rules.encode(), check=True)
    try:
        api.patch("nodes", "cut-off", {"status": {"capacity": {"pods": "12"}}})
        wait_for(lambda: total(cut_off) == 12, "the change by another connection", 120, 0.5)
    finally:
        vpc.run_in("@fabric", ["nft", "delete", "table", "ip", "cut"], check=True)


def _connections(vpc: Simulator, port: int) -> list[int]:
    """The ports from which a server of the fabric has established connections, after SNAT."""
    table = vpc.run_in("@fabric", ["cat", "/proc/self/net/tcp"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in table.splitlines()[1:]]
    return [int(row[2].split(":")[1], 16) for row in rows if row[3] == "01" and int(row[1].split(":")[1], 16) == port]


def _cpu(made: Node) -> float:
    """Seconds of processor time that the agent has used."""
    with open(f"/proc/{made.agent.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100
