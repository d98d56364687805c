"""Full disks: the checkpoint's disk, where no address may be assigned without being recorded, and the logs' disk."""

from __future__ import annotations

import fcntl
import json
import os
import select
from collections.abc import Callable

import pytest

from harness import paths
from harness.node import Node
from harness.pod import PluginFailure
from harness.state import wait_sound
from harness.waiting import wait_for

STATE = paths.CHECKPOINT.rsplit("/", 1)[0]
LOGS = paths.AGENT_LOG.rsplit("/", 1)[0]


def small_disk(node: Node, folder: str, size: str = "64k") -> None:
    node.instance.run(["mkdir", "-p", folder])
    node.instance.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder])


def fill(node: Node, folder: str) -> None:
    filled = node.instance.run(["dd", "if=/dev/zero", f"of={folder}/filler", "bs=512"], check=False)
    assert "No space left" in filled.stderr


def make_room(node: Node, folder: str) -> None:
    node.instance.run(["rm", f"{folder}/filler"])


def test_a_full_disk_gives_nothing_out_and_takes_everything_back(make_node: Callable[..., Node]) -> None:
    node = make_node("full", type="m5.large", subnet="a")
    small_disk(node, STATE)
    node.agent.start()
    gone, kept = node.add_pods(2)
    fill(node, STATE)
    late = node.pod("late")
    for _ in range(3):
        with pytest.raises(PluginFailure) as failure:
            late.add()
        assert "cannot write the checkpoint" in failure.value.error["msg"]
        assert "no space left" in failure.value.error["msg"].lower()
    assert len(node.pod_veths()) == 2, "nothing of it is left on the host"
    node.delete_pods([gone])
    wait_for(lambda: node.pod_routes() == [kept.address], "the pod that was deleted is gone")
    assert node.instance.run(["ls", STATE]).stdout.split() == ["filler", "ipam.json", "ipamd.sock"]

    # A restart finds the last checkpoint that was written: it still has the deleted pod, and looks for its veth.
    node.agent.kill()
    node.agent.start()
    with pytest.raises(PluginFailure):
        late.add()
    kept.check()
    make_room(node, STATE)
    late.add()
    wait_sound(node, [kept, late])
    assert {entry["ipv4"] for entry in node.checkpoint()} == {kept.address, late.address}
    node.delete_pods()
    node.wait_clean()


def test_a_full_disk_of_logs_keeps_nobody_from_starting(make_node: Callable[..., Node]) -> None:
    node = make_node("logless", type="m5.large", subnet="a")
    small_disk(node, LOGS, "16k")
    node.agent.start()
    pod = node.add_pods(1)[0]
    fill(node, LOGS)
    for _ in range(16):  # until the last page of the log is full too, in the middle of a line
        pod.check()
        assert pod.delete() is None
        # The agent removes the host's end after it has answered DEL, and the other end disappears with it.
        wait_for(lambda: pod.exec(["ip", "link", "show", "eth0"], check=False).returncode != 0, "the interface gone")
        assert pod.add()
    make_room(node, LOGS)
    pod.check()
    node.delete_pods()
    for path in (paths.AGENT_LOG, paths.PLUGIN_LOG):
        lines = node.instance.run(["cat", path]).stdout.splitlines()
        broken = [number for number, line in enumerate(lines) if not is_whole(line)]
        assert len(broken) <= 1, f"{path}: no line but the one that the disk cut is lost: {[lines[at] for at in broken]}"
    node.wait_clean()


def test_a_log_that_takes_nothing_delays_nobody(make_node: Callable[..., Node]) -> None:
    """The agent's log goes to a pipe that nobody reads. Its lines queue on a thread of their own, and are dropped above a
    limit: pods start and stop as usual, and the agent exits in time."""
    node = make_node("mute", type="m5.large", subnet="a", environment={"AWS_VPC_K8S_CNI_LOG_FILE": "stdout"})
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    node.agent.stdout = writer
    try:
        node.agent.start()
        for _ in range(3):
            node.add_pods(4)
            node.delete_pods()
        node.wait_clean()
        # The pipe is full, so any thread that wrote to it would block.
        assert not select.select([], [writer], [], 0)[1]
        assert node.agent.stop() == 0
    finally:
        os.close(writer)
        os.close(reader)


def is_whole(line: str) -> bool:
    try:
        return {"level", "ts", "caller", "msg"} <= json.loads(line).keys()
    except ValueError:
        return False
