"""The container runtime interface as a kubelet speaks it: the messages that the tests need, and a client on a socket.

Only the fields that this code sets or reads are described; the runtime skips and keeps the others.
Source of the names and numbers: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.
"""

from __future__ import annotations

from functools import cache
from typing import Any

BYTES, STRING, BOOL, INT32, INT64, UINT32, UINT64 = 12, 9, 8, 5, 3, 13, 4
ENUM = INT32  # the same encoding on the wire
MAP = "map<string, string>"

POD, CONTAINER, NODE = 0, 1, 2  # NamespaceMode
SANDBOX_READY, SANDBOX_NOTREADY = 0, 1
CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED, CONTAINER_UNKNOWN = 0, 1, 2, 3
PROTOCOLS = {"tcp": 0, "udp": 1, "sctp": 2}
PROPAGATION = {"private": 0, "slave": 1, "shared": 2}
RUNTIME_DEFAULT, UNCONFINED = 0, 1  # SecurityProfile.ProfileType

# Number: (name, type). A list holds the type of a repeated field.
Fields = dict[int, tuple[str, Any]]
MESSAGES: dict[str, Fields] = {
    # the sandbox
    "PodSandboxMetadata": {1: ("name", STRING), 2: ("uid", STRING), 3: ("namespace", STRING), 4: ("attempt", UINT32)},
    "DNSConfig": {1: ("servers", [STRING]), 2: ("searches", [STRING]), 3: ("options", [STRING])},
    "PortMapping": {1: ("protocol", ENUM), 2: ("container_port", INT32), 3: ("host_port", INT32), 4: ("host_ip", STRING)},
    "NamespaceOption": {1: ("network", ENUM), 2: ("pid", ENUM), 3: ("ipc", ENUM)},
    "SecurityProfile": {1: ("profile_type", ENUM), 2: ("localhost_ref", STRING)},
    "Int64Value": {1: ("value", INT64)},
    "LinuxSandboxSecurityContext": {
        1: ("namespace_options", "NamespaceOption"), 4: ("readonly_rootfs", BOOL), 6: ("privileged", BOOL),
        9: ("seccomp", "SecurityProfile")},
    "LinuxPodSandboxConfig": {
        1: ("cgroup_parent", STRING), 2: ("security_context", "LinuxSandboxSecurityContext"), 3: ("sysctls", MAP)},
    "PodSandboxConfig": {
        1: ("metadata", "PodSandboxMetadata"), 2: ("hostname", STRING), 3: ("log_directory", STRING),
        4: ("dns_config", "DNSConfig"), 5: ("port_mappings", ["PortMapping"]), 6: ("labels", MAP),
        7: ("annotations", MAP), 8: ("linux", "LinuxPodSandboxConfig")},
    "RunPodSandboxRequest": {1: ("config", "PodSandboxConfig"), 2: ("runtime_handler", STRING)},
    "RunPodSandboxResponse": {1: ("pod_sandbox_id", STRING)},
    "StopPodSandboxRequest": {1: ("pod_sandbox_id", STRING)},
    "StopPodSandboxResponse": {},
    "RemovePodSandboxRequest": {1: ("pod_sandbox_id", STRING)},
    "RemovePodSandboxResponse": {},
    "PodIP": {1: ("ip", STRING)},
    "PodSandboxNetworkStatus": {1: ("ip", STRING), 2: ("additional_ips", ["PodIP"])},
    "PodSandboxStatus": {
        1: ("id", STRING), 2: ("metadata", "PodSandboxMetadata"), 3: ("state", ENUM),
        5: ("network", "PodSandboxNetworkStatus")},
    "PodSandboxStatusRequest": {1: ("pod_sandbox_id", STRING), 2: ("verbose", BOOL)},
    "PodSandboxStatusResponse": {1: ("status", "PodSandboxStatus"), 2: ("info", MAP)},
    "PodSandbox": {1: ("id", STRING), 2: ("metadata", "PodSandboxMetadata"), 3: ("state", ENUM)},
    "ListPodSandboxRequest": {},
    "ListPodSandboxResponse": {1: ("items", ["PodSandbox"])},
    # containers
    "ImageSpec": {1: ("image", STRING)},
    "KeyValue": {1: ("key", STRING), 2: ("value", STRING)},
    "Mount": {
        1: ("container_path", STRING), 2: ("host_path", STRING), 3: ("readonly", BOOL), 5: ("propagation", ENUM)},
    "ContainerMetadata": {1: ("name", STRING), 2: ("attempt", UINT32)},
    "Capability": {1: ("add_capabilities", [STRING]), 2: ("drop_capabilities", [STRING])},
    "LinuxContainerResources": {1: ("cpu_period", INT64), 2: ("cpu_quota", INT64), 3: ("cpu_shares", INT64)},
    "LinuxContainerSecurityContext": {
        1: ("capabilities", "Capability"), 2: ("privileged", BOOL), 3: ("namespace_options", "NamespaceOption"),
        5: ("run_as_user", "Int64Value"), 7: ("readonly_rootfs", BOOL), 11: ("no_new_privs", BOOL),
        13: ("masked_paths", [STRING]), 14: ("readonly_paths", [STRING]), 15: ("seccomp", "SecurityProfile")},
    "LinuxContainerConfig": {
        1: ("resources", "LinuxContainerResources"), 2: ("security_context", "LinuxContainerSecurityContext")},
    "ContainerConfig": {
        1: ("metadata", "ContainerMetadata"), 2: ("image", "ImageSpec"), 3: ("command", [STRING]), 4: ("args", [STRING]),
        5: ("working_dir", STRING), 6: ("envs", ["KeyValue"]), 7: ("mounts", ["Mount"]), 9: ("labels", MAP),
        10: ("annotations", MAP), 11: ("log_path", STRING), 15: ("linux", "LinuxContainerConfig")},
    "CreateContainerRequest": {
        1: ("pod_sandbox_id", STRING), 2: ("config", "ContainerConfig"), 3: ("sandbox_config", "PodSandboxConfig")},
    "CreateContainerResponse": {1: ("container_id", STRING)},
    "StartContainerRequest": {1: ("container_id", STRING)},
    "StartContainerResponse": {},
    "StopContainerRequest": {1: ("container_id", STRING), 2: ("timeout", INT64)},
    "StopContainerResponse": {},
    "RemoveContainerRequest": {1: ("container_id", STRING)},
    "RemoveContainerResponse": {},
    "ContainerStatus": {
        1: ("id", STRING), 3: ("state", ENUM), 7: ("exit_code", INT32), 10: ("reason", STRING), 11: ("message", STRING),
        15: ("log_path", STRING)},
    "ContainerStatusRequest": {1: ("container_id", STRING), 2: ("verbose", BOOL)},
    "ContainerStatusResponse": {1: ("status", "ContainerStatus"), 2: ("info", MAP)},
    "Container": {
        1: ("id", STRING), 2: ("pod_sandbox_id", STRING), 3: ("metadata", "ContainerMetadata"), 6: ("state", ENUM)},
    "ListContainersRequest": {},
    "ListContainersResponse": {1: ("containers", ["Container"])},
    "ExecSyncRequest": {1: ("container_id", STRING), 2: ("cmd", [STRING]), 3: ("timeout", INT64)},
    "ExecSyncResponse": {1: ("stdout", BYTES), 2: ("stderr", BYTES), 3: ("exit_code", INT32)},
    # the runtime and its images
    "VersionRequest": {1: ("version", STRING)},
    "VersionResponse": {2: ("runtime_name", STRING), 3: ("runtime_version", STRING), 4: ("runtime_api_version", STRING)},
    "RuntimeCondition": {1: ("type", STRING), 2: ("status", BOOL), 3: ("reason", STRING), 4: ("message", STRING)},
    "RuntimeStatus": {1: ("conditions", ["RuntimeCondition"])},
    "StatusRequest": {1: ("verbose", BOOL)},
    "StatusResponse": {1: ("status", "RuntimeStatus"), 2: ("info", MAP)},
    "Image": {1: ("id", STRING), 2: ("repo_tags", [STRING]), 4: ("size", UINT64)},
    "ListImagesRequest": {},
    "ListImagesResponse": {1: ("images", ["Image"])},
}

