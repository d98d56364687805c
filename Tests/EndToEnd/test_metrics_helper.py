"""The metrics helper with an API server, real agents and a CloudWatch that checks signatures."""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Callable, Iterator

import pytest

from harness import paths
from harness.metrics_helper import MetricsHelper
from harness.node import Node
from harness.waiting import wait_for
from kubeapi.client import KubeAPI, agent_pod, pod
from simulator.client import Instance, Simulator

SIMULATOR = {"verify_signatures": True}


@pytest.fixture
def cluster(vpc: Simulator) -> Iterator[KubeAPI]:
    with KubeAPI(vpc) as api:
        yield api


@pytest.fixture
def host(vpc: Simulator, request: pytest.FixtureRequest) -> Iterator[Instance]:
    """The instance on which the helper runs."""
    instance = vpc.add_instance(f"host-{abs(hash(request.node.name)) % 10_000}", type="m5.large", subnet="a")
    yield instance
    instance.remove()
    vpc.clear_faults()


def watched(vpc: Simulator, metric: str, cluster_id: str) -> list[float]:
    """A metric's values in CloudWatch, oldest first."""
    now = datetime.datetime.now(datetime.timezone.utc)
    query = {"Id": "q", "MetricStat": {"Period": 1, "Stat": "Sum", "Metric": {
        "Namespace": "Kubernetes", "MetricName": metric, "Dimensions": [{"Name": "CLUSTER_ID", "Value": cluster_id}]}}}
    found = vpc.ec2("cloudwatch").get_metric_data(
        MetricDataQueries=[query], StartTime=now - datetime.timedelta(minutes=5), EndTime=now + datetime.timedelta(minutes=1),
        ScanBy="TimestampAscending")["MetricDataResults"][0]
    return found["Values"]


def units(vpc: Simulator, metric: str) -> set[str]:
    now = datetime.datetime.now(datetime.timezone.utc)
    points = vpc.ec2("cloudwatch").get_metric_statistics(
        Namespace="Kubernetes", MetricName=metric, Period=60, Statistics=["Sum"], StartTime=now - datetime.timedelta(minutes=5),
        EndTime=now + datetime.timedelta(minutes=1))["Datapoints"]
    return {point["Unit"] for point in points}


def play(api: KubeAPI, number: int, text: str, **answer: object) -> str:
    """Adds an agent that serves this text as its metrics; returns its pod's name."""
    name = f"aws-node-{number}"
    api.ask("pod_answers", pattern=f"{name}:61678/metrics", text=text, **answer)
    api.add(agent_pod(f"n{number}", name=name, address=f"10.9.0.{number}"))
    return name


def counts(adds: int, start: int = 1_000) -> str:
    """An agent's metrics text: addresses, a counter with labels and one without."""
    return (f"awscni_total_ip_addresses 10\nawscni_add_ip_req_count {adds}\n"
            f'awscni_ec2api_req_count{{fn="A"}} {adds}\nawscni_ec2api_req_count{{fn="B"}} 1\n'
            f"process_start_time_seconds {start}\n")


def test_a_terminating_agent_is_not_counted_beside_its_successor(cluster: KubeAPI, host: Instance) -> None:
    """Both pods of a node answer, with the metrics of the agent that runs there."""
    old = play(cluster, 1, counts(3))
    with MetricsHelper(host, cluster) as helper:
        helper.wait_value(10, "awscni_total_ip_addresses")
        # As in a rolling update: the old pod is marked, and disappears some time later.
        cluster.patch("pods", old, {"metadata": {"deletionTimestamp": "2026-11-24T10:00:00Z"}}, namespace="kube-system")
        cluster.ask("pod_answers", pattern="aws-node-9:61678/metrics", text=counts(3))
        cluster.add(agent_pod("n1", name="aws-node-9", address="10.9.0.1"))
        # The other node's value shows that the helper has seen the successor, which the API server reported earlier.
        play(cluster, 2, counts(1).replace("awscni_total_ip_addresses 10", "awscni_total_ip_addresses 100"))
        helper.wait_value(110, "awscni_total_ip_addresses")


