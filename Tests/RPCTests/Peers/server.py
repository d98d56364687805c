# SPDX-License-Identifier: Apache-2.0
"""server.py SOCKET: an agent on grpcio. Prints `ready` once it listens, ends when its standard input ends."""

import concurrent.futures
import sys
import time

import grpc
from contract import health, health_services, rpc, rpc_services


class Backend(rpc_services.CNIBackendServicer):
    def AddNetwork(self, request, context):
        name = request.K8S_POD_NAME
        if name.startswith("status-"):
            code = next(c for c in grpc.StatusCode if c.value[0] == int(name[7:]))
            context.abort(code, request.K8S_POD_NAMESPACE)
        if name == "slow":
            while context.is_active():
                time.sleep(0.01)  # pause between looks
        if name == "deadline":
            # The remaining time until the caller's deadline, in milliseconds.
            return rpc.AddNetworkReply(Success=True, PodRouteTable=int(context.time_remaining() * 1000))
        count = int(name[4:]) if name.startswith("big-") else 1
        return rpc.AddNetworkReply(
            Success=True,
            PodRouteTable=20512,
            NetworkPolicyMode=request.K8S_POD_NAMESPACE[:64],
            IPAllocationMetadata=[rpc.IPAllocationMetadata(IPv4Addr="10.0.0.1", RouteTableId=2)] * count,
        )


class Health(health_services.HealthServicer):
    def Check(self, request, context):
        if request.service == "":
            return health.HealthCheckResponse(status=health.HealthCheckResponse.SERVING)
        if request.service == "down":
            return health.HealthCheckResponse(status=health.HealthCheckResponse.NOT_SERVING)
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")


def main(socket):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
    rpc_services.add_CNIBackendServicer_to_server(Backend(), server)
    health_services.add_HealthServicer_to_server(Health(), server)
    server.add_insecure_port("unix:" + socket)
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(0)


main(sys.argv[1])
