"""A program that makes calls in rounds, or the server of bare calls; `empty` starts them.

Each line on standard input starts a round of calls, and is answered by "done". The end of the input ends it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import grpc
import ktask
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def _serve(path: str) -> None:
    async def serve() -> None:
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        print("done", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.stop(None)

    asyncio.run(serve())


def _rounds(call: Callable[[], object], calls: int) -> None:
    call()
    print("done", flush=True)
    for _ in sys.stdin:
        for _ in range(calls):
            call()
        print("done", flush=True)


def _main(kind: str, target: str, calls: int) -> None:
    if kind == "serve":
        _serve(target)
    elif kind == "job":
        with ktask.connect(target) as client:
            _rounds(lambda: client.run("selftest.noop"), calls)
    else:
        with grpc.insecure_channel(target) as channel:
            # The stubs do not know the methods of this stub.
            stub: Any = health_pb2_grpc.HealthStub(channel)
            _rounds(lambda: stub.Check(health_pb2.HealthCheckRequest()), calls)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