def test_sums_of_real_agents_reach_cloudwatch(vpc: Simulator, cluster: KubeAPI, host: Instance,
                                             make_node: Callable[..., Node]) -> None:
    """Two agents with pods, scraped at their addresses; the cluster's name comes from the instance's tag."""
    nodes = [make_node(f"summed-{number}", type="m5.large", subnet="a") for number in (1, 2)]
    for number, node in enumerate(nodes):
        node.agent.start()
        cluster.add(agent_pod(node.name, address=node.instance.address))
        node.add_pods(3 + number)
        node.wait_quiet()
    vpc.ec2().create_tags(Resources=[host.instance_id], Tags=[{"Key": "eks:cluster-name", "Value": "real one"}])
    with MetricsHelper(host, cluster, {"VPC_CNI_SCRAPE": "direct"}) as helper:
        helper.wait_value(7, "awscni_assigned_ip_addresses")
        nodes[0].add_pods(2, prefix="more")
        helper.wait_value(9, "awscni_assigned_ip_addresses")
        helper.wait_value(2, "cni_metrics_helper_increments_total", metric="addReqCount")
        wait_for(lambda: 9 in watched(vpc, "assignIPAddresses", "real one"), "9 addresses in CloudWatch", 30)
        wait_for(lambda: sum(watched(vpc, "addReqCount", "real one")) == 2, "two ADDs in CloudWatch", 30)
        assert helper.value("awscni_eni_max") == 6 and helper.value("awscni_ip_max") == 54
        assert helper.value("awscni_eni_allocated") == sum(len(node.enis()) for node in nodes)
        assert (helper.value("cni_metrics_helper_aws_api_latency_p99_ms") or 0) > 0
        assert units(vpc, "assignIPAddresses") == {"Count"} and units(vpc, "awsAPILatency") == {"Milliseconds"}
        assert max(watched(vpc, "awsAPILatency", "real one")) > 0
        assert helper.value("cni_metrics_helper_skipped_lines_total") == 0
        # A restarted agent counts from zero, and its whole count is an increment.
        before = helper.value("cni_metrics_helper_increments_total", metric="addReqCount")
        nodes[0].agent.kill()
        nodes[0].agent.start()
        nodes[0].add_pods(1, prefix="after")
        helper.wait_value(10, "awscni_assigned_ip_addresses")
        assert before == 2
        helper.wait_value(3, "cni_metrics_helper_increments_total", metric="addReqCount")
        # A dead agent does not answer, is named, and no longer counts in the sums.
        nodes[1].agent.kill()
        helper.wait_value(6, "awscni_assigned_ip_addresses")
        assert helper.value("cni_metrics_helper_silent_agent", pod=f"aws-node-{nodes[1].name}", node=nodes[1].name) == 1
        assert helper.stop() == 0
    assert vpc.drops()["total"] == 0


def test_increments_are_those_of_all_agents_together(vpc: Simulator, cluster: KubeAPI, host: Instance) -> None:
    """Through the API server's proxy. The metrics helper of amazon-vpc-cni-k8s publishes 20 every round for two
    agents at constant 10 and 20."""
    play(cluster, 1, counts(10))
    play(cluster, 2, counts(20))
    with MetricsHelper(host, cluster, {"AWS_CLUSTER_ID": "increments"}) as helper:
        helper.wait_value(20, "awscni_total_ip_addresses")
        wait_for(lambda: len(watched(vpc, "addReqCount", "increments")) >= 2, "two rounds in CloudWatch", 30)
        assert set(watched(vpc, "addReqCount", "increments")) == {0}
        play(cluster, 1, counts(15))
        play(cluster, 2, counts(4, start=5_000))  # restarted
        helper.wait_value(9, "cni_metrics_helper_increments_total", metric="addReqCount")
        helper.wait_value(5 + 4 + 1, "cni_metrics_helper_increments_total", metric="ec2ApiReqCount")
        cluster.delete("pods", "aws-node-2", "kube-system")
        play(cluster, 3, counts(7, start=4_000_000_000))  # the agent of a new node
        helper.wait_value(16, "cni_metrics_helper_increments_total", metric="addReqCount")
        helper.wait_value(20, "awscni_total_ip_addresses")
        wait_for(lambda: sum(watched(vpc, "addReqCount", "increments")) == 16, "16 in CloudWatch, each once", 30)
        # The helper requested only the agents' pods, by their label.
        lists = [each for each in cluster.requests() if each["verb"] in ("list", "watch")]
        assert lists and all(each["query"]["labelSelector"] == "k8s-app=aws-node" and each["namespace"] == "kube-system"
                             for each in lists)
        assert {each["verb"] for each in cluster.requests()} == {"list", "watch", "proxy"}


