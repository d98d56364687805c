"""The command line. It imports moto only for `up`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import registry, tables
from .channel import CommandError, ask


def main() -> int:
    words = sys.argv[1:]
    if "--" in words:  # the words after `--` are the command's own
        cut = words.index("--")
        words, command = words[:cut], words[cut + 1:]
    else:
        command = []
    arguments = _parser().parse_args(words)
    try:
        if arguments.action is _exec:
            arguments.command = [*arguments.command, *command]
        return arguments.action(arguments) or 0
    except (registry.NotRunning, CommandError, ValueError) as error:
        print(f"vpcsim: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="vpcsim", description="A VPC on one machine: EC2, IMDS and a network that judges.")
    top.add_argument("--name", default=registry.DEFAULT_NAME, help="which simulated VPC (default $VPCSIM_NAME or vpc)")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(path: str, action: Callable[..., Any], text: str, parent: Any = commands) -> argparse.ArgumentParser:
        parser = parent.add_parser(path, help=text, description=text)
        parser.add_argument("--name", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        parser.set_defaults(action=action)
        return parser

    def group(path: str, text: str) -> Any:
        return commands.add_parser(path, help=text, description=text).add_subparsers(required=True, metavar="COMMAND")

    def simple(path: str, command: str, text: str, parent: Any = commands, show: Callable[[Any], None] | None = None,
               **fields: Any) -> argparse.ArgumentParser:
        """A command that passes its options on unchanged; `--json` shows the raw result."""

        def act(arguments: argparse.Namespace) -> None:
            given = {name: value for name, value in vars(arguments).items()
                     if name not in ("action", "name", "json") and value is not None}
            if hasattr(arguments, "instance_name"):
                given["name"] = given.pop("instance_name")
            for field in ("fault_action", "bucket_action", "latency_action", "iam_action"):
                if field in given:
                    given["action"] = given.pop(field)
            result = ask(arguments.name, command, **{**fields, **given})
            if arguments.json or show is None:
                if result is not None or arguments.json:
                    print(json.dumps(result, indent=2))
            else:
                show(result)

        parser = add(path, act, text, parent)
        parser.add_argument("--json", action="store_true", help="the result as JSON")
        return parser

    up = add("up", _up, "start a simulated VPC (in the foreground, unless --background)")
    up.add_argument("--state", type=Path, help="directory for its files (default /tmp/vpcsim/NAME)")
    up.add_argument("--background", action="store_true", help="return as soon as it is ready")
    up.add_argument("--lifeline", action="store_true", help="end when standard input ends")
    up.add_argument("--region", default="us-west-2")
    up.add_argument("--vpc-cidr", default="192.168.0.0/16")
    up.add_argument("--family", default="ipv4", choices=("ipv4", "dual"), help="dual: the VPC and its subnets have IPv6, too")
    up.add_argument("--router-lifetime", type=float, default=1800.0, help="seconds, in router advertisements of IPv6")
    up.add_argument("--subnet", action="append", metavar="NAME=CIDR[@ZONE]", help="repeatable; replaces a and b")
    up.add_argument("--cluster", default="vpcsim", help="the cluster's name in tags")
    up.add_argument("--throttle", action="store_true", help="EC2's request buckets on")
    up.add_argument("--latency", action="append", default=[], metavar="ACTION=SECONDS", help="repeatable; ACTION may be a glob")
    up.add_argument("--verify-signatures", action="store_true", help="signatures and IAM policies are checked by moto")
    up.add_argument("--nat-gateway", action="store_true", help="any address of the VPC may reach the internet")
    up.add_argument("--imds-lag", type=float, default=0.0, help="seconds that IMDS is behind EC2")
    up.add_argument("--attach-delay", type=float, default=0.0, help="seconds an attachment is 'attaching'")
    up.add_argument("--detach-delay", type=float, default=0.0, help="seconds an attachment is 'detaching'")
    up.add_argument("--credentials-lifetime", type=float, default=21600.0, help="seconds the role's credentials are valid")

    down = add("down", _down, "end it and remove every process, namespace, mount and file of it")
    down.add_argument("--all", action="store_true", help="every simulated VPC of this machine")
    add("status", _status, "the ready file: endpoints, names, environment")
    add("list", lambda _: print("\n".join(registry.names())), "the simulated VPCs of this machine")

    instance = group("instance", "add and remove instances")
    new = simple("add", "instance.add", "a new instance, up and with its primary ENI", instance, tables.instance)
    new.add_argument("instance_name", metavar="NAME")
    new.add_argument("--type", default="m5.large")
    new.add_argument("--subnet", default="a")
    new.add_argument("--rp-filter", type=int, default=1, help="net.ipv4.conf.default.rp_filter in the instance")
    new.add_argument("--imds-v1", action="store_true", help="IMDS answers without a token, too")
    new.add_argument("--hop-limit", type=int, default=2, help="of IMDS's token answers")
    new.add_argument("--no-ipv6", action="store_true", default=None, help="no IPv6 address, though the subnet has IPv6")
    simple("rm", "instance.rm", "terminate an instance", instance).add_argument("instance_name", metavar="NAME")
    simple("instances", "instances", "the instances", show=tables.instances)
    simple("enis", "enis", "the network interfaces", show=tables.interfaces).add_argument("instance", nargs="?")
    counts = simple("counts", "counts", "EC2 calls by action", show=tables.counts)
    counts.add_argument("--reset", action="store_true")
    drops = simple("drops", "drops", "what the fabric dropped", show=tables.drops)
    drops.add_argument("--reset", action="store_true")
    internet = simple("internet", "internet", "what the internet stand-in saw", show=tables.internet)
    internet.add_argument("--reset", action="store_true")

    simple("reverse", "prefixes.reverse", "EC2 lists the prefixes of an interface the other way round").add_argument("interface")

    fault = group("fault", "put faults in the way of requests")
    more = simple("add", "fault.add", "a fault for an EC2 action, sts:ACTION or imds:/latest/PATH (globs)", fault)
    more.add_argument("fault_action", metavar="ACTION")
    more.add_argument("--code")
    more.add_argument("--message")
    more.add_argument("--http", type=int)
    more.add_argument("--times", type=int, help="-1: until cleared")
    more.add_argument("--when", choices=("before", "after", "answered"),
                      help="the act; after: it happens, its answer is lost; answered: see --kill")
    more.add_argument("--delay", type=float)
    more.add_argument("--caller", help="only calls of this instance")
    more.add_argument("--body", help="instead of an error document")
    more.add_argument("--size", type=int, help="the body is padded to so many bytes")
    more.add_argument("--truncate", type=int, help="only so many bytes of the body are sent")
    more.add_argument("--drop", action="store_true", default=None, help="the connection ends without an answer")
    more.add_argument("--only-delay", action="store_true", default=None)
    more.add_argument("--kill", type=int, metavar="PID", help="this process is killed then")
    simple("clear", "fault.clear", "take all faults away", fault)
    simple("list", "fault.list", "the faults that wait", fault)
    simple("met", "fault.met", "the faults that a request has met whose end is not reached", fault)

    throttle = group("throttle", "EC2's request buckets")
    simple("on", "throttle", "switch them on, full", throttle, on=True)
    simple("off", "throttle", "switch them off", throttle, on=False)
    bucket = simple("bucket", "bucket", "give one action a bucket of another size", throttle)
    bucket.add_argument("bucket_action", metavar="ACTION")
    bucket.add_argument("capacity", type=float)
    bucket.add_argument("refill", type=float, help="tokens per second")

    latency = simple("latency", "latency", "make an action slower; 0 takes it back")
    latency.add_argument("latency_action", metavar="ACTION")
    latency.add_argument("seconds", type=float)
    delay = simple("delay", "delay", "how long attachments are attaching or detaching")
    delay.add_argument("--attach", type=float)
    delay.add_argument("--detach", type=float)

    volumes = simple("volumes", "volumes", "attach volumes: slots that no interface can have on types where they share them")
    volumes.add_argument("instance")
    volumes.add_argument("count", type=int)

    imds = group("imds", "the instance metadata service")
    lag = simple("lag", "imds.lag", "how far IMDS is behind EC2; NAME or '*'", imds)
    lag.add_argument("instance")
    lag.add_argument("seconds", type=float)
    for word, on in (("on", True), ("off", False)):
        simple(word, "imds.switch", f"metadata service {word}", imds, on=on).add_argument("instance", nargs="?", default="*")
    for word, required in (("v2", True), ("v1", False)):
        simple(word, "imds.tokens", f"tokens {'required' if required else 'optional'}", imds,
               required=required).add_argument("instance", nargs="?", default="*")
    simple("forget-tokens", "imds.forget", "every token is void", imds)
    rotate = simple("rotate", "credentials.rotate", "new credentials on the next request", imds)
    rotate.add_argument("--lifetime", type=float)

    subnet = group("subnet", "add, exhaust and fragment subnets")
    simple("list", "subnets", "the subnets and what is free", subnet, tables.subnets)
    newer = simple("add", "subnet.add", "a subnet", subnet)
    newer.add_argument("instance_name", metavar="NAME")
    newer.add_argument("cidr")
    newer.add_argument("--zone", default="a")
    newer.add_argument("--no-ipv6", action="store_true", default=None, help="without IPv6 CIDR, though the VPC has one")
    take = simple("take", "subnet.take", "someone else takes all free addresses but --leave", subnet)
    take.add_argument("subnet")
    take.add_argument("--leave", type=int, default=0)
    fragment = simple("fragment", "subnet.fragment", "someone else takes one address of every free /28, or /80", subnet)
    fragment.add_argument("subnet")
    fragment.add_argument("--family", type=int, default=4, choices=(4, 6))
    fragment.add_argument("--leave", type=int, default=0, help="so many free blocks")
    simple("free", "subnet.free", "undo take and fragment", subnet).add_argument("subnet")
    reserve = simple("reserve", "subnet.reserve", "a CIDR reservation", subnet)
    reserve.add_argument("subnet")
    reserve.add_argument("cidr")
    reserve.add_argument("--type", default="prefix", choices=("prefix", "explicit"))

    cidr = group("cidr", "add and remove CIDRs of the VPC")
    simple("list", "cidrs", "the VPC's CIDRs, the primary one first", cidr, show=lambda found: print("\n".join(found)))
    simple("add", "cidr.add", "a secondary CIDR for the VPC", cidr).add_argument("cidr")
    simple("remove", "cidr.remove", "take a secondary CIDR away; no subnet may be in it", cidr).add_argument("cidr")

    router = group("router", "the IPv6 router of the subnets")
    simple("lifetime", "router.lifetime", "advertise another lifetime, at once; 0: no default router", router).add_argument(
        "seconds", type=float)

    iam = group("iam", "deny and allow actions")
    simple("deny", "iam.deny", "every call of ACTION is refused (globs)", iam).add_argument("iam_action", metavar="ACTION")
    simple("allow", "iam.allow", "take a denial back", iam).add_argument("iam_action", metavar="ACTION")
    simple("list", "iam", "what is denied", iam)

    execute = add("exec", _exec, "run a command in an instance, in @fabric or in @internet; its status is passed on")
    execute.add_argument("instance")
    execute.add_argument("command", nargs="*")
    add("shell", _shell, "a shell in an instance").add_argument("instance")
    return top


def _up(arguments: argparse.Namespace) -> int:
    from .start import up

    return up(arguments)


def _down(arguments: argparse.Namespace) -> int:
    from .cleanup import remove

    names = registry.names() if arguments.all else [arguments.name]
    removed = [name for name in names if remove(name)]
    print("\n".join(f"removed {name}" for name in removed) or "nothing to remove")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    print(json.dumps(registry.ready(arguments.name), indent=2))
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    if not arguments.command:
        raise ValueError(f"what is to run in {arguments.instance}? write it after --")
    network, mounts = registry.namespace_files(arguments.name, arguments.instance)
    try:
        os.environ.update(registry.ready(arguments.name)["environment"])
    except registry.NotRunning:
        pass  # the daemon is gone; its namespaces can still be inspected
    words = registry.enter_command(network, mounts) + arguments.command
    os.execvp(words[0], words)


def _shell(arguments: argparse.Namespace) -> int:
    arguments.command = [os.environ.get("SHELL", "/bin/sh")]
    return _exec(arguments)
