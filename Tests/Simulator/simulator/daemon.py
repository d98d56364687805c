"""The simulated VPC's process: it builds everything, reports that it is ready, and removes everything at the end."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import cleanup, moto_start, namespaces, registry
from .fabric import EC2_ADDRESS, IMDS_ADDRESS, IMDS_ADDRESS6, INTERNET_ADDRESS, INTERNET_ADDRESS6, PEER_ADDRESS
from .http_listener import HTTPListener
from .settings import Settings


def serve(settings: Settings, state: Path | None, lifeline: bool = False) -> int:
    """Runs until SIGTERM or SIGINT, or with `lifeline` until standard input ends.

    Prints `ready` and writes the ready file once every service answers.
    """
    home = _make_home(settings.name, state)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    if lifeline:
        threading.Thread(target=_await_end_of_input, args=(stop,), daemon=True).start()
    directory = home.resolve() / "ns"
    try:
        ready, closers = _build(settings, home, directory)
        (home / "environment").write_text(
            "".join(f"export {name}={value}\n" for name, value in ready["environment"].items()))
        partial = home / "ready.part"
        partial.write_text(json.dumps(ready, indent=2) + "\n")
        partial.rename(home / "ready")
        print("ready", flush=True)
        stop.wait()
    except Exception as error:
        print(f"vpcsim: {error}", file=sys.stderr, flush=True)
        if os.environ.get("VPCSIM_TRACE"):
            raise
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (home / "ready").unlink(missing_ok=True)
        for close in reversed(locals().get("closers", [])):
            close()
        cleanup.remove(settings.name)
    return 0


def _await_end_of_input(stop: threading.Event) -> None:
    # not sys.stdin: a thread that waits for its lock makes the interpreter abort at exit
    while os.read(0, 4096):
        pass
    stop.set()


def _make_home(name: str, state: Path | None) -> Path:
    home = registry.home(name)
    registry.ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    if home.exists() or home.is_symlink():
        try:
            recorded = json.loads((home / "pid").read_text())
        except (OSError, json.JSONDecodeError):
            recorded = None
        if recorded and cleanup.process_started(recorded["pid"]) == recorded["started"]:
            raise SystemExit(f"vpcsim: the simulated VPC {name!r} is up already (process {recorded['pid']})")
        cleanup.remove(name)
        registry.ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    if state is None:
        home.mkdir()
    else:
        state.mkdir(parents=True, exist_ok=True)
        home.symlink_to(state.resolve())
    (home / "pid").write_text(json.dumps({"pid": os.getpid(), "started": cleanup.process_started(os.getpid())}))
    return home


def _build(settings: Settings, home: Path, directory: Path) -> tuple[dict[str, Any], list[Any]]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    os.environ["MOTO_ACCOUNT_ID"] = "123456789012"
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "simulator")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "simulator")
    moto_start.lighten()
    import moto.settings

    moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = 0 if settings.verify_signatures else float("inf")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from .control import Control
    from .gate import Gate
    from .imds import MetadataService
    from .internet import Internet
    from .world import World

    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", f"vpcsim-{settings.name}", str(directory)], check=True)
    subprocess.run(["mount", "--make-private", str(directory)], check=True)
    world = World(settings, directory)
    gate = Gate(DomainDispatcherApplication(create_backend_app), settings.region, world.caller, world.credentials,
                settings.verify_signatures)
    gate.buckets.switch(settings.throttle)
    for action, seconds in settings.latency.items():
        gate.set_latency(action, seconds)
    imds = MetadataService(world.metadata, gate.faults)
    dual = settings.family == "dual"
    internet = Internet(directory / "@internet.net", dual)
    host_socket = namespaces.listen_tcp("127.0.0.1", 0)
    host_port = host_socket.getsockname()[1]
    listeners = [
        HTTPListener(host_socket, gate.respond, "AmazonEC2"),
        HTTPListener(world.fabric.run(lambda: namespaces.listen_tcp(EC2_ADDRESS, 80)), gate.respond, "AmazonEC2"),
        *(HTTPListener(world.fabric.run(lambda at=at: namespaces.listen_tcp(at, 80)), imds.respond, "EC2ws")
          for at in (IMDS_ADDRESS, *([IMDS_ADDRESS6] if dual else []))),
    ]
    gate.warm_up()
    moto_start.settle()
    control = Control(home / "control.sock", world, gate, imds, internet, directory)
    ready = {
        "name": settings.name, "pid": os.getpid(), "state": str(home.resolve()), "region": settings.region,
        "ec2_endpoint": f"http://{EC2_ADDRESS}", "imds_endpoint": f"http://{IMDS_ADDRESS}",
        "host_endpoint": f"http://127.0.0.1:{host_port}", "operator": world.credentials.operator,
        "internet": INTERNET_ADDRESS, "peer": PEER_ADDRESS, "vpc_id": world.vpc.id, "vpc_cidr": settings.vpc_cidr,
        "security_group": world.group.id, "subnets": world.subnets.ids, "role_arn": world.credentials.role_arn,
        "environment": {"AWS_REGION": settings.region, "AWS_ENDPOINT_URL": f"http://{EC2_ADDRESS}",
                        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{IMDS_ADDRESS}"},
        "settings": asdict(settings),
    }
    if dual:
        ready |= {"vpc_cidr6": settings.vpc_cidr6, "imds_endpoint6": f"http://[{IMDS_ADDRESS6}]", "internet6": INTERNET_ADDRESS6}
    return ready, [world.fabric.close, *(each.close for each in listeners), control.close]
