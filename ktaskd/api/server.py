"""The gRPC server on the private socket, with health and reflection."""

from __future__ import annotations

import os
from urllib.parse import quote

import grpc
from google.rpc import error_details_pb2  # in the pool, so that grpcurl can show details
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from ktask.v1 import control_pb2, jobs_pb2
from ktask.v1.control_pb2_grpc import add_ControlServicer_to_server
from ktask.v1.jobs_pb2_grpc import add_JobsServicer_to_server

from ktaskd.api.control import ControlService
from ktaskd.api.guard import Guard
from ktaskd.api.jobs import JobsService
from ktaskd.api.reflection import add_reflection
from ktaskd.api.state import Daemon
from ktaskd.door.relay.pump import FRAME_BYTES_MAX
from ktaskd.model.limits import MESSAGE_BYTES_MAX, SENT_BYTES_MAX

JOBS = jobs_pb2.DESCRIPTOR.services_by_name["Jobs"].full_name
CONTROL = control_pb2.DESCRIPTOR.services_by_name["Control"].full_name

ANSWER_BYTES_MAX = 2 * SENT_BYTES_MAX
"""No answer comes near this limit. A larger one is a fault of the daemon, and fails to protect its memory."""

assert error_details_pb2.DESCRIPTOR


LOOKAHEAD_BYTES = 16 * 1024
"""Most bytes of a request that a client sends before its handler reads."""

OPTIONS = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
    ("grpc.http2.max_frame_size", FRAME_BYTES_MAX),
)
"""Options that the relay relies on: no larger windows or frames, however fast a connection is."""


class Server:
    """One server. Only the relay can reach its socket."""

    def __init__(
        self,
        daemon: Daemon,
        inner_path: str,
        guard: Guard,
        *,
        streams_max: int,
    ) -> None:
        """Prepare it; nothing listens yet.

        Args:
            guard: around every handler.
            streams_max: most calls at the same time on one connection.
        """
        options = [
            ("grpc.max_concurrent_streams", streams_max),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", ANSWER_BYTES_MAX),
            ("grpc.so_reuseport", 0),
            *OPTIONS,
        ]
        self._server = grpc.aio.server(interceptors=[guard], options=options)
        self._health = health.aio.HealthServicer()
        add_JobsServicer_to_server(JobsService(daemon.engine, daemon.intake, daemon.governor), self._server)
        add_ControlServicer_to_server(ControlService(daemon), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        add_reflection((JOBS, CONTROL, health.SERVICE_NAME), self._server)
        self._server.add_insecure_port("unix:" + quote(os.fsencode(inner_path)))

    async def start(self) -> None:
        """Listen on the private socket. Health answers NOT_SERVING until `set_serving`."""
        await self.set_serving(False)
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """Set the answer of health."""
        answer = health_pb2.HealthCheckResponse
        status = answer.SERVING if serving else answer.NOT_SERVING
        for name in ("", JOBS, CONTROL):
            await self._health.set(name, status)

    async def close(self, grace_s: float) -> None:
        """Refuse new calls, wait `grace_s` seconds for those that run, then end them."""
        await self._server.stop(grace_s)
