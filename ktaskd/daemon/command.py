"""Runs the command `ktaskd`: checks the configuration or the host, or runs the daemon."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ktaskd.daemon import hostconfig
from ktaskd.daemon.config import Config, ConfigError, Given
from ktaskd.daemon.logs import start_logging
from ktaskd.daemon.poller import with_own_poller
from ktaskd.daemon.preflight import why_not_start
from ktaskd.door.sockets.listener import ListenError, RuntimeDir, open_listeners
from ktaskd.door.sockets.takeover import take_over
from ktaskd.host.cgroups import cgroup_fd
from ktaskd.host.processes.process import apply_undumpable, refuse_new_code
from ktaskd.host.root import HostRoot
from ktaskd.pool.starting import environment, python

log = logging.getLogger(__name__)


def default_runtime_dir() -> Path:
    """Return the default directory of the sockets; clients of the same user look there, too."""
    if os.geteuid() == 0:
        return Path("/run/ktaskd")
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(base) / "ktaskd" if os.path.isabs(base) and _is_ours(base) else own_directory()


def own_directory() -> Path:
    """Return the directory of a user without XDG_RUNTIME_DIR, as after su or in a container."""
    return Path(f"/tmp/ktaskd-{os.geteuid()}")


def _is_ours(directory: str) -> bool:
    try:
        return os.stat(directory).st_uid == os.geteuid() and os.access(directory, os.W_OK)
    except OSError:
        return False


def act(options: argparse.Namespace, default_config: Path) -> int:
    """Do what the command line says; return the exit status, as `main` describes it.

    Args:
        default_config: the configuration file if it names none and this one exists.
    """
    if options.pool_hosts:
        # By exec, since otherwise every worker would contain the modules loaded here. The
        # process stays the same one that LISTEN_PID names.
        passed = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET")
        os.execve(sys.executable, python("ktaskd.pool.hosts"), environment(*passed, erase=True))
    given = Given(
        options.config or (default_config if os.path.lexists(default_config) else None),
        options.idle_exit,
        options.helpers_socket,
        options.own_user,
        # The machine's configuration file is for the daemon that serves everybody.
        private=options.own_user and options.config is None,
    )
    try:
        config = given.load()
    except ConfigError as error:
        return _fail(str(error), 2)
    if options.check_config:
        return _check_config(given, config)
    if options.runtime_dir == "":
        return _fail("--runtime-dir: got an empty path, wanted a directory", 2)
    directory = Path(options.runtime_dir) if options.runtime_dir else default_runtime_dir()
    if options.check_host:
        from ktaskd.daemon.checkhost import check_host

        return check_host(config, directory)
    if not os.path.isdir(options.host_root):
        return _fail(f"--host-root: got {str(options.host_root)!r}, wanted a directory", 2)
    # Absolute, so that a change of the working directory does not matter.
    host_root = HostRoot(options.host_root.absolute())
    return _run(config, given.load, directory, options.selftest, host_root)


def _check_config(given: Given, config: Config) -> int:
    """Print the configuration; return 2 if this machine lacks something that it names."""
    from ktaskd.daemon.checkconfig import format_config, problems, sources

    source_of = sources(given)
    print(format_config(config, source_of), end="", flush=True)
    found = problems(given, source_of, HostRoot())
    for text in found:
        _fail(text, 2)
    return 2 if found else 0


def _fail(message: str, status: int) -> int:
    print(f"ktaskd: {message}", file=sys.stderr)
    return status


def _claim(config: Config, directory: Path) -> RuntimeDir:
    """Claim the runtime directory for this daemon's life; raises ListenError."""
    if os.geteuid() == 0 and (owner := hostconfig.worker_user(config.workers, 0).uid) > 0:
        take_over(directory, owner, HostRoot())
    own = directory == own_directory()
    if own and directory.is_symlink():  # any user can create one in /tmp
        raise ListenError(f"runtime directory {directory}: is a link, wanted a directory; remove it")
    return RuntimeDir.claim(directory, mode=0o700 if own else 0o755)


def _run(
    config: Config, load: Callable[[], Config], directory: Path, selftest: bool, host_root: HostRoot
) -> int:
    start_logging(config.daemon.log_level)
    if why := hostconfig.unmapped(HostRoot()):
        return _fail(why, 1)
    own_cgroup_fd = cgroup_fd.take_stdout()
    refuse_new_code()  # it reads every client's messages; workers compile patterns
    if os.geteuid() == 0:
        apply_undumpable()  # it holds other users' descriptors
    lacking = why_not_start(len(os.sched_getaffinity(0)))
    if lacking:
        return _fail(lacking, 1)
    mode, gid = hostconfig.socket_mode(config.sockets, os.geteuid())
    try:
        runtime = _claim(config, directory)
    except ListenError as error:
        return _fail(str(error), 1)
    try:
        listeners = open_listeners(runtime, mode=mode, gid=gid)
        if listeners.reached_by_others():
            apply_undumpable()  # its pool hosts and workers inherit it
        # gRPC's fork handlers would run in every child process. They must be off
        # before gRPC is loaded, so it is loaded only here.
        os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
        with with_own_poller():
            from ktaskd.daemon.life import live
            from ktaskd.daemon.start import Start

        start = Start(config, load, runtime, listeners, selftest, host_root, own_cgroup_fd)
        try:
            return asyncio.run(live(start))
        finally:
            listeners.close()
    except ListenError as error:
        return _fail(str(error), 1)
    except OSError as error:
        # The machine refused something: one line helps the user more than a traceback.
        log.debug("start_failed", exc_info=True)
        return _fail(f'cannot run: {error} (log_level = "debug" shows where)', 1)
    finally:
        runtime.close()
