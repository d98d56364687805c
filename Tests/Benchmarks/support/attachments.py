"""Attachments by the agent's service alone: addresses in use without pods, for states that would take long with real pods."""

from __future__ import annotations

import grpc

from harness import reference


def add_networks(pid: int, count: int) -> list[str]:
    """Calls AddNetwork `count` times on the agent with this process id, one after the other; returns the addresses.

    Raises RuntimeError with the agent's error if it assigns none.
    """
    kinds = reference.messages()
    addresses = []
    with grpc.insecure_channel(f"unix:/proc/{pid}/root/run/aws-node/ipamd.sock") as channel:
        add = channel.unary_unary("/rpc.CNIBackend/AddNetwork",
                                  request_serializer=kinds["AddNetworkRequest"].SerializeToString,
                                  response_deserializer=kinds["AddNetworkReply"].FromString)
        for number in range(count):
            reply = add(kinds["AddNetworkRequest"](
                K8S_POD_NAME=f"app-6d5f7c9b8d-{number:05d}", K8S_POD_NAMESPACE="default", IfName="eth0",
                NetworkName="aws-cni", ContainerID=f"{number:064x}", Netns=f"/run/netns/{number}"), timeout=60)
            if not reply.Success:
                raise RuntimeError(f"AddNetwork {number}: no address: {reply}")
            addresses.append(reply.IPAllocationMetadata[0].IPv4Addr)
    return addresses
