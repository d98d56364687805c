"""The plugin and agent of amazon-vpc-cni-k8s as far as their contract defines them: their gRPC messages and their use of `ip`.

They replace the real programs, which need an image of their own. During every upgrade there is a node with a replaced
plugin and an old agent, or the other way round.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import paths
from .pod import Pod
from .waiting import wait_for

from simulator.client import Instance

STRING, BOOL, INT32 = 9, 8, 5
METADATA = {1: ("IPv4Addr", STRING), 2: ("IPv6Addr", STRING), 3: ("DeviceNumber", INT32), 4: ("RouteTableId", INT32)}
# The contract's messages; they have no fields of our own.
MESSAGES: dict[str, dict[int, tuple[str, Any]]] = {
    "IPAllocationMetadata": METADATA,
    "AddNetworkRequest": {
        1: ("K8S_POD_NAME", STRING), 2: ("K8S_POD_NAMESPACE", STRING), 3: ("K8S_POD_INFRA_CONTAINER_ID", STRING),
        4: ("Netns", STRING), 5: ("IfName", STRING), 6: ("NetworkName", STRING), 7: ("ContainerID", STRING),
        8: ("ClientVersion", STRING), 9: ("RequiresMultiNICAttachment", BOOL)},
    "AddNetworkReply": {
        1: ("Success", BOOL), 2: ("IPAllocationMetadata", "IPAllocationMetadata"), 5: ("UseExternalSNAT", BOOL),
        6: ("VPCv4CIDRs", [STRING]), 7: ("PodVlanId", INT32), 13: ("NetworkPolicyMode", STRING)},
    "DelNetworkRequest": {
        1: ("K8S_POD_NAME", STRING), 2: ("K8S_POD_NAMESPACE", STRING), 3: ("K8S_POD_INFRA_CONTAINER_ID", STRING),
        5: ("Reason", STRING), 6: ("IfName", STRING), 7: ("NetworkName", STRING), 8: ("ContainerID", STRING),
        9: ("ClientVersion", STRING), 10: ("K8S_POD_UID", STRING)},
    "DelNetworkReply": {
        1: ("Success", BOOL), 2: ("IPAllocationMetadata", "IPAllocationMetadata"), 4: ("PodVlanId", INT32),
        6: ("NetworkPolicyMode", STRING)},
}


def messages() -> dict[str, Any]:
    """The classes of the messages, built on first use."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="reference.proto", package="rpc", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=1)
            if isinstance(kind, str):
                added.type, added.type_name, added.label = 11, f".rpc.{kind}", 3
            elif isinstance(kind, list):
                added.type, added.label = kind[0], 3
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"rpc.{name}")) for name in MESSAGES}


def call(method: str, **fields: Any) -> dict[str, Any]:
    """Calls an agent in the namespaces of this process; returns the reply, or the status as `code` and `details`."""
    import grpc
    from google.protobuf.json_format import MessageToDict

    kinds = messages()
    with grpc.insecure_channel(f"unix:{paths.AGENT_SOCKET}") as channel:
        invoke = channel.unary_unary(
            f"/rpc.CNIBackend/{method}", request_serializer=kinds[f"{method}Request"].SerializeToString,
            response_deserializer=kinds[f"{method}Reply"].FromString)
        try:
            reply = invoke(kinds[f"{method}Request"](**fields), timeout=30)
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": error.details()}
    return MessageToDict(reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def serve(config: dict[str, Any]) -> None:
    """Runs the agent. It has addresses from a list, `addresses`: [{ip, device, table}], and pods read from a checkpoint,
    `known`: the same with `key`, network, container and interface. It ends with its standard input."""
    import grpc

    kinds = messages()
    free = list(config["addresses"])
    used: dict[tuple[str, str, str], dict[str, Any]] = {tuple(entry["key"]): entry for entry in config["known"]}

    def check(request: Any, context: Any) -> tuple[str, str, str]:
        if request.ClientVersion != "":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f'wrong client version "{request.ClientVersion}" (!= "")')
        return request.NetworkName, request.ContainerID, request.IfName

    def metadata(entry: dict[str, Any]) -> Any:
        return kinds["IPAllocationMetadata"](
            **{"IPv6Addr" if ":" in entry["ip"] else "IPv4Addr": entry["ip"]}, DeviceNumber=entry["device"], RouteTableId=entry["table"])

    def add(request: Any, context: Any) -> Any:
        key = check(request, context)
        if not all(key) or (key not in used and not free):
            return kinds["AddNetworkReply"](Success=False)
        entry = used.setdefault(key, free[0])
        if entry in free:
            free.remove(entry)
        return kinds["AddNetworkReply"](
            Success=True, IPAllocationMetadata=[metadata(entry)], VPCv4CIDRs=["10.0.0.0/16"])

    def delete(request: Any, context: Any) -> Any:
        entry = used.pop(check(request, context), None)
        if entry is None:
            context.abort(grpc.StatusCode.UNKNOWN, "datastore: unknown pod")
        free.append(entry)
        return kinds["DelNetworkReply"](Success=True, IPAllocationMetadata=[metadata(entry)])

    def handler(name: str, function: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            function, request_deserializer=kinds[f"{name}Request"].FromString,
            response_serializer=kinds[f"{name}Reply"].SerializeToString)

    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(
        "rpc.CNIBackend", {"AddNetwork": handler("AddNetwork", add), "DelNetwork": handler("DelNetwork", delete)})])
    os.makedirs(os.path.dirname(paths.AGENT_SOCKET), exist_ok=True)
    if os.path.exists(paths.AGENT_SOCKET):
        os.unlink(paths.AGENT_SOCKET)
    server.add_insecure_port(f"unix:{paths.AGENT_SOCKET}")
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(0)


