"""Only a daemon of root, of the user, or of the system gets any byte."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import ktask
import pytest
from ktask.link import locate, trust
from ktask.link.handover import Handover
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake import FakeDaemon
from tests.integration.launcher import launcher, listening
from tests.support.real_daemon import running, starting
from tests.support.users import OtherUsers

OTHER = 60017


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Inside, created files and listening sockets belong to this user."""
    # These load at their first use, when this user may be unable to read them.
    for name in ("grpc._channel", "ktask.client"):
        importlib.import_module(name)
    before = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def theirs(reachable_dir: Path) -> Path:
    """A directory of another user."""
    path = reachable_dir / "theirs"
    path.mkdir(mode=0o755)
    os.chown(path, OTHER, OTHER)
    return path


class Trap:
    """Both sockets of a daemon, which record all bytes that they receive."""

    def __init__(self, directory: Path) -> None:
        self.sockets = {
            "ktaskd.sock": socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
            "handoff.sock": socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
        }
        for name, listener in self.sockets.items():
            listener.bind(os.fspath(directory / name))
            (directory / name).chmod(0o666)
            listener.listen()
            listener.setblocking(False)

    def received(self) -> bytes:
        """Close all connections and return all bytes received so far."""
        got = b""
        for listener in self.sockets.values():
            with contextlib.suppress(BlockingIOError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(ConnectionResetError):
                        got += connection.recv(1 << 16)
        return got

    def close(self) -> None:
        for listener in self.sockets.values():
            listener.close()


@contextlib.contextmanager
def trap(directory: Path, uid: int) -> Iterator[Trap]:
    with acting_as(uid):
        made = Trap(directory)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.other_uid
def test_named_daemon_when_another_users_then_refused_before_the_first_byte(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trap(theirs, OTHER) as bait:
        monkeypatch.setenv(locate.VARIABLE, str(theirs))
        named: list[tuple[Path | None, bool]] = [(None, False), (theirs, False), (None, True)]
        for target, own in named:
            with pytest.raises(ktask.DaemonNotTrusted) as caught:
                ktask.connect(target, own=own)
            assert f"belongs to uid {OTHER}" in str(caught.value)
            assert "you are uid 0" in str(caught.value)
            assert (caught.value.uid, caught.value.code) == (OTHER, "PERMISSION_DENIED")
            again = pickle.loads(pickle.dumps(caught.value))
            assert (str(again), again.uid, again.reason) == (str(caught.value), OTHER, "DAEMON_NOT_TRUSTED")
        with ktask.memory(1) as memory, pytest.raises(ktask.DaemonNotTrusted):
            Handover(str(theirs / "handoff.sock")).handle_of(memory)
        assert bait.received() == b""


@pytest.mark.other_uid
def test_named_daemon_when_another_user_listens_in_a_sound_directory_then_refused(
    reachable_dir: Path,
) -> None:
    """The directory was the other user's when the sockets were made."""
    os.chown(reachable_dir, OTHER, -1)
    with trap(reachable_dir, OTHER) as bait:
        os.chown(reachable_dir, 0, -1)
        with pytest.raises(ktask.DaemonNotTrusted, match=f"uid {OTHER} listens there"):
            ktask.connect(reachable_dir)
        handover = Handover(str(reachable_dir / "handoff.sock"))
        with ktask.memory(1) as memory, pytest.raises(ktask.DaemonNotTrusted, match=f"uid {OTHER} listens"):
            handover.handle_of(memory)
        assert bait.received() == b""


@pytest.mark.other_uid
def test_named_daemon_when_roots_sockets_are_in_another_users_directory_then_refused(theirs: Path) -> None:
    """A socket on which a privileged program listens may be served by any process it was passed to."""
    with trap(theirs, 0) as bait:
        with pytest.raises(ktask.DaemonNotTrusted, match=f"belongs to uid {OTHER}"):
            ktask.connect(theirs)
        assert bait.received() == b""


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757])
def test_directory_when_everybody_may_write_it_then_refused(short_dir: Path, mode: int) -> None:
    with FakeDaemon(short_dir):
        short_dir.chmod(mode)
        with pytest.raises(ktask.DaemonNotTrusted, match=f"mode {mode:04o} lets other users replace"):
            ktask.connect(short_dir)
        short_dir.chmod(0o775)  # the owner has let its own group write
        ktask.connect(short_dir).close()


