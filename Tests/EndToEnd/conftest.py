"""Fixtures: a simulated VPC for each test module, nodes for each test. Failures keep the nodes' state."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import containerd, paths  # noqa: E402  puts the simulator on the path
from harness.containerd import Containerd  # noqa: E402
from harness.node import Node  # noqa: E402
from kubeapi.client import KubeAPI  # noqa: E402
from simulator.client import Simulator  # noqa: E402

ARTEFACTS = Path(os.environ.get("VPC_CNI_ARTEFACTS", paths.ROOT / ".build" / "e2e-artefacts"))

# The files worth keeping of a node on which a test failed.
_STATE = {
    "links": ["ip", "-d", "link"], "addresses": ["ip", "address"], "rules": ["ip", "rule"],
    "routes": ["ip", "route", "show", "table", "all"], "neighbours": ["ip", "neigh"],
    "nftables": ["nft", "list", "ruleset"], "iptables": ["iptables-save"],
    "checkpoint": ["cat", paths.CHECKPOINT], "ipamd.log": ["cat", paths.AGENT_LOG],
    "plugin.log": ["cat", paths.PLUGIN_LOG], "containerd.log": ["cat", containerd.LOG],
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "timed: judges elapsed time, so it runs alone")
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests make network namespaces: run them as root", returncode=1)
    if not paths.BINARY.exists():
        pytest.exit(f"{paths.BINARY} is missing: run `make build`", returncode=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """VPC_CNI_ORDER=SEED shuffles the modules and the tests within each: no test depends on another."""
    if seed := os.environ.get("VPC_CNI_ORDER"):
        dice = random.Random(seed)
        modules = sorted({item.path for item in items})
        places = {path: dice.random() for path in modules}
        order = {item.nodeid: (places[item.path], dice.random()) for item in items}
        items.sort(key=lambda item: order[item.nodeid])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)


@pytest.fixture(scope="session")
def common_vpc() -> Iterator[Simulator]:
    """A VPC without options, for all modules."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def vpc(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """One VPC for a module. A module sets options with `SIMULATOR = {...}`. Modules without options share one if
    VPC_CNI_ONE_VPC is set, for a machine on which its start takes long."""
    options = getattr(request.module, "SIMULATOR", {})
    if os.environ.get("VPC_CNI_ONE_VPC") and not options:
        yield request.getfixturevalue("common_vpc")
        return
    with Simulator(**options) as simulator:
        yield simulator


@pytest.fixture
def api(vpc: Simulator) -> Iterator[KubeAPI]:
    """The cluster's API server, reachable from every instance. It stops when the test ends."""
    with KubeAPI(vpc) as server:
        yield server


@pytest.fixture
def make_node(vpc: Simulator, request: pytest.FixtureRequest) -> Iterator[Callable[..., Node]]:
    """Makes nodes that end with the test: `make_node("n1", type="m5.large", subnet="a", environment={...})`."""
    nodes: list[Node] = []

    def make(name: str = "n1", **options: Any) -> Node:
        node = Node(vpc, name, **options)
        nodes.append(node)
        return node

    yield make
    failed = getattr(getattr(request.node, "report_call", None), "failed", False)
    for node in nodes:
        if node.is_gone:
            continue
        if failed:
            _keep_state(node, request.node.name)
        node.discard()
    vpc.clear_faults()


@pytest.fixture
def make_runtime(make_node: Callable[..., Node]) -> Iterator[Callable[..., Containerd]]:
    """Starts container runtimes that stop when the test ends: `make_runtime(node)` with the contract's
    conflist, `make_runtime(node, conflist)` with another conflist, `make_runtime(node, None)` without one."""
    if lacking := containerd.missing():
        pytest.skip(f"needs {', '.join(lacking)}: `make setup` installs it")
    runtimes: list[Containerd] = []

    def make(node: Node, *network: Any) -> Containerd:
        runtime = Containerd(node.instance)
        runtimes.append(runtime)
        runtime.start()
        if network != (None,):
            runtime.write_network(*network)
        return runtime

    yield make
    for runtime in runtimes:
        runtime.close()


def _keep_state(node: Node, test: str) -> None:
    folder = ARTEFACTS / test.replace("/", "_") / node.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in _STATE.items():
        done = node.instance.run(command, check=False)
        (folder / name).write_text(done.stdout + done.stderr, encoding="utf-8", errors="replace")