class ReferenceAgent:
    """An agent of amazon-vpc-cni-k8s in an instance; it answers from a list of addresses and from the pods it has read."""

    def __init__(
        self, instance: Instance, addresses: list[dict[str, Any]], known: list[dict[str, Any]] | None = None
    ) -> None:
        config = {"addresses": addresses, "known": known or []}
        self.process = instance.popen(
            [sys.executable, "-m", "harness.reference", "serve", json.dumps(config)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=_module_path())
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.strip() != b"ready":
            raise RuntimeError(f"the reference's agent did not start: {line!r}")

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


class ReferencePod(Pod):
    """A pod whose ADD and DEL work as in the plugin of amazon-vpc-cni-k8s."""

    @property
    def suffix(self) -> str:
        return hashlib.sha1(f"{self.namespace}.{self.name}".encode()).hexdigest()[:11]

    def rpc(self, method: str, **fields: Any) -> dict[str, Any]:
        request = {
            "K8S_POD_NAME": self.name, "K8S_POD_NAMESPACE": self.namespace, "IfName": self.interface,
            "K8S_POD_INFRA_CONTAINER_ID": self.container, "NetworkName": "aws-cni", "ContainerID": self.container,
            **({"Netns": self.netns} if method == "AddNetwork" else {"Reason": "PodDeleted"}), **fields}
        done = self.instance.run([sys.executable, "-m", "harness.reference", "call", method, json.dumps(request)], env=_module_path())
        return json.loads(done.stdout)

    def add_as_reference(self) -> ReferencePod:
        """AddNetwork; then the veth, a route in main and rules 512 and 1536; the result has that plugin's peculiarities."""
        reply = self.rpc("AddNetwork")
        assert reply.get("Success") is True, reply
        given = reply["IPAllocationMetadata"][0]
        address, table, veth = given["IPv4Addr"] or given["IPv6Addr"], given["RouteTableId"], f"eni{self.suffix}"
        family, single, gateway = _facts(address)
        run = self.instance.run
        run(["ip", "link", "del", veth], check=False)
        run(["ip", "link", "add", veth, "mtu", "9001", "type", "veth", "peer", "name", self.interface, "mtu", "9001",
             "netns", self.name])
        mac = json.loads(run(["ip", "-json", "link", "show", veth]).stdout)[0]["address"]
        self.exec(["ip", "link", "set", self.interface, "up"])
        self.exec(["ip", family, "route", "replace", gateway, "dev", self.interface, "scope", "link"])
        self.exec(["ip", family, "route", "add", "default", "via", gateway, "dev", self.interface])
        self.exec(["ip", "address", "add", single, "dev", self.interface])
        self.exec(["ip", "neigh", "add", gateway, "lladdr", mac, "dev", self.interface, "nud", "permanent"])
        run(["ip", "link", "set", veth, "up"])
        run(["ip", family, "route", "replace", single, "dev", veth, "scope", "link"])
        run(["ip", family, "rule", "add", "priority", "512", "to", single, "lookup", "main"])
        if table != 254:
            run(["ip", family, "rule", "add", "priority", "1536", "from", single, "lookup", str(table)])
        wait_for(lambda: "tentative" not in self.exec(["ip", "-6", "address"]).stdout, f"{self.name}: no duplicate address", 10)
        self.result = {
            "cniVersion": "0.4.0", "dns": {},
            "interfaces": [{"name": veth}, {"name": self.interface, "mac": str(table), "sandbox": self.netns},
                           {"name": f"dummy{self.suffix}", "mac": "0", "sandbox": str(given["DeviceNumber"])}],
            "ips": [{"version": family[1:], "address": single, "interface": 1}]}
        return self

    def delete_as_reference(self) -> dict[str, Any]:
        """DelNetwork, then removes rules and host route by its reply; the veth goes with the namespace."""
        reply = self.rpc("DelNetwork")
        for given in reply.get("IPAllocationMetadata", []):
            family, single, _ = _facts(given["IPv4Addr"] or given["IPv6Addr"])
            table, run = str(given["RouteTableId"]), self.instance.run
            run(["ip", family, "rule", "del", "priority", "512", "to", single, "lookup", "main"], check=False)
            run(["ip", family, "rule", "del", "priority", "1536", "from", single, "lookup", table], check=False)
            run(["ip", family, "route", "del", single], check=False)
        return reply


def _facts(address: str) -> tuple[str, str, str]:
    """Of a pod's address: the option of `ip` for its family, the address with its length, and the pod's gateway."""
    return ("-6", f"{address}/128", "fe80::1") if ":" in address else ("-4", f"{address}/32", "169.254.1.1")


def _module_path() -> dict[str, str]:
    return {"PYTHONPATH": f"{Path(__file__).resolve().parents[1]}"}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(json.loads(sys.argv[2]))
    else:
        print(json.dumps(call(sys.argv[2], **json.loads(sys.argv[3]))))