@pytest.mark.other_uid
def test_directory_when_of_root_and_its_group_may_write_it_then_refused_for_others(
    reachable_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeDaemon(reachable_dir):
        for name in ("ktaskd.sock", "handoff.sock"):
            (reachable_dir / name).chmod(0o666)
        with acting_as(OTHER):
            ktask.connect(reachable_dir).close()
        reachable_dir.chmod(0o775)
        with acting_as(OTHER), pytest.raises(ktask.DaemonNotTrusted, match="mode 0775"):
            ktask.connect(reachable_dir)


@pytest.mark.other_uid
def test_unnamed_daemon_when_another_users_then_passed_over(
    theirs: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state after `su` without a dash, which keeps XDG_RUNTIME_DIR."""
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(theirs))
    monkeypatch.setattr(trust, "SYSTEM_DIR", str(short_dir))
    (theirs / "ktaskd").mkdir()
    os.chown(theirs / "ktaskd", OTHER, OTHER)
    with trap(theirs / "ktaskd", OTHER) as bait, FakeDaemon(short_dir):
        with ktask.connect() as client, ktask.memory(1) as memory:
            assert client.socket == str(short_dir / "ktaskd.sock")
            client.run("file.crc32", data=memory)
        assert bait.received() == b""


@pytest.mark.other_uid
def test_system_directory_when_given_to_a_user_then_that_users_daemon_is_trusted(
    reachable_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = reachable_dir / "ktaskd"
    system.mkdir(mode=0o755)
    os.chown(system, OTHER, OTHER)
    monkeypatch.setattr(trust, "SYSTEM_DIR", str(system))
    with acting_as(OTHER):
        daemon = FakeDaemon(system)
    with daemon, ktask.memory(1) as memory:
        for target in (system, system / "ktaskd.sock"):
            with ktask.connect(target) as client:
                client.run("file.crc32", data=memory)
        link = reachable_dir / "link"
        link.symlink_to(system)
        ktask.connect(link).close()
        # Another user could have created the directory, or replaced it.
        reachable_dir.chmod(0o1777)
        with pytest.raises(ktask.DaemonNotTrusted, match=f"belongs to uid {OTHER}"):
            ktask.connect(system)
        reachable_dir.chmod(0o755)
        monkeypatch.setattr(trust, "SYSTEM_DIR", str(link))
        with pytest.raises(ktask.DaemonNotTrusted, match=f"belongs to uid {OTHER}"):
            ktask.connect(system)


@pytest.mark.other_uid
def test_system_directory_when_a_third_user_listens_there_then_refused(
    reachable_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = reachable_dir / "ktaskd"
    system.mkdir(mode=0o755)
    monkeypatch.setattr(trust, "SYSTEM_DIR", str(system))
    os.chown(system, OTHER + 1, -1)
    with trap(system, OTHER + 1) as bait:
        os.chown(system, OTHER, -1)
        with pytest.raises(ktask.DaemonNotTrusted, match=f"uid {OTHER + 1} listens there"):
            ktask.connect(system)
        assert bait.received() == b""


@pytest.mark.other_uid
def test_client_when_the_directory_is_replaced_then_it_follows_only_to_a_trusted_one(
    reachable_dir: Path,
) -> None:
    place, aside = reachable_dir / "run", reachable_dir / "aside"
    place.mkdir(mode=0o755)
    with FakeDaemon(place), ktask.connect(place) as client, ktask.memory(1) as memory:
        client.run("file.crc32", data=memory)
        place.rename(aside)
        place.mkdir(mode=0o755)
        with FakeDaemon(place) as second:
            client.run("file.crc32", data=memory)
            assert second.calls[-1] == "Run"
        os.rename(place, reachable_dir / "aside2")
        place.mkdir(mode=0o755)
        os.chown(place, OTHER, -1)
        with trap(place, OTHER) as bait:
            with pytest.raises(ktask.DaemonNotTrusted, match=f"belongs to uid {OTHER}"):
                client.run("file.crc32", data=memory)
            assert bait.received() == b""


@pytest.mark.other_uid
def test_client_when_the_daemon_goes_and_another_user_takes_its_path_then_nothing_is_sent(
    reachable_dir: Path,
) -> None:
    """gRPC reconnects on its own; it reaches only the directory that was checked."""
    place = reachable_dir / "run"
    place.mkdir(mode=0o755)
    with FakeDaemon(place) as daemon, ktask.connect(place) as client:
        waiting = client._session.stubs.jobs.Run.future  # a stub from before
        daemon.kill()
        place.rename(reachable_dir / "aside")
        place.mkdir(mode=0o755)
        os.chown(place, OTHER, -1)
        with trap(place, OTHER) as bait:
            call = waiting(pb.RunRequest(), timeout=0.5, wait_for_ready=True)
            assert call.exception() is not None
            assert bait.received() == b""


IN_NAMESPACE = """
import sys, ktask
from ktask.link import trust
trust.SYSTEM_DIR = sys.argv[1]
for target in sys.argv[2:]:
    try:
        with ktask.connect(target) as client, ktask.memory(1) as memory:
            print(client.run("file.crc32", data=memory).state)
    except ktask.DaemonNotTrusted as error:
        print("refused", "does not map" in str(error))
"""


@pytest.mark.other_uid
def test_overflow_uid_when_not_all_uids_are_mapped_then_nobody_but_the_systems_daemon_is_trusted(
    reachable_dir: Path, run_as: OtherUsers
) -> None:
    system, elsewhere = reachable_dir / "system", reachable_dir / "elsewhere"
    for path in (system, elsewhere):
        path.mkdir(mode=0o755)
    with FakeDaemon(system), FakeDaemon(elsewhere):
        for path in (*system.iterdir(), *elsewhere.iterdir()):
            path.chmod(0o666)
        words = [*("unshare", "--user"), str(run_as.interpreter), "-c", IN_NAMESPACE]
        done = run_as(OTHER, [*words, str(system), str(elsewhere), str(system)])
        assert done.stdout.split() == ["refused", "True", "SUCCEEDED"], done.stderr


@pytest.mark.slow
@pytest.mark.other_uid
def test_packaged_daemon_when_its_sockets_are_passed_by_root_then_all_users_trust_it(
    reachable_dir: Path, run_as: OtherUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setup of systemd: root listens, and a system user owns the directory and the daemon."""
    place = reachable_dir / "ktaskd"
    place.mkdir(mode=0o755)
    monkeypatch.setattr(trust, "SYSTEM_DIR", str(place))

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        words = [str(run_as.interpreter), "-m", "ktaskd", *map(str, command[1:])]
        start: Callable[..., subprocess.Popen[bytes]] = launcher(
            handoff, relay, interpreter=run_as.interpreter
        )
        return start(words, user=OTHER, group=OTHER, extra_groups=[], cwd="/", **options)

    with (
        listening(place / "handoff.sock", socket.SOCK_SEQPACKET) as handoff,
        listening(place / "ktaskd.sock", socket.SOCK_STREAM) as relay,
    ):
        os.chown(place, OTHER, OTHER)
        for name in ("handoff.sock", "ktaskd.sock"):
            (place / name).chmod(0o666)
        with starting(place, popen=popen) as daemon:
            daemon.wait_ready()
            for uid in (0, OTHER + 1, OTHER):
                with acting_as(uid), ktask.connect(place) as client, ktask.memory(4096) as memory:
                    assert client.run("file.crc32", data=memory).state is ktask.JobState.SUCCEEDED
            assert daemon.stop() == 0, daemon.log()


@pytest.mark.slow
@pytest.mark.other_uid
def test_roots_daemon_when_anywhere_and_open_to_all_then_others_use_it(
    reachable_dir: Path, tmp_path: Path
) -> None:
    config = tmp_path / "c"
    config.write_text('[sockets]\nmode = "0666"\n[workers]\nuser = "nobody"\n')
    with (
        running(reachable_dir / "run", "--config", config) as daemon,
        acting_as(OTHER),
        ktask.connect(daemon.place) as client,
        ktask.memory(4096) as memory,
    ):
        assert client.run("file.crc32", data=memory).state is ktask.JobState.SUCCEEDED
