# SPDX-License-Identifier: Apache-2.0
"""reflect.py SOCKET: prints what server reflection reports as one JSON object on standard output.

v1alpha uses the library of grpc's authors. v1 uses stubs of the project's own .proto file, as that library lacks v1.
"""

import json
import sys

import grpc
from contract import reflection, reflection_services
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def call(channel, pool, service, method, **fields):
    """Calls a method of which only the name is known."""
    described = pool.FindServiceByName(service).FindMethodByName(method)
    request = message_factory.GetMessageClass(described.input_type)(**fields)
    reply = message_factory.GetMessageClass(described.output_type)
    stub = channel.unary_unary(f"/{service}/{method}", request_serializer=lambda message: message.SerializeToString(),
                               response_deserializer=reply.FromString)
    return json_format.MessageToDict(stub(request, timeout=60))


def main(socket):
    results = {}
    with grpc.insecure_channel("unix:" + socket) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(database)
        results["services"] = sorted(database.get_services())
        results["methods"] = {service: sorted(pool.FindServiceByName(service).methods_by_name)
                              for service in results["services"]}
        results["check"] = call(channel, pool, "grpc.health.v1.Health", "Check")
        results["add"] = call(channel, pool, "rpc.CNIBackend", "AddNetwork", K8S_POD_NAME="pod")
        try:
            pool.FindServiceByName("rpc.Nothing")
        except KeyError:
            results["unknown"] = "KeyError"

        stub = reflection_services.ServerReflectionStub(channel)
        asked = [reflection.ServerReflectionRequest(list_services=""),
                 reflection.ServerReflectionRequest(file_containing_symbol="rpc.ConfigServerBackend"),
                 reflection.ServerReflectionRequest(file_by_filename="none.proto")]
        answers = list(stub.ServerReflectionInfo(iter(asked), timeout=60))
        results["v1"] = sorted(service.name for service in answers[0].list_services_response.service)
        files = answers[1].file_descriptor_response.file_descriptor_proto
        results["files"] = [descriptor_pb2.FileDescriptorProto.FromString(file).name for file in files]
        results["error"] = answers[2].error_response.error_code
        results["echo"] = [answer.original_request for answer in answers] == asked
        # A client may send as many requests as it likes on one stream.
        many = stub.ServerReflectionInfo((asked[1] for _ in range(500)), timeout=60)
        results["many"] = sum(len(answer.file_descriptor_response.file_descriptor_proto) for answer in many)
    print(json.dumps(results))


main(sys.argv[1])
