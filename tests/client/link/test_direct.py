"""Direct calls give the answers and errors of gRPC's channel, and leave to it what they cannot do."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import ktask
import pytest
from ktask.link import http2
from ktask.link.direct import CONNECTIONS_MAX, REQUEST_BYTES_MAX, Direct, Failed, Unusable
from ktask.link.http2 import ACK, DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, Frames

from tests.client.fake import FakeDaemon

PATIENCE_S = 30.0
METHOD = "/test.Service/Echo"
LARGE = 1 << 20


class Service(grpc.GenericRpcHandler):
    """Answers with the request; some requests are orders."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.ended = threading.Event()

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.answer, None, None)

    def answer(self, request: bytes, context: Any) -> bytes:
        if request == b"large":
            return bytes(range(256)) * (LARGE // 256)
        if request == b"fail":
            context.set_trailing_metadata((("grpc-status-details-bin", b"\0\1packed\xff"),))
            context.abort(grpc.StatusCode.NOT_FOUND, 'job "Käse": 100 % unknown')
        if request == b"wait":
            context.add_callback(self.ended.set)
            self.waiting.release()
            self.go.wait(PATIENCE_S)
        if request == b"left":
            return b"%d" % (context.time_remaining() or 0)
        return request


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def path(short_dir: Path, service: Service) -> Iterator[str]:
    with ThreadPoolExecutor(CONNECTIONS_MAX + 2) as pool:
        server = grpc.server(pool, [service])
        server.add_insecure_port(f"unix:{short_dir}/s")
        server.start()
        yield f"{short_dir}/s"
        service.go.set()
        server.stop(None).wait(PATIENCE_S)


def dialled(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


@pytest.fixture
def direct(path: str) -> Iterator[Direct]:
    made = Direct(lambda: dialled(path))
    yield made
    made.close()


def test_call_when_one_after_the_other_then_the_answers_over_one_connection(path: str) -> None:
    sockets: list[socket.socket] = []

    def dial() -> socket.socket:
        sockets.append(dialled(path))
        return sockets[-1]

    direct = Direct(dial)
    for i in range(300):
        message = bytes([i % 256]) * (i * 27)
        assert direct.call(METHOD, message) == message
    assert len(sockets) == 1
    direct.close()


def test_call_when_the_answer_is_large_then_whole_again_and_again(direct: Direct) -> None:
    for _ in range(3):
        assert direct.call(METHOD, b"large") == bytes(range(256)) * (LARGE // 256)


def test_call_when_it_fails_then_the_status_with_its_details_as_from_the_channel(
    direct: Direct, path: str
) -> None:
    with grpc.insecure_channel(f"unix:{path}") as channel:
        call: Any = channel.unary_unary(METHOD)
        with pytest.raises(grpc.RpcError) as theirs:
            call(b"fail")
    with pytest.raises(Failed) as ours:
        direct.call(METHOD, b"fail")
    failures: tuple[Any, ...] = (ours.value, theirs.value)
    for one in failures:
        assert one.code() is grpc.StatusCode.NOT_FOUND
        assert one.details() == 'job "Käse": 100 % unknown'
        assert ("grpc-status-details-bin", b"\0\1packed\xff") in [
            tuple(pair) for pair in one.trailing_metadata()
        ]
    assert direct.call(METHOD, b"after") == b"after"


def test_call_when_larger_than_a_window_then_the_channels(direct: Direct) -> None:
    assert direct.call(METHOD, bytes(REQUEST_BYTES_MAX)) == bytes(REQUEST_BYTES_MAX)
    with pytest.raises(Unusable):
        direct.call(METHOD, bytes(REQUEST_BYTES_MAX + 1))


def test_call_when_no_process_listens_then_the_channels(short_dir: Path) -> None:
    with pytest.raises(Unusable):
        Direct(lambda: dialled(f"{short_dir}/nobody")).call(METHOD, b"")


def test_call_when_more_than_the_connections_then_the_channels(direct: Direct, service: Service) -> None:
    with ThreadPoolExecutor(CONNECTIONS_MAX) as threads:
        calls = [threads.submit(direct.call, METHOD, b"wait") for _ in range(CONNECTIONS_MAX)]
        for _ in calls:
            assert service.waiting.acquire(timeout=PATIENCE_S)
        with pytest.raises(Unusable):
            direct.call(METHOD, b"one more")
        service.go.set()
        assert [call.result() for call in calls] == [b"wait"] * CONNECTIONS_MAX
    assert direct.call(METHOD, b"again") == b"again"


def test_call_when_its_time_is_over_then_the_server_ends_it(direct: Direct, service: Service) -> None:
    with pytest.raises(Failed) as caught:
        direct.call(METHOD, b"wait", 0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.ended.wait(PATIENCE_S)


def test_call_when_it_has_a_deadline_then_the_server_knows_it(direct: Direct) -> None:
    assert direct.call(METHOD, b"left", 3600.0) in (b"3599", b"3600")


def test_call_when_closed_meanwhile_then_cancelled(direct: Direct, service: Service) -> None:
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(direct.call, METHOD, b"wait")
        assert service.waiting.acquire(timeout=PATIENCE_S)
        direct.close()
        assert isinstance(error := call.exception(), Failed)
        assert error.code() is grpc.StatusCode.CANCELLED
    assert service.ended.wait(PATIENCE_S)
    with pytest.raises(Unusable):
        direct.call(METHOD, b"")


def test_retire_when_a_call_is_under_way_then_it_ends_well(direct: Direct, service: Service) -> None:
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(direct.call, METHOD, b"wait")
        assert service.waiting.acquire(timeout=PATIENCE_S)
        direct.retire()
        service.go.set()
        assert call.result() == b"wait"
    with pytest.raises(Unusable):
        direct.call(METHOD, b"")


# -- servers that gRPC's own is not --------------------------------------------------------

Sent = tuple[int, int, bytes]
"""Kind, flags and payload of a frame."""

OK = b"\0\x0bgrpc-status\x010"
ANSWER = (HEADERS, 4, b"\x88"), (DATA, 0, b"\0\0\0\0\2hi"), (HEADERS, 5, OK)


class Scripted:
    """A server at one end of a socket pair, which the test plays."""

    def __init__(self) -> None:
        self.sock, self.client = socket.socketpair()
        self.sock.settimeout(PATIENCE_S)
        self._frames = Frames()
        self._seen: list[http2.Frame] = []
        self.begun = False

    def dial(self) -> socket.socket:
        return self.client

    def next(self, kind: int) -> http2.Frame:
        """The next frame of this kind."""
        while not (found := [frame for frame in self._seen if frame.kind == kind]):
            data = self.sock.recv(65536)
            assert data, "the client has hung up"
            data, self.begun = (data if self.begun else data[24:]), True
            self._seen += self._frames.add(data)
        self._seen.remove(found[0])
        return found[0]

    def send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.sock.sendall(http2.encode_frame(kind, flags, stream, payload))


@pytest.fixture
def scripted() -> Iterator[tuple[Scripted, Direct]]:
    server = Scripted()
    direct = Direct(server.dial)
    yield server, direct
    direct.close()
    server.sock.close()
    server.client.close()


def played(
    scripted: tuple[Scripted, Direct],
    *frames: tuple[int, int, bytes],
    control: tuple[int, int, bytes] | None = None,
) -> bytes | BaseException:
    """The outcome of a call that gets these frames; `control` is one of the connection, sent before."""
    server, direct = scripted
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(direct.call, METHOD, b"x")
        stream = server.next(HEADERS).stream
        if control is not None:
            server.send(control[0], control[1], 0, control[2])
        for kind, flags, payload in frames:
            server.send(kind, flags, stream, payload)
        if not frames:
            server.sock.shutdown(socket.SHUT_RDWR)
        return call.exception() or call.result()


def test_server_when_it_asks_for_acknowledgement_then_it_gets_it(scripted: tuple[Scripted, Direct]) -> None:
    server, _ = scripted
    assert played(scripted, *ANSWER, control=(PING, 0, b"12345678")) == b"hi"
    assert server.next(PING) == (PING, ACK, 0, b"12345678")
    assert played(scripted, *ANSWER, control=(SETTINGS, 0, b"")) == b"hi"
    assert [frame.flags for frame in (server.next(SETTINGS), server.next(SETTINGS))] == [0, ACK]


def test_server_when_it_takes_little_at_first_then_the_channels(scripted: tuple[Scripted, Direct]) -> None:
    small = (SETTINGS, 0, http2._setting(4, REQUEST_BYTES_MAX))
    assert played(scripted, *ANSWER, control=small) == b"hi"
    with pytest.raises(Unusable):
        scripted[1].call(METHOD, b"x")  # this connection is closed, and the test's server has only one


def test_server_when_it_goes_away_before_the_call_then_the_channels(
    scripted: tuple[Scripted, Direct],
) -> None:
    assert isinstance(played(scripted, (PING, 0, b""), control=(GOAWAY, 0, bytes(8))), Unusable)


def test_server_when_it_goes_away_after_the_call_then_its_answer_counts(
    scripted: tuple[Scripted, Direct],
) -> None:
    goaway = (GOAWAY, 0, b"\x7f\xff\xff\xff" + bytes(4))
    assert played(scripted, *ANSWER, control=goaway) == b"hi"
    with pytest.raises(Unusable):
        scripted[1].call(METHOD, b"x")


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ((), grpc.StatusCode.UNAVAILABLE),
        (((RST_STREAM, 0, b"\0\0\0\x08"),), grpc.StatusCode.CANCELLED),
        (((RST_STREAM, 0, b"\0\0\0\x0b"),), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (((RST_STREAM, 0, b"\0\0\0\x02"),), grpc.StatusCode.INTERNAL),
        (((HEADERS, 5, b"\0\x0bgrpc-status\x018"),), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (((HEADERS, 5, b"\x88"),), grpc.StatusCode.UNKNOWN),
        (((HEADERS, 4, b"\x88"), (DATA, END_STREAM, b"")), grpc.StatusCode.UNKNOWN),
        (((HEADERS, 5, OK),), grpc.StatusCode.INTERNAL),
        (((HEADERS, 5, b"\xbe"),), grpc.StatusCode.INTERNAL),
    ],
)
def test_server_when_it_sends_no_answer_then_a_failure(
    scripted: tuple[Scripted, Direct], frames: tuple[Sent, ...], code: grpc.StatusCode
) -> None:
    error = played(scripted, *frames)
    assert isinstance(error, Failed)
    assert error.code() is code


def test_server_when_it_refuses_the_stream_then_the_channels(scripted: tuple[Scripted, Direct]) -> None:
    assert isinstance(played(scripted, (RST_STREAM, 0, b"\0\0\0\x07")), Unusable)


def test_server_when_it_has_hung_up_between_calls_then_dialled_again(path: str) -> None:
    server = Scripted()
    dials: list[Callable[[], socket.socket]] = [lambda: dialled(path), server.dial]
    direct = Direct(lambda: dials.pop()())
    assert played((server, direct), *ANSWER) == b"hi"
    server.sock.close()
    assert direct.call(METHOD, b"again") == b"again"
    direct.close()


# -- sessions -----------------------------------------------------------------------------


def test_session_when_jobs_follow_then_they_are_run_directly_and_the_first_is_not(
    fake: FakeDaemon, client: ktask.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    call = Direct.call

    def noted(direct: Direct, method: str, message: bytes, timeout_s: float | None = None) -> bytes:
        made.append(method)
        return call(direct, method, message, timeout_s)

    monkeypatch.setattr(Direct, "call", noted)
    with ktask.memory(100) as region:
        results = [client.run("file.crc32", data=region).result for _ in range(3)]
    assert made == ["/ktask.v1.Jobs/Run"] * 2
    assert results[0] == results[1] == results[2]
    assert len(fake.specs) == 3


def test_session_when_a_direct_job_fails_then_the_same_error(client: ktask.Client) -> None:
    with ktask.memory(10) as region:
        client.run("file.crc32", data=region)
    found = []
    for _ in range(2):
        with pytest.raises(ktask.JobFailed) as caught:
            client.run("fake.fail")
        found.append(caught.value.job.error)
    assert found[0] == found[1]


def test_session_when_the_daemon_is_restarted_then_jobs_go_on(fake: FakeDaemon, client: ktask.Client) -> None:
    with ktask.memory(10) as region:
        for _ in range(2):
            client.run("file.crc32", data=region)
        fake.stop()
        for name in ("ktaskd.sock", "handoff.sock"):
            (fake.directory / name).unlink(missing_ok=True)
        with FakeDaemon(fake.directory), ktask.memory(10) as other:
            assert client.run("file.crc32", data=other).result


def test_session_when_forked_then_the_parents_connection_goes_on(client: ktask.Client) -> None:
    with ktask.memory(10) as region:
        for _ in range(2):
            client.run("file.crc32", data=region)
        pid = os.fork()
        if not pid:
            try:
                client.run("file.crc32", data=region)
            except ktask.KtaskError as error:
                os._exit(7 if error.reason == "CLIENT_FORKED" else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert client.run("file.crc32", data=region).result
