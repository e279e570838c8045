"""Another user of the daemon: a process that makes calls on request. Needs root."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from ktask.v1 import control_pb2

from tests.badinput.shared_daemon import SharedDaemon
from tests.support.real_daemon import Refusal, refusal_of
from tests.support.users import OtherUsers

OTHER = 54321
"""A uid that has no name, no group and no right."""

CODE = """
import base64, json, os, socket, sys
import grpc
from ktask.v1 import handoff

place = sys.argv[1]
channel = grpc.insecure_channel(f"unix:{place}/ktaskd.sock", [("grpc.default_authority", "localhost")])
door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
door.connect(f"{place}/handoff.sock")
fd = os.memfd_create("other")
os.truncate(fd, 4096)
socket.send_fds(door, [handoff.encode_request(handoff.Hand(1, (1,)))], [fd])
reply = handoff.decode_reply(door.recv(handoff.REPLY_BYTES_MAX))
print(json.dumps(reply.handles[0]), flush=True)
for line in sys.stdin:
    method, request = json.loads(line)
    try:
        answer = channel.unary_unary("/" + method)(base64.b64decode(request), timeout=30)
        told = ["OK", base64.b64encode(answer).decode(), []]
    except grpc.RpcError as error:
        details = [pair for pair in error.trailing_metadata() if pair[0].endswith("-bin")]
        trailing = [(key, base64.b64encode(value).decode()) for key, value in details]
        told = [error.code().name, error.details(), trailing]
    print(json.dumps(told), flush=True)
"""


class _Told(grpc.RpcError):
    """The failure of a call of the other process, with the methods of a grpc.RpcError."""

    def __init__(self, code: str, details: str, trailing: list[tuple[str, str]]) -> None:
        super().__init__(details)
        self._code, self._details = code, details
        self._trailing = [(key, base64.b64decode(value)) for key, value in trailing]

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode[self._code]

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing


class Other:
    """The other user's process, which holds one handle as long as it lives."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Use the process, which is started; the caller still owns it."""
        self._process = process
        self.handle: str = self._read()

    def call(self, method: str, request: Message) -> Refusal | bytes:
        """Make a call as that user; returns its refusal, or the bytes of its answer."""
        sent = base64.b64encode(request.SerializeToString()).decode()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, sent]) + "\n")
        self._process.stdin.flush()
        code, text, trailing = self._read()
        return base64.b64decode(text) if code == "OK" else refusal_of(_Told(code, text, trailing))

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the other user's process has ended"
        return json.loads(line)


@contextmanager
def living(shared: SharedDaemon, run_as: OtherUsers) -> Iterator[Other]:
    """That user's process, for as long as the block runs."""
    words = [str(run_as.interpreter), "-c", CODE, str(shared.daemon.place)]
    with run_as.start(OTHER, words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        other = Other(process)
        # From now on the daemon counts the process as connected.
        other.call("ktask.v1.Control/GetStatus", control_pb2.GetStatusRequest())
        yield other
        assert process.stdin is not None
        process.stdin.close()
