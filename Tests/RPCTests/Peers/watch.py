# SPDX-License-Identifier: Apache-2.0
"""watch.py SOCKET SERVICE: watches a service's health, prints one line for each state, then how the watch ended."""

import sys

import grpc
from contract import health, health_services


def main(socket, service):
    with grpc.insecure_channel("unix:" + socket) as channel:
        try:
            for answer in health_services.HealthStub(channel).Watch(health.HealthCheckRequest(service=service)):
                print(health.HealthCheckResponse.ServingStatus.Name(answer.status), flush=True)
        except grpc.RpcError as error:
            print(error.code().name, flush=True)


main(*sys.argv[1:])
