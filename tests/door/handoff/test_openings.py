"""Paths that a keeper opens with the daemon's rights, and opens that are given up."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ktaskd.model.errors import FdUnsuitable, KeeperSilent, KtaskError, PathNotFound, SourceInvalid
from ktaskd.model.function import Access
from tests.door.door_with_keepers import UID, door_with_keepers, run


def test_paths_are_opened_with_the_access_asked_for(reachable_dir: Path) -> None:
    path = reachable_dir / "data"
    path.write_bytes(b"12345")

    async def test() -> None:
        async with door_with_keepers(reachable_dir / "run") as it:
            for access in (Access.READ, Access.WRITE, Access.READ_WRITE):
                source = await it.keepers.open_path(str(path), access)
                assert (source.facts.access, source.facts.size, source.uid) == (access, 5, UID)
                assert source.facts.own_offset
                assert not source.facts.append
                source.release()
                assert it.gone.pop() == source.sid
            assert set(it.keepers.pids()) == {UID}

    run(test())


def refused_paths(place: Path) -> dict[str, tuple[type[KtaskError], str]]:
    (place / "link").symlink_to(place / "file")
    (place / "file").touch()
    os.mkfifo(place / "fifo")
    return {
        f"{place}/none": (PathNotFound, "No such file"),
        f"{place}/file/below": (PathNotFound, "Not a directory"),
        f"{place}/link": (FdUnsuitable, "symbolic link"),
        f"{place}/fifo": (FdUnsuitable, "pipe"),
        f"{place}": (FdUnsuitable, "directory"),
        "/dev/null": (FdUnsuitable, "character device"),
        "/proc/self/mem": (FdUnsuitable, '"proc"'),
        "/sys/kernel/uevent_seqnum": (FdUnsuitable, '"sysfs"'),
        "relative": (SourceInvalid, "absolute"),
        "": (SourceInvalid, "absolute"),
        "/nul\0byte": (SourceInvalid, "NUL"),
        "/" + "x" * 4096: (SourceInvalid, "4097 bytes"),
        "/" + "x" * 300: (FdUnsuitable, "too long"),
        "/" + "\1" * 4095: (FdUnsuitable, r"\.\.\..*too long"),
        "/\ud800": (SourceInvalid, "characters"),
    }


def test_what_cannot_be_opened_is_refused_clearly(reachable_dir: Path) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir / "run") as it:
            for path, (error, says) in refused_paths(reachable_dir).items():
                with pytest.raises(error, match=says):
                    await it.keepers.open_path(path, Access.READ)
            assert it.keepers.lost == 0

    run(test())


def test_a_lease_is_not_waited_for(reachable_dir: Path) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir / "run") as it:
            with open(reachable_dir / "leased", "w") as file:
                # SIGIO tells the holder of a lease that it is being broken.
                before = signal.signal(signal.SIGIO, signal.SIG_IGN)
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                try:
                    with pytest.raises(FdUnsuitable, match="lease"):
                        await it.keepers.open_path(file.name, Access.READ)
                finally:
                    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                    signal.signal(signal.SIGIO, before)

    run(test())


@pytest.mark.other_uid
def test_a_daemon_without_rights_opens_only_what_it_may(
    reachable_dir: Path, run_as: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Other processes cannot look into its keepers either, and keepers still see their own files."""
    (reachable_dir / "open").write_text("1234")
    (reachable_dir / "secret").touch(mode=0o600)
    code = (
        "import asyncio, os, sys\n"
        "from ktaskd.door.handoff.keepers import Keepers\n"
        "from ktaskd.model.errors import NotAllowed\n"
        "from ktaskd.model.function import Access\n"
        "async def main():\n"
        "    keepers = Keepers()\n"
        f"    source = await keepers.open_path('{reachable_dir}/open', Access.READ)\n"
        "    print(source.facts.size, os.stat(f'/proc/{keepers.pids()[4711]}/environ').st_uid)\n"
        "    source.release()\n"
        "    for name, access in (('secret', Access.READ), ('open', Access.WRITE)):\n"
        "        try:\n"
        f"            await keepers.open_path('{reachable_dir}/' + name, access)\n"
        "        except NotAllowed as error:\n"
        "            print(error)\n"
        "    await keepers.close()\n"
        "asyncio.run(main())\n"
    )
    done = run_as(4711, code)
    assert done.stdout.splitlines() == [
        "4 0",
        f'path "{reachable_dir}/secret": the daemon (uid 4711) may not read it; open it with your own rights '
        "instead: `ktask run` does, and `ktask hold` prints a handle for other programs",
        f'path "{reachable_dir}/open": the daemon (uid 4711) may not write it; open it with your own rights '
        "instead: `ktask run` does, and `ktask hold` prints a handle for other programs",
    ], done.stderr


def test_an_open_that_nobody_waits_for_any_more_leaks_nothing(reachable_dir: Path) -> None:
    (reachable_dir / "file").touch()

    async def test() -> None:
        async with door_with_keepers(reachable_dir / "run") as it:
            path = str(reachable_dir / "file")
            for turns in range(30):
                opening = asyncio.ensure_future(it.keepers.open_path(path, Access.READ))
                for _ in range(turns):
                    await asyncio.sleep(0)
                opening.cancel()
                for result in await asyncio.gather(opening, return_exceptions=True):
                    if not isinstance(result, BaseException):
                        result.release()
            (await it.keepers.open_path(path, Access.READ)).release()

    run(test())


def test_an_open_given_up_at_the_moment_it_succeeds_leaks_nothing(
    reachable_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (reachable_dir / "file").touch()

    async def test() -> None:
        async with door_with_keepers(reachable_dir / "run") as it:
            opening = asyncio.ensure_future(it.keepers.open_path(str(reachable_dir / "file"), Access.READ))
            openings = it.keepers._openings
            forget = openings._forget

            def forget_and_cancel(number: int) -> None:
                forget(number)
                opening.cancel()

            monkeypatch.setattr(openings, "_forget", forget_and_cancel)
            with pytest.raises(asyncio.CancelledError):
                await opening
            assert len(it.gone) == 1

    run(test())


def test_opens_fail_together_with_a_silent_keeper(reachable_dir: Path) -> None:
    (reachable_dir / "file").touch()

    async def test() -> None:
        async with door_with_keepers(reachable_dir / "run", silence_s=1.0) as it:
            path = str(reachable_dir / "file")
            (await it.keepers.open_path(path, Access.READ)).release()
            os.kill(it.keepers.pids()[UID], signal.SIGSTOP)
            opens = [it.keepers.open_path(path, Access.READ) for _ in range(3)]
            results = await asyncio.gather(*opens, return_exceptions=True)
            assert all(isinstance(result, KeeperSilent) for result in results), results
            (await it.keepers.open_path(path, Access.READ)).release()

    run(test())