def test_bad_texts_silence_their_agents_alone(vpc: Simulator, cluster: KubeAPI, host: Instance) -> None:
    vpc.counts(reset=True)
    play(cluster, 1, counts(1))
    play(cluster, 2, counts(1) + "awscni_total_ip_addresses 500\nnot a sample\n")  # a duplicate series, and not a sample
    play(cluster, 3, counts(1) + "awscni_eni_max 1")  # ends in the middle of a line
    play(cluster, 4, "<html><body>\nno metrics here\n</body></html>\n")
    play(cluster, 5, counts(1) + "# " + "x" * (9 << 20) + "\n")
    play(cluster, 6, counts(1), delay=600)
    play(cluster, 7, "nobody", status=500)
    cluster.add(agent_pod("n8", name="aws-node-8"))  # nothing listens at its address
    # Neither of these pods is an agent that could answer.
    cluster.add({**agent_pod("n9", name="aws-node-9"), "status": {"phase": "Pending"}},
                pod("coredns-1", "n1", "kube-system", {"k8s-app": "kube-dns"}))
    with MetricsHelper(host, cluster, {"USE_CLOUDWATCH": "no", "VPC_CNI_SCRAPE_TIMEOUT": "2"}) as helper:
        helper.wait_value(2, "cni_metrics_helper_agents", state="answered")
        assert helper.value("awscni_total_ip_addresses") == 20
        assert helper.value("cni_metrics_helper_agents", state="silent") == 6
        for cause in ("truncated", "not_metrics", "too_large", "timed_out", "refused", "unreachable"):
            wait_for(lambda cause=cause: helper.value("cni_metrics_helper_agent_failures_total", cause=cause), cause, 30)
        assert helper.value("cni_metrics_helper_duplicate_samples_total")
        assert helper.value("cni_metrics_helper_skipped_lines_total")
        told = helper.wait_said("cannot scrape some agents")
        assert told["agents"] == "6" and "aws-node-6 on n6: timed_out" in told["names"]
        # The log names them once, and says once that they are back.
        play(cluster, 6, counts(1))
        assert "aws-node-6" in helper.wait_said("agents can be scraped again")["names"]
        assert len(helper.said("cannot scrape some agents")) == 1
        assert not vpc.counts()["actions"].get("monitoring:PutMetricData")


def test_cloudwatch_away_costs_nothing(vpc: Simulator, cluster: KubeAPI, host: Instance) -> None:
    """Calls are refused or unanswered: values wait, and arrive once each when CloudWatch is back."""
    play(cluster, 1, counts(0))
    vpc.deny("monitoring:PutMetricData")
    vpc.fault("monitoring:PutMetricData", http=503, times=3)
    with MetricsHelper(host, cluster, {"AWS_CLUSTER_ID": "away"}) as helper:
        refused = helper.wait_said("cannot publish metrics to CloudWatch")
        assert "PutMetricData" in refused["error"]
        wait_for(lambda: helper.value("cni_metrics_helper_cloudwatch_failures_total", code="AccessDenied"), "a refusal", 60)
        play(cluster, 1, counts(8))
        helper.wait_value(8, "cni_metrics_helper_increments_total", metric="addReqCount")
        assert (helper.value("cni_metrics_helper_cloudwatch_waiting") or 0) > 20
        vpc.allow("monitoring:PutMetricData")
        helper.wait_said("CloudWatch accepts metrics again", 60)
        assert sum(watched(vpc, "addReqCount", "away")) == 8
        assert helper.value("cni_metrics_helper_cloudwatch_dropped_total", reason="no_room") is None


