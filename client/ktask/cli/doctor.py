"""`ktask doctor`: examines client, daemon and machine, and names what mends each finding."""

from __future__ import annotations

import argparse
import contextlib
import grp
import os
import resource
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ktask import convert
from ktask.cli.escaping import printable
from ktask.cli.exits import DONE, FAILED
from ktask.cli.health import Client, Finding, Grade, of_client, of_daemon
from ktask.cli.output import print_document, print_out
from ktask.cli.version import VERSION
from ktask.errors import DaemonNotFound, DaemonNotTrusted, KtaskError
from ktask.link import locate
from ktask.link.connect import open_session
from ktask.link.session import Session

_PACKAGES = ("numpy", "blake3", "joblib", "cloudpickle")
"""Optional packages that a client of ktask uses."""


def doctor(options: argparse.Namespace) -> int:
    """Print all findings; 1 if something must be mended."""
    found = [*of_client(_client()), *_of_sockets(options)]
    if options.json:
        keys = ("grade", "about", "text", "step")
        print_document({"findings": [{key: getattr(one, key) for key in keys} for one in found]})
    else:
        print_out("\n".join(map(_lines, found)))
    return FAILED if any(one.grade is Grade.MEND for one in found) else DONE


def _lines(finding: Finding) -> str:
    head = f"{finding.grade:<4}  {finding.about}: {printable(finding.text)}"
    return f"{head}\n      -> {printable(finding.step)}" if finding.step else head


def _client() -> Client:
    return Client(
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        Path("/proc/pressure/cpu").exists(),
        {name: find_spec(name) is not None for name in _PACKAGES},
        _pending_group(),
    )


def _pending_group() -> str:
    """The group of the system's socket, if this user is in it but this process is not; else ""."""
    for endpoint in locate.usual({}):
        with contextlib.suppress(OSError, KeyError):
            group = grp.getgrgid(os.stat(endpoint.socket).st_gid)
            login = _login()
            if login in group.gr_mem and group.gr_gid not in {os.getegid(), *os.getgroups()}:
                return group.gr_name
    return ""


def _login() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def _of_sockets(options: argparse.Namespace) -> Iterator[Finding]:
    """Judge the daemon that a command would use, and the system's one if that is another."""
    warnings: list[str] = []
    try:
        session = open_session(options.socket, start=False, warn=warnings.append)
    except DaemonNotTrusted as error:
        yield Finding(Grade.MEND, "daemon", str(error))
        return
    except DaemonNotFound as error:
        yield from _of_none(options, error)
        return
    for text in warnings:
        problem, _, step = text.partition("; ")
        yield Finding(Grade.MEND, "daemon", problem, step)
    with contextlib.closing(session):
        yield Finding(Grade.OK, "daemon", f'answers at "{session.endpoint}"')
        try:
            yield from _of_session(session)
        except KtaskError as error:
            yield Finding(Grade.MEND, "daemon", f"a call failed: {error.message}")


def _of_none(options: argparse.Namespace, error: DaemonNotFound) -> Iterator[Finding]:
    """Judge that no daemon answers: bad if one was named, or if the system has one."""
    named = locate.named(options.socket, os.environ) is not None
    wanted = named or any(map(locate.is_system, locate.usual(os.environ)))
    if wanted:
        step = "name another one with --socket, or unset KTASKD_SOCKET" if named else ""
        yield Finding(Grade.MEND, "daemon", str(error).replace("\n", "; "), step)
    else:
        step = "sudo systemctl start ktaskd.socket, or just run a job: it starts one of your own"
        yield Finding(Grade.NOTE, "daemon", "none runs", step)


def _of_session(session: Session) -> Iterator[Finding]:
    functions = [convert.function(one) for one in session.functions().functions]
    unavailable = {one.name: one.unavailable for one in functions if one.unavailable}
    status = convert.status(session.status().status)
    is_own = os.geteuid() != 0 and os.stat(session.endpoint.socket).st_uid == os.geteuid()
    yield from of_daemon(status, VERSION, unavailable, is_own=is_own)
    if session.endpoint.handoff and not os.path.exists(session.endpoint.handoff):
        yield Finding(
            Grade.MEND, "daemon", f'"{session.endpoint.handoff}" is missing: no file can be handed over'
        )
