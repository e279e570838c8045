"""A keeper: the process that receives the descriptors of one uid first.

A descriptor can hang the process that holds it, forever and unkillably. A keeper
may be lost to that, the daemon may not. So a keeper sends BUSY before anything that
could hang and IDLE after it, and passes on only vetted descriptors. It loads
neither grpc nor asyncio, and does one thing at a time.

Run as: python -I -m ktaskd.door.handoff.keeper CONTROL_FD DAEMON_PID
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
from collections.abc import Callable

from ktask.v1 import handoff

from ktaskd.door.handoff import wire
from ktaskd.door.handoff.opening import open_vetted
from ktaskd.door.handoff.vet import Sender, vet
from ktaskd.door.handoff.wire import Frame
from ktaskd.host import logline
from ktaskd.host.sockets.unixsock import Fds, Message, read_peer_credentials, receive, send
from ktaskd.model.errors import FdUnsuitable, KtaskError
from ktaskd.model.function import Access

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 1, 4, 65, 1
"""Source: linux/prctl.h."""

_IN, _OUT, _ONCE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLONESHOT

_UNREAD_MAX = 4096
"""More messages than a socket queues. Source: net.unix.max_dgram_qlen, unix(7)."""


class DaemonGone(Exception):
    """The other end of the control socket was closed."""


class Connection:
    """One client. Owns its socket; a request is read when the one before was answered."""

    def __init__(self, conn: int, sock: socket.socket) -> None:
        """Read who is behind the socket."""
        self.conn = conn
        self.sock = sock
        self.pid, _, _ = read_peer_credentials(sock)
        self.unsent = b""
        self.closing = False


class Keeper:
    """Serves the connections that the daemon passes on, until the daemon closes the control socket."""

    def __init__(self, control: socket.socket) -> None:
        """Become the owner of the control socket."""
        self._control = control
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._by_fd: dict[int, Connection] = {}
        self._poll.register(control, _IN)

    def run(self) -> None:
        """Serve until the control socket is closed."""
        self._send(Frame(wire.READY))
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._control.fileno():
                    self._on_control()
                elif fd in self._by_fd:
                    self._on_client(self._by_fd[fd])

    # ---- the daemon's side

    def _send(self, frame: Frame, fds: Fds | None = None) -> None:
        try:
            send(self._control, frame.pack(), fds or ())
        except (BrokenPipeError, ConnectionResetError) as error:
            raise DaemonGone from error

    def _on_control(self) -> None:
        try:
            message = receive(self._control, wire.FRAME_BYTES_MAX)
        except ConnectionError as error:
            raise DaemonGone from error
        with message.fds:
            if not message.data:
                raise DaemonGone
            frame = wire.unpack(message.data)
            if frame.kind == wire.ANSWER:
                self._on_answer(frame)
                return
            self._send(Frame(wire.BUSY, frame.conn, frame.number))
            handlers: dict[int, Callable[[Frame, Fds], None]] = {
                wire.SERVE: self._on_serve,
                wire.CLOSE: self._on_close,
                wire.OPEN: self._on_open,
                wire.BURY: self._on_bury,
            }
            handlers[frame.kind](frame, message.fds)
        self._send(Frame(wire.IDLE))

    def _on_serve(self, frame: Frame, fds: Fds) -> None:
        if not fds:
            # This process had no free descriptor to receive the connection with.
            self._send(Frame(wire.ENDED, frame.conn))
            return
        sock = socket.socket(fileno=fds.take_first())
        sock.setblocking(False)
        connection = Connection(frame.conn, sock)
        self._connections[frame.conn] = self._by_fd[sock.fileno()] = connection
        self._poll.register(sock, _IN | _ONCE)

    def _on_answer(self, frame: Frame) -> None:
        connection = self._connections.get(frame.conn)
        if connection is not None and not connection.closing:
            self._reply(connection, frame.body)

    def _on_close(self, frame: Frame, fds: Fds) -> None:
        connection = self._connections.pop(frame.conn, None)
        if connection is not None:
            self._poll.unregister(connection.sock)
            del self._by_fd[connection.sock.fileno()]
            _close_drained(connection.sock)

    def _on_bury(self, frame: Frame, fds: Fds) -> None:
        for fd in fds.take():
            _close_drained(socket.socket(fileno=fd))

    def _on_open(self, frame: Frame, fds: Fds) -> None:
        wanted = wire.unpack_json(frame.body)
        try:
            fd, facts = open_vetted(wanted["path"], Access(wanted["access"]))
        except KtaskError as error:
            body = wire.pack_json({"reason": error.reason, "message": error.message})
            self._send(Frame(wire.UNOPENED, number=frame.number, body=body))
            return
        with Fds([fd]) as opened:
            self._send(Frame(wire.OPENED, number=frame.number, body=wire.pack_facts([facts])), opened)

    # ---- the clients' side

    def _on_client(self, connection: Connection) -> None:
        if connection.closing:
            return
        if connection.unsent:
            self._reply(connection, connection.unsent)
            return
        try:
            # MSG_PEEK takes nothing out of the queue, so it cannot hang. If the next step
            # hangs, the daemon knows which request to answer.
            head = connection.sock.recv(handoff.HEAD_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            self._poll.modify(connection.sock, _IN | _ONCE)
            return
        except OSError:
            self._end(connection)
            return
        self._send(Frame(wire.BUSY, connection.conn, handoff.peek_number(head)))
        self._take_request(connection)
        self._send(Frame(wire.IDLE))

    def _take_request(self, connection: Connection) -> None:
        try:
            # There is room for as many descriptors as a message can carry, so that none is
            # dropped unseen, and for a message longer than allowed.
            message = receive(connection.sock, handoff.REQUEST_BYTES_MAX + 1)
        except OSError:
            self._end(connection)
            return
        with message.fds:
            if not message.data:
                self._end(connection)
                return
            try:
                self._on_request(connection, message)
            except handoff.HandoffInvalid as error:
                number = handoff.peek_number(message.data)
                refused = handoff.Refused(number, "PROTOCOL_INVALID", str(error))
                self._refuse(connection, message.fds, refused)
                self._end(connection)

    def _on_request(self, connection: Connection, message: Message) -> None:
        if not message.complete:
            raise handoff.HandoffInvalid(
                f"message of {len(message.data)} bytes and {len(message.fds)} descriptors arrived truncated"
            )
        request = handoff.decode_request(message.data)
        wanted = len(request.flags) if isinstance(request, handoff.Hand) else 0
        if len(message.fds) != wanted:
            raise handoff.HandoffInvalid(f"{len(message.fds)} descriptors arrived, wanted {wanted}")
        if isinstance(request, handoff.Drop):
            body = wire.pack_json(request.handles)
            self._send(Frame(wire.DROP, connection.conn, request.number, body))
            return
        self._on_hand(connection, request, message.fds)

    def _on_hand(self, connection: Connection, hand: handoff.Hand, fds: Fds) -> None:
        facts, sender = [], Sender(connection.pid)
        for i, (fd, flags) in enumerate(zip(fds, hand.flags, strict=True)):
            try:
                own_offset = bool(flags & handoff.OWN_OFFSET)
                what = f"descriptor {i}"
                facts.append(vet(fd, own_offset=own_offset, what=what, sender=sender))
            except FdUnsuitable as error:
                self._refuse(connection, fds, handoff.Refused(hand.number, error.reason, error.message, i))
                return
        frame = Frame(wire.HANDED, connection.conn, hand.number, wire.pack_facts(facts))
        try:
            self._send(frame, fds)
        except OSError as error:
            # ETOOMANYREFS: the kernel's limit on descriptors in flight.
            text = f"descriptors cannot be passed on: {error.strerror}"
            self._refuse(connection, fds, handoff.Refused(hand.number, "QUOTA_FULL", text))

    def _refuse(self, connection: Connection, fds: Fds, refused: handoff.Refused) -> None:
        # Closed before the answer, so that the client can rely on it.
        fds.close()
        self._reply(connection, handoff.encode_reply(refused))

    def _reply(self, connection: Connection, reply: bytes) -> None:
        """Send a reply, or wait until the client reads; no request is read meanwhile."""
        connection.unsent = b""
        try:
            send(connection.sock, reply)
        except BlockingIOError:
            connection.unsent = reply
        except OSError:
            self._end(connection)
            return
        self._poll.modify(connection.sock, (_OUT if connection.unsent else _IN) | _ONCE)

    def _end(self, connection: Connection) -> None:
        """Ask the daemon to close its copy first; ours is closed last, since that may hang."""
        if not connection.closing:
            connection.closing = True
            # _ONCE, since otherwise a hang-up would be reported again and again.
            self._poll.modify(connection.sock, _ONCE)
            self._send(Frame(wire.ENDED, connection.conn))


def _close_drained(sock: socket.socket) -> None:
    """Close a connection, and all descriptors in it that nobody has taken out.

    Unread messages would reset the connection, and hide the last reply from the client.
    """
    try:
        sock.shutdown(socket.SHUT_RDWR)
        for _ in range(_UNREAD_MAX):
            message = receive(sock, 1, flags=socket.MSG_DONTWAIT)
            message.fds.close()
            if not message.data:
                break
    except OSError:
        # Never connected, or reset by the client, which then expects nothing.
        pass
    sock.close()


def settle(daemon_pid: int) -> None:
    """Arrange to die with the daemon, to be traced by no process of this uid, and to run no new code."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    # It reads what clients send. Kernels before Linux 6.3 refuse this, and nothing else can be done there.
    prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    # The daemon acts on the terminal's signals.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    if os.getppid() != daemon_pid:
        raise DaemonGone


def main(argv: list[str]) -> int:
    """Serve until the daemon closes the control socket; return the exit status."""
    control_fd, daemon_pid = map(int, argv[1:])
    try:
        settle(daemon_pid)
        Keeper(socket.socket(fileno=control_fd)).run()
    except DaemonGone:
        return 0
    return 1


if __name__ == "__main__":
    logline.report_uncaught("ktaskd.door.handoff.keeper")
    sys.exit(main(sys.argv))
