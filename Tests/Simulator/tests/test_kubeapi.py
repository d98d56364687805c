"""The API server for tests behaves as documented, checked with curl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from kubeapi.client import TOKEN, KubeAPI, node, pod


@pytest.fixture
def api() -> Iterator[KubeAPI]:
    with KubeAPI() as server:
        yield server


def curl(api: KubeAPI, path: str, *words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["curl", "-sS", "-m", "10", "--cacert", str(api.folder / "ca.crt"), "-H", f"Authorization: Bearer {token}",
                           *words, api.url + path], capture_output=True, text=True, check=False)


def get(api: KubeAPI, path: str, *words: str) -> dict[str, Any]:
    return json.loads(curl(api, path, *words).stdout)


def watch(api: KubeAPI, path: str, seconds: int = 1) -> list[dict[str, Any]]:
    """What a watch printed until its time was over."""
    answer = curl(api, f"{path}&watch=1&timeoutSeconds={seconds}")
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_pages_and_selectors(api: KubeAPI) -> None:
    api.add(*[pod(f"p{number}", "n1" if number % 2 else "n2", labels={"k": str(number)}) for number in range(6)])
    page = get(api, "/api/v1/pods?limit=2&fieldSelector=spec.nodeName%3Dn1")
    assert [item["metadata"]["name"] for item in page["items"]] == ["p1", "p3"]
    rest = get(api, f"/api/v1/pods?limit=2&fieldSelector=spec.nodeName%3Dn1&continue={page['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in rest["items"]] == ["p5"] and "continue" not in rest["metadata"]
    for selector, names in (("k%20in%20(1,2)", ["p1", "p2"]), ("k!%3D0,k!%3D1", ["p2", "p3", "p4", "p5"]), ("!k", [])):
        items = get(api, f"/api/v1/namespaces/default/pods?labelSelector={selector}")["items"]
        assert [item["metadata"]["name"] for item in items] == names
    assert get(api, "/api/v1/pods?fieldSelector=spec.image%3Dx")["code"] == 400


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_watch_goes_on_from_a_version_and_says_what_left(api: KubeAPI, version: str) -> None:
    api.add(pod("a", "n1"), pod("b", "n1"))
    start = get(api, "/api/v1/pods")["metadata"]["resourceVersion"]
    api.patch("pods", "a", {"metadata": {"labels": {"x": "y"}}})
    api.patch("pods", "b", {"spec": {"nodeName": "n2"}})
    api.add(pod("c", "n1"), pod("d", "n2"))
    api.delete("pods", "a")
    told = watch(api, f"/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&resourceVersion={start}")
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in told] == [
        ("MODIFIED", "a"), ("DELETED", "b"), ("ADDED", "c"), ("DELETED", "a")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in told]
    assert versions == sorted(set(versions)) and versions[0] > int(start)
    assert [event["type"] for event in watch(api, "/api/v1/pods?resourceVersion=0")] == ["ADDED"] * 3


def test_old_versions_are_gone_and_bookmarks_are_not(api: KubeAPI) -> None:
    api.add(node("n1"))
    start = get(api, "/api/v1/nodes")["metadata"]["resourceVersion"]
    api.add(pod("other", "n1"))
    api.ask("bookmarks", seconds=0.2)
    told = watch(api, f"/api/v1/nodes?resourceVersion={start}&allowWatchBookmarks=true")
    assert {event["type"] for event in told} == {"BOOKMARK"}
    assert int(told[-1]["object"]["metadata"]["resourceVersion"]) > int(start)
    api.ask("compact")
    gone = watch(api, f"/api/v1/nodes?resourceVersion={start}")
    assert [(event["type"], event["object"]["code"], event["object"]["reason"]) for event in gone] == [("ERROR", 410, "Expired")]


def test_merge_patch_and_its_lock(api: KubeAPI) -> None:
    api.add(pod("a", "n1"))
    version = api.get("pods", "a")["metadata"]["resourceVersion"]
    path, kind = "/api/v1/namespaces/default/pods/a", "Content-Type: application/merge-patch+json"
    done = get(api, path, "-X", "PATCH", "-H", kind, "-d", '{"metadata":{"annotations":{"k":"v"},"labels":null}}')
    assert done["metadata"]["annotations"] == {"k": "v"} and "labels" not in done["metadata"]
    same = get(api, path, "-X", "PATCH", "-H", kind, "-d", '{"metadata":{"annotations":{"k":"v"}}}')
    assert same["metadata"]["resourceVersion"] == done["metadata"]["resourceVersion"]
    late = get(api, path, "-X", "PATCH", "-H", kind, "-d", json.dumps({"metadata": {"resourceVersion": version}, "x": 1}))
    assert (late["code"], late["reason"]) == (409, "Conflict")
    assert get(api, path, "-X", "PATCH", "-H", "Content-Type: application/json", "-d", "{}")["code"] == 415


def test_metadata_alone_and_lists_from_memory(api: KubeAPI) -> None:
    api.add(pod("a", "n1"), pod("b", "n1"))
    accept = "Accept: application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
    listing = get(api, "/api/v1/pods?limit=1&resourceVersion=0", "-H", accept)
    assert listing["kind"] == "PartialObjectMetadataList" and "continue" not in listing["metadata"]
    assert [sorted(item) for item in listing["items"]] == [["apiVersion", "kind", "metadata"]] * 2


def test_who_may(api: KubeAPI) -> None:
    assert json.loads(curl(api, "/api/v1/nodes", token="other").stdout)["code"] == 401
    assert get(api, "/api/v1/secrets")["code"] == 404
    assert curl(api, "/livez").stdout == "ok"


def test_events_are_checked_as_the_real_server_does(api: KubeAPI) -> None:
    event = {"metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i",
             "action": "a", "reason": "r", "type": "Warning", "note": "n", "regarding": {"kind": "Pod", "namespace": "default"}}
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    assert get(api, path, "-d", json.dumps(event))["kind"] == "Event"
    assert get(api, path, "-d", json.dumps(event))["code"] == 409
    for wrong in ({"note": "x" * 1025}, {"type": "Bad"}, {"action": ""}, {"eventTime": "2026-01-01T00:00:00Z"}, {"regarding": {"namespace": "x"}}):
        assert get(api, path, "-d", json.dumps({**event, **wrong}))["code"] == 422


def test_a_pods_proxy(api: KubeAPI) -> None:
    api.add(pod("a", "n1"), pod("b", "n1"))
    api.ask("pod_answers", pattern="a:61678/metrics", text="of {pod}\n")
    assert curl(api, "/api/v1/namespaces/default/pods/a:61678/proxy/metrics").stdout == "of a\n"
    assert get(api, "/api/v1/namespaces/default/pods/b:61678/proxy/metrics")["code"] == 503
    assert get(api, "/api/v1/namespaces/default/pods/z:61678/proxy/metrics")["code"] == 404


def test_goes_and_comes_back_with_its_objects(api: KubeAPI) -> None:
    api.add(node("n1"))
    api.down()
    assert curl(api, "/livez").returncode == 7
    api.up()
    assert get(api, "/api/v1/nodes/n1")["metadata"]["name"] == "n1"
