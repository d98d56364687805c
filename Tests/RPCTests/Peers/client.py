# SPDX-License-Identifier: Apache-2.0
"""client.py SOCKET: calls an agent with grpcio, prints one JSON object of the results on standard output."""

import concurrent.futures
import json
import sys

import grpc
from contract import health, health_services, rpc, rpc_services
from google.protobuf import empty_pb2


def outcome(call):
    try:
        return {"code": "OK", "reply": call()}
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details()}


def main(socket):
    results = {}
    with grpc.insecure_channel("unix:" + socket) as channel:
        backend = rpc_services.CNIBackendStub(channel)
        config = rpc_services.ConfigServerBackendStub(channel)
        checker = health_services.HealthStub(channel)

        def add(name, namespace="", **options):
            options.setdefault("timeout", 60)
            request = rpc.AddNetworkRequest(K8S_POD_NAME=name, K8S_POD_NAMESPACE=namespace)
            reply = backend.AddNetwork(request, **options)
            return {
                "success": reply.Success,
                "addresses": [m.IPv4Addr for m in reply.IPAllocationMetadata],
                "table": reply.PodRouteTable,
                "cause": reply.FailureCause,
            }

        def check(service):
            return checker.Check(health.HealthCheckRequest(service=service), timeout=60).status

        results["add"] = outcome(lambda: add("pod"))
        results["none"] = outcome(lambda: add("none"))
        results["status"] = outcome(lambda: add("status-9", 'wrong client version "é" 100%'))
        results["throw"] = outcome(lambda: add("throw"))
        results["deadline"] = outcome(lambda: add("slow", timeout=2))
        results["big"] = outcome(lambda: len(add("big-20000", "n" * 500_000)["addresses"]))
        results["toobig"] = outcome(lambda: add("pod", "n" * 1_100_000))
        results["gzip"] = outcome(lambda: add("pod", "n" * 4096, compression=grpc.Compression.Gzip))
        results["del"] = outcome(lambda: backend.DelNetwork(rpc.DelNetworkRequest(K8S_POD_UID="uid")).NetworkPolicyMode)
        results["config"] = outcome(lambda: config.GetNetworkPolicyConfigs(empty_pb2.Empty()).NetworkPolicyMode)
        results["health"] = [outcome(lambda s=s: check(s)) for s in ("", "grpc.health.v1.aws-node", "other")]
        results["watch"] = outcome(lambda: next(checker.Watch(health.HealthCheckRequest(), timeout=60)).status)
        other = channel.unary_unary("/rpc.CNIBackend/Other")
        results["unimplemented"] = outcome(lambda: other(b"", timeout=60))
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            futures = [pool.submit(lambda: outcome(lambda: add("pod"))["code"]) for _ in range(200)]
            results["concurrent"] = sorted({f.result() for f in futures})
        running = backend.AddNetwork.future(rpc.AddNetworkRequest(K8S_POD_NAME="slow"))
        # Cancel it only once it is under way: by then, the next call on the same connection has been answered.
        results["before"] = outcome(lambda: add("pod"))["code"]
        running.cancel()
        results["after"] = outcome(lambda: add("pod"))["code"]
    print(json.dumps(results))


main(sys.argv[1])