_IMAGES = ("ListImages",)


@cache
def messages() -> dict[str, Any]:
    """The classes of the messages, built on first use."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="cri.proto", package="runtime.v1", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in fields.items():
            _add(message, name, number, field, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"runtime.v1.{name}")) for name in MESSAGES}


def _add(message: Any, parent: str, number: int, field: str, kind: Any) -> None:
    added = message.field.add(name=field, number=number, label=3 if isinstance(kind, list) or kind == MAP else 1)
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == MAP:
        entry = message.nested_type.add(name="".join(word.capitalize() for word in field.split("_")) + "Entry")
        entry.options.map_entry = True
        for key, name in ((1, "key"), (2, "value")):
            entry.field.add(name=name, number=key, label=1, type=STRING)
        added.type, added.type_name = 11, f".runtime.v1.{parent}.{entry.name}"
    elif isinstance(kind, str):
        added.type, added.type_name = 11, f".runtime.v1.{kind}"
    else:
        added.type = kind


class RuntimeRefused(RuntimeError):
    """The runtime's error message; `code` is the name of the gRPC status."""

    def __init__(self, method: str, code: str, details: str) -> None:
        super().__init__(f"{method}: {code}: {details}")
        self.code = code
        self.details = details


class Client:
    """Makes calls of RuntimeService and ImageService: `client.call("StopPodSandbox", pod_sandbox_id=…)`."""

    def __init__(self, socket: str) -> None:
        import grpc

        self._channel = grpc.insecure_channel(f"unix:{socket}")

    def call(self, method: str, within: float, **fields: Any) -> Any:
        """Returns the response; waits at most `within` seconds. Raises RuntimeRefused."""
        import grpc

        kinds = messages()
        service = "ImageService" if method in _IMAGES else "RuntimeService"
        invoke = self._channel.unary_unary(
            f"/runtime.v1.{service}/{method}", request_serializer=kinds[f"{method}Request"].SerializeToString,
            response_deserializer=kinds[f"{method}Response"].FromString)
        try:
            return invoke(kinds[f"{method}Request"](**fields), timeout=within)
        except grpc.RpcError as error:
            raise RuntimeRefused(method, error.code().name, error.details()) from None

    def close(self) -> None:
        self._channel.close()
