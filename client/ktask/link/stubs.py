"""The channel to a daemon with the stubs of both services."""

from __future__ import annotations

from ktask.link import rpc  # first: it decides how gRPC is loaded
from ktask.v1 import control_pb2_grpc, jobs_pb2_grpc


class Stubs:
    """A channel and its stubs, closed together."""

    def __init__(self, target: str) -> None:
        """Make them; nothing is dialled before the first call."""
        self.channel = rpc.open_channel(target)
        self.jobs = jobs_pb2_grpc.JobsStub(self.channel)
        self.control = control_pb2_grpc.ControlStub(self.channel)
