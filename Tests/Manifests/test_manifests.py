"""The manifests are valid by the API server's schemas, set only what the program knows, and request no more than is used."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from rendered import MANIFESTS, OVERLAYS, ROOT, containers, find, kubectl, render

# The oldest and the newest release of Kubernetes that the manifests are validated against.
RELEASES = ("1.30", "1.37")
KUSTOMIZATIONS = sorted(str(path.parent.relative_to(MANIFESTS)) for path in MANIFESTS.rglob("kustomization.yaml"))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_every_object_is_sound(folder: str, release: str) -> None:
    """Strict validation: a field that the schema does not have is an error."""
    objects = render(folder)
    assert objects
    for each in objects:
        if each["apiVersion"].split("/")[0] in ("monitoring.coreos.com", "crd.k8s.amazonaws.com"):
            continue  # a custom resource, which the API server's own schemas do not define
        kubernetes_validate.validate(each, release, strict=True)


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_nothing_stands_twice(folder: str) -> None:
    keys = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in render(folder)]
    assert len(set(keys)) == len(keys)


def documented() -> set[str]:
    """Every variable of docs/configuration.md. Another test compares that page with the code."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    return set(re.findall(r"`([A-Za-z0-9_]{4,})`", "\n".join(line.split("|")[1] for line in text.splitlines()
                                                             if line.startswith("| `"))))


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_every_variable_is_one_that_the_program_reads(folder: str) -> None:
    known = documented()
    assert {"ENABLE_IPv4", "HOST_CNI_BIN_PATH", "AWS_REGION"} <= known
    for each in render(folder):
        if each["kind"] in ("DaemonSet", "Deployment"):
            for container in containers(each["spec"]["template"]["spec"]):
                names = [variable["name"] for variable in container.get("env", [])]
                assert set(names) <= known, f"{each['metadata']['name']}/{container['name']}: {set(names) - known}"
                assert len(set(names)) == len(names)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_existing_daemonset_is_replaced_in_place(overlay: str) -> None:
    """Names, labels, paths and ports stay the same, so that an apply is an upgrade."""
    daemonset = find(render(f"overlays/{overlay}"), "DaemonSet", "aws-node")
    spec = daemonset["spec"]
    assert daemonset["metadata"]["namespace"] == "kube-system"
    assert spec["selector"] == {"matchLabels": {"k8s-app": "aws-node"}}, "a selector cannot be changed by an apply"
    assert spec["template"]["metadata"]["labels"]["k8s-app"] == "aws-node"
    assert spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == "10%"
    pod = spec["template"]["spec"]
    assert pod["hostNetwork"] is True and pod["priorityClassName"] == "system-node-critical"
    assert pod["tolerations"] == [{"operator": "Exists"}] and pod["serviceAccountName"] == "aws-node"
    assert [each["name"] for each in containers(pod)] == ["aws-vpc-cni-init", "aws-node"]
    agent = pod["containers"][0]
    assert agent["ports"] == [{"name": "metrics", "containerPort": 61678}]
    mounts = {each["mountPath"]: each["name"] for each in agent["volumeMounts"]}
    paths = {each["name"]: each["hostPath"]["path"] for each in pod["volumes"]}
    assert {inside: paths[name] for inside, name in mounts.items()} == {
        "/host/opt/cni/bin": "/opt/cni/bin", "/host/etc/cni/net.d": "/etc/cni/net.d",
        "/host/var/log/aws-routed-eni": "/var/log/aws-routed-eni", "/var/run/aws-node": "/var/run/aws-node",
        "/run/xtables.lock": "/run/xtables.lock", "/host/proc/sys/net": "/proc/sys/net"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_privileges_are_few(overlay: str) -> None:
    pod = find(render(f"overlays/{overlay}"), "DaemonSet", "aws-node")["spec"]["template"]["spec"]
    assert not pod.get("hostPID") and not pod.get("hostIPC")
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    granted = {}
    for container in containers(pod):
        security = container["securityContext"]
        assert not security.get("privileged")
        assert security["allowPrivilegeEscalation"] is False and security["readOnlyRootFilesystem"] is True
        assert security["capabilities"]["drop"] == ["ALL"]
        granted[container["name"]] = security["capabilities"].get("add", [])
    assert granted == {"aws-vpc-cni-init": [], "aws-node": ["NET_ADMIN", "NET_RAW"]}, "test_node_container.py tries what each is for"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_liveness_waits_for_the_start(overlay: str) -> None:
    """A start that waits is not killed for half an hour. After the start, the liveness probe tolerates a minute of silence."""
    pod = find(render(f"overlays/{overlay}"), "DaemonSet", "aws-node")["spec"]["template"]["spec"]
    agent = pod["containers"][0]
    startup, liveness, readiness = (agent[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))
    assert startup["exec"] == liveness["exec"] == readiness["exec"]
    assert startup["exec"]["command"][:2] == ["/app/grpc-health-probe", "-addr=unix:///var/run/aws-node/ipamd.sock"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1800
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60
    # The probe's own timeouts end before kubelet's, so that its message reaches the pod's event.
    limit = sum(int(re.search(r"\d+", word)[0]) for word in startup["exec"]["command"] if "timeout" in word)
    for probe in (startup, liveness, readiness):
        assert probe["timeoutSeconds"] >= limit


@pytest.mark.parametrize(("overlay", "wanted"), [
    ("default", {"ENABLE_IPv4": "true", "WARM_ENI_TARGET": "1", "WARM_PREFIX_TARGET": "1"}),
    ("ipv6", {"ENABLE_PREFIX_DELEGATION": "true", "ENABLE_IPv6": "true", "ENABLE_IPv4": "false"}),
    ("prefix-delegation", {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1", "ENABLE_IPv4": "true"}),
    ("annotate-pod-ips", {"ANNOTATE_POD_IP": "true", "WARM_ENI_TARGET": "1"}),
    ("custom-networking", {"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "true", "ENI_CONFIG_LABEL_DEF": "topology.kubernetes.io/zone"}),
])
def test_overlays_set_what_they_are_for(overlay: str, wanted: dict[str, str]) -> None:
    pod = find(render(f"overlays/{overlay}"), "DaemonSet", "aws-node")["spec"]["template"]["spec"]
    environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert wanted.items() <= environment.items()
    assert {"MY_NODE_NAME", "MY_POD_NAME"} <= environment.keys()


def test_images_are_named_by_the_overlay() -> None:
    for overlay in OVERLAYS:
        pod = find(render(f"overlays/{overlay}"), "DaemonSet", "aws-node")["spec"]["template"]["spec"]
        assert {each["image"] for each in containers(pod)} == {"localhost/vpc-cni:dev"}


def test_eniconfig_definition_takes_what_operators_have() -> None:
    """`test_every_object_is_sound` validates the definition itself; this test validates objects against its schema."""
    import jsonschema

    definition = find(render("overlays/default"), "CustomResourceDefinition")
    assert definition["metadata"]["name"] == "eniconfigs.crd.k8s.amazonaws.com" and definition["spec"]["scope"] == "Cluster"
    version = definition["spec"]["versions"][0]
    assert version["name"] == "v1alpha1"
    schema = version["schema"]["openAPIV3Schema"]
    for spec in ({"subnet": "subnet-1", "securityGroups": ["sg-1"]}, {"subnet": "subnet-1"}, {"subnet": "subnet-1", "tags": {"a": "b"}}):
        jsonschema.validate({"spec": spec}, schema)
    for spec in ({}, {"subnet": 1}, {"subnet": "subnet-1", "securityGroups": "sg-1"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"spec": spec}, schema)


def rules(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Each (group, resource, verb) of a role."""
    return {(group, resource, verb) for rule in role["rules"] for group in rule["apiGroups"]
            for resource in rule["resources"] for verb in rule["verbs"]}


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_no_role_names_everything(folder: str) -> None:
    for each in render(folder):
        if each["kind"] in ("ClusterRole", "Role"):
            assert not any("*" in word for rule in rules(each) for word in rule), each["metadata"]["name"]
            assert all(resource != "secrets" for _, resource, _ in rules(each))


# What the agent requests from the API server, by (group, resource, verb).
ASKED = {
    ("", "nodes", "list"), ("", "nodes", "watch"), ("", "pods", "get"),
    ("crd.k8s.amazonaws.com", "eniconfigs", "list"), ("crd.k8s.amazonaws.com", "eniconfigs", "watch"),
    ("vpcresources.k8s.aws", "cninodes", "get"), ("vpcresources.k8s.aws", "cninodes", "patch"),
    ("events.k8s.io", "events", "create"),
}
ANNOTATING = {("", "pods", verb) for verb in ("list", "watch", "patch")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_role_grants_what_the_agent_asks_for(overlay: str) -> None:
    """The role has exactly the rules that the agent needs; it may change pods only if the agent annotates them."""
    role = find(render(f"overlays/{overlay}"), "ClusterRole", "aws-node")
    assert rules(role) == (ASKED | ANNOTATING if overlay == "annotate-pod-ips" else ASKED)


def test_the_binding_leads_from_the_account_to_the_role() -> None:
    objects = render("overlays/default")
    binding = find(objects, "ClusterRoleBinding", "aws-node")
    assert binding["roleRef"]["name"] == find(objects, "ClusterRole", "aws-node")["metadata"]["name"]
    account = find(objects, "ServiceAccount", "aws-node")["metadata"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}]


def test_kubectl_is_the_pinned_one() -> None:
    said = subprocess.run([kubectl(), "version", "--client", "-o", "yaml"], check=True, capture_output=True, text=True)
    assert yaml.safe_load(said.stdout)["clientVersion"]["minor"] == "37"


def test_documents_name_folders_that_are_there() -> None:
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    named = set(re.findall(r"manifests/[A-Za-z0-9./-]+", text))
    assert named
    for path in named:
        assert Path(ROOT, path.rstrip(".")).exists(), path
