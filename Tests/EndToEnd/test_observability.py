"""The visible output of an agent: metrics, introspection, logs."""

from __future__ import annotations

import gzip
import json
import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import paths
from harness.node import Node
from harness.waiting import wait_for
from simulator.client import Simulator

METRICS = "http://127.0.0.1:61678/metrics"
INTROSPECTION = "http://127.0.0.1:61679"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def get(node: Node, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs curl inside the node, for at most 5 s."""
    return node.instance.run(["curl", "-sS", "-m", "5", *options, url], check=False)


def scrape(node: Node) -> Samples:
    """Every sample by name and labels, parsed by Prometheus's own parser. The port opens just after the socket."""
    text = wait_for(lambda: get(node, METRICS).stdout, "metrics")
    written = {line.split("{")[0].split(" ")[0] for line in text.splitlines()}
    # The parser appends the ending that OpenMetrics requires to every counter.
    name = lambda each: each if each in written else each.removesuffix("_total")  # noqa: E731
    return {(name(sample.name), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def labelled(samples: Samples, name: str, label: str) -> dict[str, float]:
    return {dict(labels)[label]: number for (each, labels), number in samples.items() if each == name}


def look(node: Node, path: str, *options: str) -> Any:
    return json.loads(wait_for(lambda: get(node, f"{INTROSPECTION}{path}", *options).stdout, f"introspection of {path}"))


def idle(node: Node) -> bool:
    return all(number == 0 for number in labelled(scrape(node), "awscni_ipamd_action_inprogress", "fn").values())


def test_metrics_are_what_happened(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("metrics", type="m5.large", subnet="a", environment={"VPC_CNI_VERSION": "v9.9"})
    vpc.counts(reset=True)
    node.agent.start()
    node.add_pods(12)
    node.delete_pods(node.pods[:2])
    node.wait_quiet()  # the agent asks for a warm ENI one second after the pod that caused the shortage
    wait_for(lambda: idle(node), "the pool has nothing to do")
    samples, counts, enis = scrape(node), vpc.counts()["actions"], node.enis()

    assert value(samples, "awscni_assigned_ip_addresses") == 10
    assert value(samples, "awscni_cooling_ip_addresses") == 2
    assert value(samples, "awscni_add_ip_req_count") == 12
    assert value(samples, "awscni_del_ip_req_count", reason="PodDeleted") == 2
    assert value(samples, "awscni_add_wait_seconds_count", success="true") == 12
    assert value(samples, "awscni_no_available_ip_addresses") == 0
    assert value(samples, "awscni_waiting_adds") == 0
    assert value(samples, "awscni_eni_allocated") == len(enis)
    assert value(samples, "awscni_eni_max") == 3 and value(samples, "awscni_ip_max") == 27
    perENI = labelled(samples, "awscni_assigned_ip_per_eni", "eni")
    assert set(perENI) == {eni["eni"] for eni in enis} and sum(perENI.values()) == 10
    perCIDR = labelled(samples, "awscni_assigned_ip_per_cidr", "cidr")
    assert {cidr for cidr, number in perCIDR.items() if number} == {f"{pod.address}/32" for pod in node.pods}
    assert value(samples, "awscni_total_ip_addresses") == len(perCIDR)

    ec2 = {action: row for action, row in counts.items() if ":" not in action}
    assert labelled(samples, "awscni_ec2api_req_count", "fn") == {action: row["calls"] for action, row in ec2.items()}
    latency = {dict(labels)["api"]: number for (name, labels), number in samples.items()
               if name == "awscni_aws_api_latency_ms_count" and dict(labels)["status"] == "200"}
    # This is not a call: the agent waits once for each attached ENI.
    assert latency.pop("waitForENIAndIPsAttached") == ec2["AttachNetworkInterface"]["successful"]
    assert latency == {action: row["successful"] for action, row in ec2.items()}
    quantiles = [number for (name, labels), number in samples.items()
                 if name == "awscni_aws_api_latency_ms" and ("api", "CreateNetworkInterface") in labels]
    assert len(quantiles) == 3 and all(number > 0 for number in quantiles), "0.5, 0.9 and 0.99"
    assert value(samples, "awscni_build_info", version="v9.9", goversion="") == 1
    assert value(samples, "awscni_connmark_reconcile_total", result="success") == 1
    assert value(samples, "awscni_connmark_reconcile_total", result="error") == 0
    assert sum(labelled(samples, "awscni_connmark_backend", "backend").values()) == 1
    assert value(samples, "awscni_ipamd_startup_duration_seconds_count", success="true", with_api_server="false",
                 failure_reason="") == 1
    assert value(samples, "process_resident_memory_bytes") > 1_000_000
    assert not any(name.startswith("go_") for name, _ in samples)


def test_trouble_can_be_seen(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("trouble", type="m5.large", subnet="a", environment={"WARM_ENI_TARGET": "0"})
    vpc.fault("AssignPrivateIpAddresses", http=503, code="RequestLimitExceeded", times=2)
    vpc.counts(reset=True)
    node.agent.start()
    node.add_pods(4)
    counts = vpc.counts()["actions"]
    throttled = {action: row["errors"]["RequestLimitExceeded"] for action, row in counts.items()
                 if "RequestLimitExceeded" in row["errors"]}
    assert throttled and labelled(scrape(node), "awscni_ec2api_throttled_count", "fn") == throttled
    vpc.deny("AssignPrivateIpAddresses")
    vpc.deny("CreateNetworkInterface")
    try:
        pods = [node.pod(f"denied-{number}") for number in range(20)]
        with ThreadPoolExecutor(20) as workers:
            failed = [not done for done in workers.map(_try_to_add, pods)]
        samples = scrape(node)
        assert sum(failed) > 0
        assert value(samples, "awscni_growth_blocked", cause="missing_permission") == 1
        assert value(samples, "awscni_no_available_ip_addresses") == sum(failed)
        assert sum(labelled(samples, "awscni_add_failed_count", "cause").values()) == sum(failed)
        errors = set(labelled(samples, "awscni_aws_api_error_count", "error"))
        assert errors == {"RequestLimitExceeded", "UnauthorizedOperation"}
    finally:
        vpc.allow("AssignPrivateIpAddresses")
        vpc.allow("CreateNetworkInterface")


def _try_to_add(pod: Any) -> bool:
    try:
        pod.add()
    except RuntimeError:
        return False
    return True


def test_series_go_with_their_eni(make_node: Callable[..., Node]) -> None:
    """An ENI's metric series disappear when the pool gives the ENI back, which it does with an idle ENI after a minute."""
    node = make_node("leaving", type="m5.large", subnet="a", environment={"IP_COOLDOWN_PERIOD": "0"}, fast_clock=True)
    node.agent.start()
    node.add_pods(1)
    wait_for(lambda: len(node.enis()) == 2 and idle(node), "the warm ENI")
    second = next(eni for eni in node.enis() if eni["index"] == 1)["eni"]
    seen = scrape(node)
    assert second in labelled(seen, "awscni_assigned_ip_per_eni", "eni")
    assert second in look(node, "/v1/enis")["0"]["ENIs"]
    node.delete_pods()
    node.wait_in_agent_time(lambda: len(node.enis()) == 1 and idle(node), "the second ENI goes", deadline=180)
    samples = scrape(node)
    assert second not in labelled(samples, "awscni_assigned_ip_per_eni", "eni")
    assert second not in json.dumps(look(node, "/v1/enis"))
    gone = set(labelled(seen, "awscni_assigned_ip_per_cidr", "cidr")) - set(labelled(samples, "awscni_assigned_ip_per_cidr", "cidr"))
    assert len(gone) == 9 and value(samples, "awscni_total_ip_addresses") == 9


def test_introspection(make_node: Callable[..., Node]) -> None:
    node = make_node("look", type="m5.large", subnet="a", environment={"WARM_IP_TARGET": "3"})
    node.agent.start()
    pods = node.add_pods(5)
    node.delete_pods([pods[0]])
    card = look(node, "/v1/enis")["0"]
    assert card["AssignedIPs"] == 4
    assert set(card["ENIs"]) == {eni["eni"] for eni in node.enis()}
    found = {address["Address"]: address for eni in card["ENIs"].values()
             for cidr in eni["AvailableIPv4Cidrs"].values() for address in cidr["IPAddresses"].values()}
    for pod in pods[1:]:
        entry = found[pod.address]
        assert entry["IPAMMetadata"] == {"k8sPodNamespace": "default", "k8sPodName": pod.name, "interfacesCount": 1}
        assert entry["IPAMKey"] == {"networkName": "aws-cni", "containerID": "", "ifName": ""}
        assert entry["AssignedTime"].startswith("2") and entry["UnassignedTime"] == "0001-01-01T00:00:00Z"
    assert found[pods[0].address]["UnassignedTime"].startswith("2"), "in cooldown"
    listed = look(node, "/v1/pods")
    assert {name: entry["IP"] for name, entry in listed.items()} == {f"{pod.name}_default_": pod.address for pod in pods[1:]}
    whole = json.dumps([card, listed])
    assert not any(pod.container in whole or '"eth0"' in whole for pod in pods), "enough to forge a DEL"
    assert look(node, "/v1/ipamd-env-settings")["WARM_IP_TARGET"] == 3
    assert look(node, "/v1/networkutils-env-settings")["AWS_VPC_K8S_CNI_CONNMARK"] == 128
    assert "/v1/pods" in look(node, "/nothing")["AvailableCommands"]
    status = ["-o", "/dev/null", "-w", "%{http_code}"]
    assert get(node, f"{INTROSPECTION}/v1/eni-configs", *status).stdout == "404"
    assert get(node, f"{INTROSPECTION}/v1/enis", "-X", "POST", *status).stdout == "405"
    elsewhere = get(node, f"http://{node.instance.address}:61679/", *status)
    assert elsewhere.returncode == 7, "introspection is for the node alone"
    assert get(node, f"http://{node.instance.address}:61678/metrics", *status).stdout == "200"


def test_introspection_on_a_unix_socket(make_node: Callable[..., Node]) -> None:
    socket = "/run/introspection.sock"
    node = make_node("unix", type="m5.large", subnet="a", environment={"INTROSPECTION_BIND_ADDRESS": f"unix:{socket}"})
    node.agent.start()
    assert look(node, "/", "--unix-socket", socket)["AvailableCommands"]
    assert get(node, INTROSPECTION).returncode == 7
    node.agent.kill()
    node.agent.start()
    assert look(node, "/v1/pods", "--unix-socket", socket) == {}, "a socket left by a dead agent is replaced"
    node.agent.stop()
    assert node.instance.run(["test", "-e", socket], check=False).returncode == 1


def test_switched_off(make_node: Callable[..., Node]) -> None:
    node = make_node("off", type="m5.large", subnet="a",
                     environment={"DISABLE_METRICS": "true", "DISABLE_INTROSPECTION": "true"})
    node.agent.start()
    node.add_pods(1)
    listening = node.instance.run(["ss", "-Hltn"]).stdout
    assert "6167" not in listening, listening


def test_a_busy_port_stops_nobody(make_node: Callable[..., Node]) -> None:
    node = make_node("busy", type="m5.large", subnet="a")
    squatter = node.instance.popen(["python3", "-m", "http.server", "--bind", "0.0.0.0", "61678"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: "61678" in node.instance.run(["ss", "-Hltn"]).stdout, "the squatter listens")
        node.agent.start()
        node.add_pods(2)
        wait_for(lambda: "cannot listen" in node.agent.log(), "the agent says so")
    finally:
        squatter.kill()
        squatter.wait()
    wait_for(lambda: "awscni_" in get(node, METRICS).stdout, "metrics come when the port is free", deadline=60)
    lines = [json.loads(line) for line in node.agent.log().splitlines()]
    assert sum(line["msg"] == "cannot listen; will retry" for line in lines) == 1


def test_an_unwritable_log_ends_nobody(make_node: Callable[..., Node]) -> None:
    node = make_node("nolog", type="m5.large", subnet="a", environment={"AWS_VPC_K8S_CNI_LOG_FILE": "/proc/none/x.log"})
    node.agent.start()
    process = node.agent.process
    assert process is not None and process.stderr is not None
    first = process.stderr.readline().decode()
    assert first == "cannot write the log file /proc/none/x.log: no such file or directory; logging to standard error\n"
    assert json.loads(process.stderr.readline())["level"]


def test_logs_are_put_aside_and_compressed(make_node: Callable[..., Node]) -> None:
    """Many plugins write to a full log at once: no line is lost, and the agent compresses it once."""
    node = make_node("logs", type="m5.large", subnet="a")
    folder = "/var/log/aws-routed-eni"
    node.instance.run(["truncate", "-s", "100M", paths.PLUGIN_LOG])
    calls = [node.pod(f"gone-{number}", namespace=uuid.uuid4().hex) for number in range(40)]
    # strace watches the first call, which rotates the log: the plugin syncs nothing and starts no process for it.
    node.instance.run(["strace", "-f", "-o", "/run/strace", "-e", "trace=fsync,fdatasync,sync,syncfs,sync_file_range,"
                       "fork,vfork,clone,clone3,renameat2,rename", paths.PLUGIN],
                      env=calls[0].environment("DEL"), input=json.dumps(calls[0].configuration()))
    seen = [line.split(maxsplit=1)[1].split("(")[0] for line in _read(node, "/run/strace").splitlines()]
    assert [call for call in seen if not call.startswith("+++")] == ["rename"], seen
    with ThreadPoolExecutor(20) as workers:
        list(workers.map(lambda pod: pod.delete(), calls[1:]))  # DEL without an agent writes one line each
    put_aside = [name for name in _names(node, folder) if name.startswith("plugin-")]
    assert len(put_aside) == 1, put_aside
    node.agent.start()
    wait_for(lambda: [name for name in _names(node, folder) if name.startswith("plugin-")] == [put_aside[0] + ".gz"],
             "it is compressed", deadline=120)
    packed = node.instance.run(["cat", f"{folder}/{put_aside[0]}.gz"], text=False).stdout
    text = gzip.decompress(packed).decode().lstrip("\0") + _read(node, paths.PLUGIN_LOG)
    assert len(packed) < 1 << 20
    lines = [line for line in map(json.loads, text.splitlines()) if line["msg"] in ("done", "failed")]
    assert sorted(line["pod"] for line in lines) == sorted(f"{pod.namespace}/{pod.name}" for pod in calls)


def _names(node: Node, folder: str) -> list[str]:
    return node.instance.run(["ls", folder]).stdout.split()


def _read(node: Node, path: str) -> str:
    return node.instance.run(["cat", path]).stdout
