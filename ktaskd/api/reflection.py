"""Server reflection in both of its versions, so that any client can list the services.

gRPC's package has only `grpc.reflection.v1alpha`. `grpc.reflection.v1` has the same messages
under another name, and newer clients try it first.
Source: grpc/reflection/v1/reflection.proto of grpc-proto.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ktaskd.api.symbols import Symbols

ALPHA = reflection.SERVICE_NAME
V1 = "grpc.reflection.v1.ServerReflection"

_FILE = "grpc/reflection/v1/reflection.proto"
_METHOD = "ServerReflectionInfo"


def add_reflection(names: Iterable[str], server: grpc.aio.Server) -> None:
    """Make a server describe these services, and reflection itself, in both versions."""
    _declare_v1()
    servicer = reflection.aio.ReflectionServicer((*names, ALPHA, V1), pool=Symbols())
    messages: Any = reflection_pb2
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=messages.ServerReflectionRequest.FromString,
        response_serializer=messages.ServerReflectionResponse.SerializeToString,
    )
    for name in (ALPHA, V1):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {_METHOD: handler}),))


def _declare_v1() -> None:
    """Put the descriptor of v1, made from that of v1alpha, into the default pool."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_FILE)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        pool.Add(_renamed(file))


def _renamed(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    old, new = f".{file.package}.", ".grpc.reflection.v1."
    file.name, file.package = _FILE, "grpc.reflection.v1"
    for message in file.message_type:
        for field in (one for one in message.field if one.type_name):
            field.type_name = field.type_name.replace(old, new)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
    return file