def test_api_server_away_for_a_while(cluster: KubeAPI, host: Instance) -> None:
    play(cluster, 1, counts(3))
    with MetricsHelper(host, cluster, {"USE_CLOUDWATCH": "no"}) as helper:
        helper.wait_value(10, "awscni_total_ip_addresses")
        cluster.down()
        # The sums are unknown: they have no series, and no agent's last value stands in for them.
        wait_for(lambda: helper.value("cni_metrics_helper_agents", state="silent") == 1, "the agent is silent")
        assert helper.value("awscni_total_ip_addresses") is None
        helper.wait_said("cannot list agents from the API server", 60)
        cluster.up()
        helper.wait_value(10, "awscni_total_ip_addresses", 60)
        helper.wait_said("API server reachable again", 60)
        play(cluster, 1, counts(5))
        play(cluster, 2, counts(0))
        helper.wait_value(20, "awscni_total_ip_addresses", 60)
        assert helper.value("cni_metrics_helper_increments_total", metric="addReqCount") == 2


def test_a_stop_sends_what_waits(vpc: Simulator, cluster: KubeAPI, host: Instance) -> None:
    play(cluster, 1, counts(3))
    with MetricsHelper(host, cluster, {"AWS_CLUSTER_ID": "stopped", "METRIC_UPDATE_INTERVAL": "60"}) as helper:
        helper.wait_value(10, "awscni_total_ip_addresses")
        assert watched(vpc, "totalIPAddresses", "stopped") == []
        assert helper.stop() == 0
    assert watched(vpc, "totalIPAddresses", "stopped") == [10]


def test_cluster_that_nothing_names(vpc: Simulator, cluster: KubeAPI, host: Instance) -> None:
    """No setting or tag names the cluster: its name is then as in amazon-vpc-cni-k8s, and a log line says what to set."""
    vpc.deny("DescribeTags")
    try:
        play(cluster, 1, counts(3))
        with MetricsHelper(host, cluster) as helper:
            told = helper.wait_said("cannot determine the cluster name", 60)
            assert "AWS_CLUSTER_ID" in told["remedy"] and told["used"] == "k8s-cluster"
            wait_for(lambda: watched(vpc, "totalIPAddresses", "k8s-cluster"), "values under k8s-cluster", 30)
    finally:
        vpc.allow("DescribeTags")


@pytest.mark.parametrize(("environment", "arguments", "status", "words"), [
    ({"METRIC_UPDATE_INTERVAL": "often"}, [], 1, 'METRIC_UPDATE_INTERVAL is "often"'),
    ({"VPC_CNI_SCRAPE": "pigeon"}, [], 1, "proxy or direct"),
    ({}, ["--cloudwatch=maybe"], 64, '--cloudwatch is "maybe"'),
    ({"KUBERNETES_SERVICE_HOST": ""}, [], 1, "no API server configured"),
    ({"AWS_ENDPOINT_URL_CLOUDWATCH": "ftp://x", "KUBERNETES_SERVICE_HOST": ""}, [], 1, "AWS_ENDPOINT_URL_CLOUDWATCH"),
])
def test_a_bad_start_names_its_reason(environment: dict[str, str], arguments: list[str], status: int, words: str) -> None:
    variables = {"PATH": "/usr/bin:/bin", "AWS_REGION": "us-east-1", **environment}
    done = subprocess.run([str(paths.BINARY), "metrics-helper", *arguments], env=variables, capture_output=True, text=True,
                          timeout=30, check=False)
    assert done.returncode == status and words in done.stdout.replace("\\", "") + done.stderr
