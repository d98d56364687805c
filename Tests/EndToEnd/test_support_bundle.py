"""`vpc-cni support`: what the bundle contains, what it never contains, and that a failed run leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import json
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.nobody import AS_NOBODY
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.patience import patient

OUT = "/run/bundles"
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJrdWJlcm5ldGVzIiwic3ViIjoic3lzdGVtIn0.c2lnbmF0dXJl"
KEY_LINE = "MIIEpAIBAAKCAQEA7Zq3Pq1nT0n0m1mQ8Jb2kq0c5s8o9a7r6t5y4u3i2o1p0"

# Secrets of more than twenty kinds in their usual places on a node: file → text, and the strings that must not appear.
PLANTED = {
    "/var/log/messages": (
        f"Nov 24 10:00:00 n kubelet: Authorization: Bearer {JWT}\n"
        "Nov 24 10:00:01 n app: proxy http://svc:planted-url@proxy.example:3128/\n"
        "Nov 24 10:00:02 n app: GET https://b.s3/o?X-Amz-Security-Token=planted%2Fpresigned&X-Amz-Signature=cafe0123planted\n"
        "Nov 24 10:00:03 n app: key wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLE12 used\n"
        "Nov 24 10:00:04 n app: AKIAPLANTEDEXAMPLE12 and ASIAPLANTEDEXAMPLE34\n"
        "Nov 24 10:00:05 n app: ghp_0123456789abcdefPLANTED0123456789abc xoxb-123456789012-planted\n"
        "Nov 24 10:00:06 n app: with Basic cGxhbnRlZDpiYXNpYw== and -u planted:curl\n"
        "Nov 24 10:00:07 n curl: Set-Cookie: session=planted-cookie\n",
        [JWT, "planted-url", "planted%2Fpresigned", "cafe0123planted", "wJalrXUtnFEMI", "PLANTEDEXAMPLE",
         "ghp_0123", "123456789012-planted", "cGxhbnRlZDpiYXNpYw", "planted:curl", "planted-cookie"]),
    "/var/lib/kubelet/kubeconfig": (
        "apiVersion: v1\nusers:\n- name: kubelet\n  user:\n    client-key-data: UExBTlRFRC1DTElFTlQtS0VZ\n"
        "    token: planted.token\n    password: planted pass words\n",
        ["UExBTlRFRC1DTElFTlQtS0VZ", "planted.token", "pass words"]),
    "/etc/eks/node.yaml": (
        "kubelet:\n  flags:\n  - --bootstrap-token=planted1.0123456789abcdef\n  userData: |\n    IyEvcGxhbnRlZA==\n    more-planted\n"
        "env:\n- name: DB_PASSWORD\n  value: planted-in-a-pair\n",
        ["planted1.0123", "IyEvcGxhbnRlZA", "more-planted", "planted-in-a-pair"]),
    "/etc/containerd/planted.toml": (
        '[plugins.registry.configs."r".auth]\n  username = "u"\n  password = "planted-registry"\n  identitytoken = "planted-id"\n',
        ["planted-registry", "planted-id"]),
    "/etc/docker/daemon.json": (
        '{"auths":{"r.example":{"auth":"cGxhbnRlZDpkb2NrZXI="}},"msg":"{\\"clientSecret\\":\\"planted-nested\\"}"}',
        ["cGxhbnRlZDpkb2NrZXI", "planted-nested"]),
    "/var/log/cloud-init-output.log": (
        f"-----BEGIN RSA PRIVATE KEY-----\n{KEY_LINE}\n-----END RSA PRIVATE KEY-----\nexport API_KEY=planted-export\n"
        "machine h login me password planted-netrc\nkubeadm join --token abcdef.0123456789planted\n",
        [KEY_LINE, "planted-export", "planted-netrc", "0123456789planted"]),
    "/etc/fstab": ("//s/x /x cifs username=a,password=planted-mount 0 0\n", ["planted-mount"]),
}
ENVIRONMENT = {"DATABASE_PASSWORD": "planted-environment", "AWS_SECRET_ACCESS_KEY": "planted/environment+key"}


@dataclass
class Bundle:
    done: subprocess.CompletedProcess[Any]
    seconds: float
    path: str = ""
    size: int = 0
    stem: str = ""
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def index(self) -> dict[str, Any]:
        return json.loads(self.files["index.json"])

    def part(self, path: str) -> dict[str, Any]:
        return next(part for part in self.index["parts"] if part["path"] == path)

    def text(self, path: str) -> str:
        return self.files[path].decode(errors="replace")


def unpack(data: bytes) -> tuple[str, dict[str, bytes]]:
    """Unpacked by Python; one folder with plain files that only root can read."""
    files: dict[str, bytes] = {}
    stems = set()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            assert member.isfile() and member.mode == 0o600, member
            stem, _, name = member.name.partition("/")
            stems.add(stem)
            assert name not in files, f"{name} twice"
            reader = archive.extractfile(member)
            assert reader is not None
            files[name] = reader.read()
    assert len(stems) == 1
    return stems.pop(), files


def collect(node: Node, *options: str, binary: str = str(paths.BINARY), env: dict[str, str] | None = None) -> Bundle:
    node.instance.run(["mkdir", "-p", OUT])
    began = time.monotonic()
    done = node.instance.run([binary, *([] if "aws-cni-support" in binary else ["support"]), f"--output={OUT}", *options],
                             check=False, env=env)
    bundle = Bundle(done, time.monotonic() - began)
    assert done.returncode == 0, done.stderr
    bundle.path = done.stdout.strip()
    data = node.instance.run(["cat", bundle.path], text=False).stdout
    bundle.size = len(data)
    bundle.stem, bundle.files = unpack(data)
    # GNU tar reads it as well.
    listed = node.instance.run(["tar", "-tzf", bundle.path])
    assert len(listed.stdout.splitlines()) == len(bundle.files) and not listed.stderr
    node.instance.run(["rm", bundle.path])
    return bundle


def write(node: Node, path: str, text: str = "") -> None:
    node.instance.run(["sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path}"], input=text)


def left(node: Node, folder: str) -> list[str]:
    return node.instance.run(["ls", "-A", folder]).stdout.split()


@pytest.fixture(scope="module")
def node(vpc: Simulator) -> Iterator[Node]:
    """A node with an agent, pods on two ENIs, a third, idle ENI, and secrets everywhere the bundle looks."""
    node = Node(vpc, "bundled", type="m5.large", subnet="a", environment=ENVIRONMENT)
    for path, (text, _) in PLANTED.items():
        write(node, path, text)
    write(node, "/etc/cni/net.d/10-aws.conflist", '{"name":"aws-cni","plugins":[{"type":"aws-cni"}]}\n')
    node.agent.environment.pop("AWS_SECRET_ACCESS_KEY")  # the simulator's own secret is needed
    node.agent.start()
    node.add_pods(12)
    wait_for(lambda: len(node.enis()) == 3, "the warm ENI", 30)
    node.wait_quiet()
    yield node
    node.discard()


# MARK: a healthy node


@pytest.mark.timed
def test_what_is_in_it(node: Node) -> None:
    bundle = collect(node)
    print(f"{bundle.seconds:.1f} s, {bundle.size} bytes, {len(bundle.files)} entries")
    assert bundle.seconds < 30
    assert re.fullmatch(rf"{OUT}/eks_{node.instance.instance_id}_\d{{4}}-\d\d-\d\d_\d{{4}}-UTC_[0-9.]+\.tar\.gz", bundle.path)
    assert bundle.path == f"{OUT}/{bundle.stem}.tar.gz"
    assert left(node, OUT) == []
    # Each entry is in the index, and each index entry exists.
    parts = bundle.index["parts"]
    assert {part["path"] for part in parts if part["bytes"] or part["outcome"] == "collected"} == set(bundle.files) - {
        "index.json", "index.txt"}
    assert all(len(bundle.files[part["path"]]) == part["bytes"] for part in parts if part["path"] in bundle.files)
    assert all(part["reason"] for part in parts if part["outcome"] != "collected")
    # The state, and its differences from the wanted state.
    status = json.loads(bundle.text("ipamd/status.json"))
    assert status["agent"]["instance"] == node.instance.instance_id and status["pool"]["assigned"] == 12
    assert len(json.loads(bundle.text("ipamd/ipam.json"))["allocations"]) == 12
    answers = {answer["id"]: answer for answer in json.loads(bundle.text("ipamd/doctor.json"))["checks"]}
    assert answers["node-network"]["verdict"] == "ok" and answers["agent-serves"]["verdict"] == "ok"
    assert all(eni["eni"] in bundle.text("ipamd/enis.json") for eni in node.enis())
    assert "awscni_assigned_ip_addresses 12" in bundle.text("ipamd/metrics.txt")
    assert "WARM_ENI_TARGET=1" in bundle.text("ipamd/agent-environment.txt")
    # The kernel's side.
    assert "lookup 20512" in bundle.text("networking/ip-rule.txt") and "1536" in bundle.text("networking/ip-rule.txt")
    assert all(pod.address in bundle.text("networking/ip-route.txt") for pod in node.pods)
    assert "vpc-cni" in bundle.text("networking/nftables.txt") and "AWS-SNAT" in bundle.text("networking/iptables-nft-save.txt")
    assert "aws-cni" in bundle.text("cni/10-aws.conflist")
    assert "DEBUG" in bundle.text("var_log/aws-routed-eni/ipamd.log").upper()
    assert "net.ipv4.ip_forward = 1" in bundle.text("sysctls/sysctl_all.txt")
    text = bundle.text("index.txt")
    assert text.startswith(f"Support bundle of {node.instance.instance_id}") and bundle.index["redactions"] > 20
    assert "secrets replaced" in bundle.done.stderr and "collecting: " in bundle.done.stderr


def test_no_planted_secret_gets_in(node: Node) -> None:
    bundle = collect(node, "--quiet")
    assert bundle.done.stderr == ""
    whole = b"\n".join(bundle.files.values())
    for path, (_, secrets) in PLANTED.items():
        for secret in secrets:
            # The machine's process list shows the tests' own arguments.
            assert secret.encode() not in whole, (path, secret)
    assert ENVIRONMENT["DATABASE_PASSWORD"].encode() not in whole
    assert "DATABASE_PASSWORD=[redacted field]" in bundle.text("ipamd/agent-environment.txt")
    # Text that is no secret stays readable.
    assert "Nov 24 10:00:04 n app: [redacted aws-key-id] and [redacted aws-key-id]" in bundle.text("var_log/messages")
    assert "name: kubelet" in bundle.text("kubelet/kubeconfig") and 'username = "u"' in bundle.text("containerd/planted.toml")
    assert bundle.part("var_log/messages")["redacted"]["login"] >= 3


def test_escaped_secrets_do_not_get_in(node: Node) -> None:
    """The escaped forms in which logs and answers contain a secret."""
    lines = {
        "planted%2Furl": "GET /?next=https%3A%2F%2Fb%2F%3FX-Amz-Signature%3Dplanted%252Furl",
        "planted-quotes": r'{"msg":"{\u0022password\u0022:\u0022planted-quotes\u0022}"}',
        "planted-colour": "\x1b[31mpassword\x1b[0m=planted-colour",
        "JalrXUtnFEMI7K7MDENG+bPxRfiCYzPLANTED123": "got /JalrXUtnFEMI7K7MDENG+bPxRfiCYzPLANTED123 for it",
        "planted-xml": "<SecretAccessKey>planted-xml</SecretAccessKey>",
        "cGFzc3dvcmQ9cGxhbnRlZA": "data cGFzc3dvcmQ9cGxhbnRlZA==",
    }
    write(node, "/var/log/messages", "\n".join(["first", *lines.values(), "last"]) + "\n")
    try:
        text = collect(node, "--quiet").text("var_log/messages")
    finally:
        write(node, "/var/log/messages", PLANTED["/var/log/messages"][0])
    assert all(secret not in text for secret in lines), text
    assert text.startswith("first\n") and text.endswith("\nlast\n") and text.count("\n") == len(lines) + 2


def test_the_agents_logs_come_before_other_files(node: Node) -> None:
    """The agent's log folder has 3,000 files, and 60 more of 24 MiB, which alone exceed the bundle's limit."""
    folder = "/var/log/aws-routed-eni"
    node.instance.run(["sh", "-ec", f"cd {folder}; for n in $(seq 3000); do : >a$n.log; done; "
                       "for n in $(seq 60); do truncate -s 24M b$n.log; done"])
    try:
        bundle = collect(node, "--quiet")
    finally:
        node.instance.run(["sh", "-c", f"cd {folder}; rm -f a*.log b*.log"])
    assert "ready" in bundle.text("var_log/aws-routed-eni/ipamd.log")
    assert "\"msg\":\"done\"" in bundle.text("var_log/aws-routed-eni/plugin.log")
    assert any(note.startswith(f"Left out of {folder}: 3002 files") for note in bundle.index["notes"]), bundle.index["notes"]


def test_without_dns_nothing_waits_for_it(node: Node) -> None:
    """Three name servers do not answer: the outward pings end, and the other parts do not wait."""
    # On some machines the file is a link to a file of somebody else: this run mounts its own over it in its own mount namespace.
    write(node, "/run/resolv.conf", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nsearch a.test b.test\n")
    script = "mount --bind /run/resolv.conf $(readlink -f /etc/resolv.conf); exec \"$0\" support --quiet --output=-"
    done = node.instance.run(["unshare", "-m", "--propagation", "private", "sh", "-ec", script, str(paths.BINARY)], text=False)
    parts = {part["path"]: part for part in json.loads(unpack(done.stdout)[1]["index.json"])["parts"]}
    for name in ("amazon", "ecr"):
        ping = parts[f"networking/ping-{name}.txt"]
        assert ping["outcome"] in ("failed", "absent") and float(ping["seconds"]) < 4, ping
    assert b"nameserver 192.0.2.1" in unpack(done.stdout)[1]["networking/resolv.conf"]


def test_it_changes_nothing(vpc: Simulator, node: Node) -> None:
    looks = [["ip", "-d", "link"], ["ip", "rule"], ["ip", "route", "show", "table", "all"], ["nft", "-s", "list", "ruleset"],
             ["ls", "-lR", "/etc/cni", "/opt/cni"], ["cat", paths.CHECKPOINT]]
    see = lambda: [node.instance.run(look).stdout.splitlines() for look in looks]  # noqa: E731
    before = see()
    collect(node, "--quiet")
    for look, was, now in zip(looks, before, see()):
        assert now == was, look
    assert vpc.drops()["total"] == 0


def test_a_long_log_and_a_long_line(node: Node) -> None:
    """The bundle has the end of a long log; a line of 100 MB neither costs memory nor brings a secret in."""
    write(node, "/run/fill", "import sys\n"
          "with open('/var/log/syslog', 'wb') as out:\n"
          "    for _ in range(100): out.write(b'DB_PASSWORD=planted-long ' * 41943)\n"
          "    out.write(b'\\nthe last line\\n')\n"
          "with open('/var/log/cron', 'wb') as out:\n"
          "    for n in range(1200000): out.write(b'line %d of a long log file\\n' % n)\n")
    node.instance.run(["python3", "/run/fill"])
    node.instance.run(["mkdir", "-p", OUT])
    try:
        process = node.instance.popen([str(paths.BINARY), "support", "--quiet", f"--output={OUT}"], stdout=subprocess.PIPE)
        memory = 0

        def ended() -> bool:
            # The peak of the program itself, not of the programs that it runs.
            nonlocal memory
            with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as status:
                memory = max([memory, *(int(line.split()[1]) for line in status if line.startswith("VmHWM"))])
            return process.poll() is not None

        wait_for(ended, "the bundle", 60)
        assert process.stdout is not None and process.returncode == 0
        path = process.stdout.read().decode().strip()
        process.stdout.close()
        _, files = unpack(node.instance.run(["cat", path], text=False).stdout)
        node.instance.run(["rm", path])
    finally:
        node.instance.run(["rm", "-f", "/var/log/syslog", "/var/log/cron"])
    assert b"planted-long" not in b"".join(files.values())
    assert files["var_log/syslog"].endswith(b"the last line\n") and len(files["var_log/syslog"]) < 200_000
    assert files["var_log/cron"].startswith(b"[the first ") and files["var_log/cron"].endswith(b"line 1199999 of a long log file\n")
    assert len(files["var_log/cron"]) <= (24 << 20) + 100, "and the line that says what is left out"
    parts = {part["path"]: part for part in json.loads(files["index.json"])["parts"]}
    assert parts["var_log/syslog"]["outcome"] == parts["var_log/cron"]["outcome"] == "partial"
    print(f"{memory} kB resident at most")
    assert 0 < memory < 100 * 1024, f"{memory} kB resident"


# MARK: something is missing


@pytest.mark.timed
def test_without_an_agent_without_imds(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("dead", type="m5.large", subnet="a")
    node.agent.start()
    node.add_pods(2)
    node.agent.kill()
    vpc.imds(False)
    try:
        bundle = collect(node)
    finally:
        vpc.imds(True)
    assert bundle.seconds < 30
    assert re.fullmatch(r"eks_[A-Za-z0-9.-]+_.*", bundle.stem)
    assert bundle.part("ipamd/status.json")["outcome"] == "failed"
    assert "connection refused" in bundle.part("ipamd/status.json")["reason"]
    assert bundle.part("ipamd/agent-environment.txt")["outcome"] == "absent"
    answers = {answer["id"]: answer for answer in json.loads(bundle.text("ipamd/doctor.json"))["checks"]}
    assert answers["agent-serves"]["verdict"] == answers["imds"]["verdict"] == "broken"
    assert len(json.loads(bundle.text("ipamd/ipam.json"))["allocations"]) == 2
    assert bundle.part("containerd/containers.txt")["outcome"] in ("failed", "absent")


@pytest.mark.parametrize("programs", [["iptables"], ["tar", "gzip"], ["ctr", "containerd"], ["nft", "ip", "ss"]])
def test_without_programs_of_the_node(node: Node, programs: list[str]) -> None:
    """The bundle needs none of them: an empty file that cannot be executed is mounted over each."""
    write(node, "/run/nothing")
    pattern = " ".join(f"/usr/sbin/{name}* /usr/bin/{name}* /sbin/{name} /bin/{name}" for name in programs)
    hidden = node.instance.run(["sh", "-c", f"ls {pattern} 2>/dev/null | xargs -r readlink -f | sort -u"], check=False).stdout.split()
    assert hidden
    # In the run's own mount namespace.
    script = "for file in $HIDDEN; do mount --bind /run/nothing $file; done; exec \"$0\" support --quiet --output=-"
    done = node.instance.run(["unshare", "-m", "--propagation", "private", "sh", "-ec", script, str(paths.BINARY)],
                             env={"HIDDEN": " ".join(hidden)}, text=False)
    _, files = unpack(done.stdout)
    parts = json.loads(files["index.json"])["parts"]
    gone = [part for part in parts if part["origin"].split()[0] in programs]
    assert all(part["outcome"] == "absent" and ("has no program" in part["reason"] or "does not exist" in part["reason"]) for part in gone), gone
    assert json.loads(files["ipamd/status.json"])["pool"]["assigned"] == 12


def test_options_of_the_existing_collector(node: Node) -> None:
    # As in a container: another name of the binary. The tests of the host's script are in test_node_mode.
    node.instance.run(["cp", str(paths.BINARY), paths.SUPPORT])
    bundle = collect(node, "--ignore_introspection=true", "--ignore_metrics=true", "--eks_hybrid=true", binary=paths.SUPPORT)
    assert not {"ipamd/status.json", "ipamd/metrics.txt"} & {part["path"] for part in bundle.index["parts"]}
    assert len(bundle.index["notes"]) == 2
    assert json.loads(bundle.text("ipamd/version.json"))["version"], "its own modes are found under that name"
    helped = node.instance.run([paths.SUPPORT, "--help"])
    assert "usage: vpc-cni support" in helped.stdout and "--eks_hybrid" in helped.stdout
    for bad, words in (("--ignore_metrics=perhaps", "BOOL is one of true, false"), ("--outptu=/x", "unknown option --outptu=/x"),
                       ("more", "unexpected argument")):
        refused = node.instance.run([paths.SUPPORT, bad], check=False)
        assert refused.returncode == 64 and words in refused.stderr, refused.stderr


# MARK: no archive


def refused(node: Node, *words: str, status: int = 1, output: str = OUT) -> str:
    done = node.instance.run([str(paths.BINARY), "support", f"--output={output}"], check=False)
    assert done.returncode == status and done.stdout == "", done
    assert all(word in done.stderr for word in words), done.stderr
    return str(done.stderr)


def test_folders_that_cannot_be_used(node: Node) -> None:
    node.instance.run(["sh", "-ec", f"mkdir -p {OUT} /run/real /run/small /run/fixed; rm -f /run/link; ln -s /run/real /run/link; "
                       "mount -t tmpfs -o size=64k small /run/small; mount -t tmpfs -o ro fixed /run/fixed"])
    try:
        refused(node, "/run/link: a symbolic link; name the folder that it leads to with --output", output="/run/link")
        refused(node, "/run/link: a symbolic link", output="/run/link/")
        refused(node, "write into /run/fixed:", output="/run/fixed")
        refused(node, "0 MiB are free there and 128 MiB must be; choose another folder", output="/run/small")
        refused(node, "write into /run/none: no such file or directory", output="/run/none")
        assert left(node, "/run/real") == left(node, "/run/small") == left(node, "/run/fixed") == []
        # A file or a link that already has the name is kept.
        node.instance.run(["ln", "-s", "/run/victim", f"{OUT}/a.tar.gz"])
        refused(node, "the file exists already", output=f"{OUT}/a.tar.gz")
        assert left(node, OUT) == ["a.tar.gz"] and "victim" not in left(node, "/run")
    finally:
        node.instance.run(["sh", "-c", f"rm -f {OUT}/a.tar.gz /run/link; umount /run/small; umount /run/fixed"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(node: Node, number: signal.Signals) -> None:
    node.instance.run(["mkdir", "-p", OUT])
    # A program that does not exit on its own, so that the signal arrives in the middle of the run.
    write(node, "/run/endless", "#!/bin/sh\necho started > /run/started\ntrap '' TERM\nwhile :; do read x < /run/pipe; done\n")
    node.instance.run(["sh", "-c", "rm -f /run/started /run/pipe; mkfifo /run/pipe; chmod +x /run/endless"])
    target = node.instance.run(["readlink", "-f", "/usr/bin/dmesg"]).stdout.strip()
    script = f"mount --bind /run/endless {target}; exec \"$0\" support --quiet --output={OUT}"
    process = node.instance.popen(["unshare", "-m", "--propagation", "private", "sh", "-ec", script, str(paths.BINARY)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: "started" in left(node, "/run"), "the program runs", 20)
        assert [name for name in left(node, OUT) if name.startswith(".eks_")], "under a name of its own meanwhile"
        process.send_signal(number)
        said = process.communicate(timeout=patient(20))
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number and said[0] == b"" and b"interrupted, no archive written" in said[1], said
    assert left(node, OUT) == []
    assert node.instance.run(["pgrep", "-f", "/run/endless|bin/dmesg -T"], check=False).stdout == "", "its child has ended"


def test_only_root_is_served(node: Node) -> None:
    done = subprocess.run([*AS_NOBODY, str(paths.BINARY), "support"], capture_output=True, text=True, check=False)
    assert done.returncode == 77 and done.stderr == "vpc-cni support: only root can read the files of the bundle; run it with sudo\n"


def test_standard_output_and_a_reader_that_goes_away(node: Node) -> None:
    done = node.instance.run([str(paths.BINARY), "support", "--output=-", "--quiet"], text=False)
    assert gzip.decompress(done.stdout) and "index.json" in unpack(done.stdout)[1]
    process = node.instance.popen([str(paths.BINARY), "support", "--output=-", "--quiet"], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(timeout=patient(60)) == 1 and b"standard output: broken pipe" in said.lower(), said
    process.stderr.close()
