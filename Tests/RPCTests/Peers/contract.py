# SPDX-License-Identifier: Apache-2.0
"""The contract's messages and stubs, made from the project's .proto files when a peer starts."""

import os
import sys

import grpc

PROTOS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../Sources/Core/RPC/Protos")
sys.path.insert(0, PROTOS)

rpc, rpc_services = grpc.protos_and_services("rpc.proto")
health, health_services = grpc.protos_and_services("health.proto")
reflection, reflection_services = grpc.protos_and_services("reflection.proto")
