"""The monitoring files: every alert does what it says, and every query names existing series."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "manifests" / "monitoring"
HERE = Path(__file__).resolve().parent
PROMTOOL = Path(sys.executable).with_name("promtool")

needs_promtool = pytest.mark.skipif(not PROMTOOL.exists(), reason="promtool is missing: run `make setup`")


def rule_groups() -> dict[str, Any]:
    """The content of the PrometheusRule, in the format of Prometheus's own files."""
    return {"groups": yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text(encoding="utf-8"))["spec"]["groups"]}


def rules() -> list[dict[str, Any]]:
    return [rule for group in rule_groups()["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each series of docs/metrics.md. Another test compares that page with the code."""
    found: dict[str, tuple[str, set[str]]] = {}
    for line in (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[1] in ("counter", "gauge", "histogram", "summary"):
            found[cells[0].strip("`")] = (cells[1], set(re.findall(r"`(\w+)`", cells[2])))
    return found


def series_of(expression: str) -> list[tuple[str, set[str]]]:
    """Names of series in a query, with the labels that the query uses of each."""
    found = []
    for name, _, matchers in re.findall(r"\b((?:awscni|process|cni_metrics_helper)_\w+)(\{([^}]*)\})?", expression):
        found.append((name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))))
    return found


def unknown(expression: str) -> list[str]:
    """What a query uses and no program exports."""
    known, wrong = documented(), []
    # Labels that Prometheus and the PodMonitors add.
    added = {"job", "node", "instance", "le", "quantile"}
    for name, labels in series_of(expression):
        base = name if name in known else re.sub(r"_(bucket|sum|count)$", "", name)
        if base not in known or base != name and known[base][0] not in ("histogram", "summary"):
            wrong.append(name)
        elif labels - known[base][1] - added:
            wrong.append(f"{name}{sorted(labels - known[base][1] - added)}")
    return wrong


@needs_promtool
def test_alerts_fire_on_their_faults_and_on_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule_groups()), encoding="utf-8")
    shutil.copy(HERE / "alerts.test.yaml", tmp_path)
    for words in (["check", "rules", "--lint-fatal", "rules.yaml"], ["test", "rules", "alerts.test.yaml"]):
        done = subprocess.run([str(PROMTOOL), *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways() -> None:
    tests = yaml.safe_load((HERE / "alerts.test.yaml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in tests[0]["alert_rule_test"]} == names


def test_alerts_name_what_there_is() -> None:
    for rule in rules():
        assert not unknown(rule["expr"]), rule["alert"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical") and rule["annotations"]["summary"]


def test_every_query_of_the_dashboard_names_what_there_is() -> None:
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    assert len(expressions) > 30
    for expression in expressions:
        assert not unknown(expression), expression
        assert series_of(expression) or "up{" in expression, f"no series: {expression}"


@needs_promtool
def test_every_query_of_the_dashboard_is_one(tmp_path: Path) -> None:
    """Prometheus's own parser reads every query, as the expression of a recording rule."""
    expressions = [target["expr"].replace("$node", ".*") for panel in panels() for target in panel["targets"]]
    group = {"name": "dashboard", "rules": [{"record": f"dashboard:query:{index}", "expr": each}
                                            for index, each in enumerate(expressions)]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [group]}), encoding="utf-8")
    done = subprocess.run([str(PROMTOOL), "check", "rules", "rules.yaml"], cwd=tmp_path, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("monitor", "label", "job"), [
    ("podmonitor-agent.yaml", "aws-node", "aws-node"),
    ("podmonitor-metrics-helper.yaml", "cni-metrics-helper", "cni-metrics-helper")])
def test_monitors_find_what_the_manifests_run(monitor: str, label: str, job: str) -> None:
    spec = yaml.safe_load((MONITORING / monitor).read_text(encoding="utf-8"))["spec"]
    assert spec["selector"]["matchLabels"] == {"k8s-app": label}
    endpoint = spec["podMetricsEndpoints"][0]
    assert endpoint["port"] == "metrics" and endpoint["path"] == "/metrics"
    assert {"targetLabel": "job", "replacement": job} in endpoint["relabelings"]


def test_queries_that_name_nothing_are_seen() -> None:
    """Tests the check itself: it detects a name, a label and a suffix that do not exist."""
    assert not unknown('rate(awscni_add_wait_seconds_bucket{success="true"}[5m])')
    assert unknown("awscni_no_such_series") and unknown("awscni_eni_max_bucket")
    assert unknown('awscni_growth_blocked{reason="x"}')
