"""Row 8: a web server at work. nginx and wrk on loopback, and the cost of each background to them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.interference import beside
from tests.bench.interference.bench import Bench, attempt
from tests.bench.interference.beside import Beside, Used
from tests.bench.interference.groups import Group, group
from tests.bench.interference.line import Line
from tests.bench.interference.notinway import ALONE, AUTO, OURS, POOL, XARGS, usable
from tests.bench.interference.private_daemon import PrivateDaemon, private_daemon
from tests.bench.interference.programs import Unmeasured, needed
from tests.bench.interference.rivals import cpus
from tests.bench.interference.rounds import interleaved, quotients
from tests.bench.measure import Goal, Spread

REQUESTS = Goal(0.97, at_least=True)
LATENCY = Goal(1.03, at_least=False)

_CONNECTIONS = 16
_PAGE_BYTES = 4096
_UP_S = 10.0
_WARM_S = 1.0
_FIRST_S = 6.0
"""The governor lowers the helpers in steps of 2 s. With every background the load begins this long
before the window that is judged, and the cost of these first seconds is reported separately."""

_CONFIG = """
daemon off;
pid {place}/nginx.pid;
error_log {place}/error.log;
worker_processes {workers};
{user}
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    keepalive_requests 1000000000;
    server {{ listen 127.0.0.1:{port}; root {place}/pages; }}
}}
"""

_SCRIPT = """
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\\n{"requests": %d, "us": %d, "p50": %d, "p99": %d, "errors": %d}\\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Served:
    """The figures of wrk for one window."""

    per_second: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class Window:
    """One window: its first seconds, the part that is judged, and CPU seconds of the background."""

    first: Served
    served: Served
    used_s: float


def measure(bench: Bench) -> Iterator[Line]:
    """nginx in a session of its own, then also in a cgroup of its own."""
    with private_daemon(bench.directory, "row8") as home:

        def in_group() -> Iterator[Line]:
            with group("nginx") as place:
                yield from _served(bench, home, "own cgroup", place)

        yield from attempt("own session", lambda: _served(bench, home, "own session", None))
        yield from attempt("own cgroup", in_group)


def _served(bench: Bench, home: PrivateDaemon, where: str, place: Group | None) -> Iterator[Line]:
    with ExitStack() as end:
        port = end.enter_context(_nginx(bench.directory / f"nginx-{where[4:]}", place))
        given: Mapping[str, Beside] = {
            ALONE: beside.nothing,
            OURS: beside.ours(home, "always"),
            AUTO: beside.ours(home, "auto"),
            XARGS: beside.xargs(),
            POOL: beside.pool(),
        }
        ways, without = usable(home, given)
        _wrk(bench.directory, port, _WARM_S)
        found = interleaved(bench.repeat, {name: _window(bench, port, way) for name, way in ways.items()})
    yield from _lines(where, found, bench.seconds * len(cpus()))
    for line in without:
        yield Line(f"{where}, beside {line.name}", why=line.why)


def _window(bench: Bench, port: int, way: Beside) -> Callable[[], Window]:
    def run() -> Window:
        with way() as used:
            return _timed(bench, port, used)

    return run


def _timed(bench: Bench, port: int, used: Used) -> Window:
    first = _wrk(bench.directory, port, _FIRST_S)
    before = used()
    served = _wrk(bench.directory, port, bench.seconds)
    return Window(first, served, used() - before)


def _lines(where: str, found: Mapping[str, list[Window]], offered_s: float) -> Iterator[Line]:
    alone = [window.served for window in found[ALONE]]
    yield Line(f"{where}, requests per second, alone", tuple(each.per_second for each in alone), "1/s")
    yield Line(f"{where}, p99, alone", tuple(each.p99_us for each in alone), "us")
    for name, windows in found.items():
        if name == ALONE:
            continue
        # Mode always asks for all helpers no matter what others lose; the default is auto.
        judged = name == AUTO
        share = Spread.of([window.used_s / offered_s for window in windows]).median
        served = [window.served for window in windows]
        requests = quotients([each.per_second for each in served], [each.per_second for each in alone])
        late = quotients([each.p99_us for each in served], [each.p99_us for each in alone])
        about = f"these got {share:.1%} of the CPUs meanwhile"
        yield Line(f"{where}, requests beside {name}", requests, "", REQUESTS if judged else None, about)
        p99 = f"{Spread.of([each.p99_us for each in served]).median:.0f} us"
        yield Line(f"{where}, p99 beside {name}", late, "", LATENCY if judged else None, p99)
        if judged:
            first = [window.first.per_second for window in windows]
            ratio = quotients(first, [window.first.per_second for window in found[ALONE]])
            yield Line(f"{where}, requests beside {name}, first {_FIRST_S:g} s", ratio)


# -- nginx and wrk -----------------------------------------------------------------------


@contextmanager
def _nginx(place: Path, member: Group | None) -> Iterator[int]:
    """Run a private server on loopback; yields its port.

    Its workers run as nobody if we are root, since Debian's are not root either.
    """
    program = needed("nginx", "nginx-light")
    pages = place / "pages"
    pages.mkdir(parents=True)
    (pages / "page").write_bytes(b"x" * _PAGE_BYTES)
    port = _free_port()
    user = "user nobody nogroup;" if os.geteuid() == 0 else ""
    config = place / "nginx.conf"
    config.write_text(_CONFIG.format(place=place, workers=len(cpus()), user=user, port=port))
    words = [program, "-p", str(place), "-c", str(config), "-e", str(place / "error.log")]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            _wait_up(process, port, place / "error.log")
            if member:
                for pid in _tree(process.pid):
                    member.add(pid)
            yield port
        finally:
            process.terminate()


def _tree(pid: int) -> list[int]:
    import psutil

    top = psutil.Process(pid)
    return [pid, *(child.pid for child in top.children(recursive=True))]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _UP_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text().strip() if log.exists() else error
                raise Unmeasured(f"nginx: does not serve: {said}") from error
            time.sleep(0.05)


def _wrk(directory: Path, port: int, seconds: float) -> Served:
    """One run of wrk, in a session of its own."""
    program = needed("wrk", "wrk")
    script = directory / "wrk.lua"
    script.write_text(_SCRIPT)
    words = [program, "-t", "1", "-c", str(_CONNECTIONS), "-d", f"{max(1, round(seconds))}s"]
    words += ["-s", str(script), f"http://127.0.0.1:{port}/page"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, start_new_session=True)
    if done.returncode:
        raise Unmeasured(f"wrk: exit status {done.returncode}: {done.stderr.strip()}")
    return parse_wrk(done.stdout)


def parse_wrk(text: str) -> Served:
    """The line that the script adds to wrk's output."""
    found = json.loads(text.strip().splitlines()[-1])
    if found["errors"] or not found["requests"]:
        raise Unmeasured(f"wrk: {found['errors']} errors in {found['requests']} requests")
    return Served(found["requests"] / (found["us"] / 1e6), float(found["p99"]))
