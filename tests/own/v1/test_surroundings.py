"""A call finds the same surroundings as in a process pool of the program."""

from __future__ import annotations

import concurrent.futures.process
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import ktask
import pytest
from ktask.errors import DaemonNotFound, KtaskError
from ktask.link import locate
from ktask.own import output
from ktask.own.futures import WorkerLost
from ktask.own.initial import InitializerFailed
from ktask.v1 import calls, surroundings

from tests.own import things
from tests.support.real_daemon import Daemon, until
from tests.support.users import REPOSITORY

PATIENCE_S = 60


def program(
    daemon: Daemon, code: str, directory: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The output of a program, in which `executor` uses the daemon."""
    head = f"import ktask, os, sys\nexecutor = ktask.Executor(1, target={str(daemon.place)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", head + code],
        check=False,
        cwd=directory,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_call_when_it_looks_around_then_the_environment_and_settings_of_the_program(
    daemon: Daemon, tmp_path: Path
) -> None:
    code = (
        "import locale, os, time\n"
        "os.umask(0o027)\n"
        "os.environ.pop('HOME', None)\n"
        "locale.setlocale(locale.LC_ALL, 'C.UTF-8')\n"
        "def look():\n"
        "    old = os.umask(0); os.umask(old)\n"
        "    settings = locale.setlocale(locale.LC_ALL), time.strftime('%H', time.localtime(0))\n"
        "    return dict(os.environ), os.getcwd(), old, *settings\n"
        "time.tzset()\n"
        "here, there = look(), executor.submit(look).result()\n"
        "daemon = there[0].pop('KTASKD_SOCKET')\n"
        "here[0].pop('KTASKD_SOCKET', None)\n"
        "print(here == there, there[4], daemon)\n"
    )
    done = program(daemon, code, tmp_path, {"TZ": "America/New_York", "ODD": "\udcff=\n"})
    assert (done.stdout, done.stderr) == (f"True 19 {daemon.place}\n", "")


def test_call_when_it_prints_and_logs_then_where_the_program_does(daemon: Daemon, tmp_path: Path) -> None:
    code = (
        "import logging, subprocess, warnings\n"
        "logging.basicConfig(level=logging.INFO, format='%(name)s %(message)s %(process)d')\n"
        "logging.getLogger('quiet').setLevel(logging.ERROR)\n"
        "def call():\n"
        "    print('printed')\n"
        "    subprocess.run(['echo', 'by a child'])\n"
        "    warnings.warn('warned')\n"
        "    logging.getLogger('mine').info('logged %s', object)\n"
        "    logging.getLogger('quiet').info('not logged')\n"
        "    try:\n"
        "        1 / 0\n"
        "    except ZeroDivisionError:\n"
        "        logging.exception('failed')\n"
        "    return os.getpid()\n"
        "print('pid', executor.submit(call).result())\n"
    )
    done = program(daemon, code, tmp_path)
    lines = done.stdout.splitlines()
    assert sorted(lines[:2]) == ["by a child", "printed"]
    pid = lines[2].split()[1]
    assert "UserWarning: warned" in done.stderr
    assert f"mine logged <class 'object'> {pid}\n" in done.stderr
    assert f"root failed {pid}\n" in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "not logged" not in done.stderr


def test_run_when_its_function_prints_and_logs_then_where_the_program_does(
    daemon: Daemon, tmp_path: Path
) -> None:
    code = (
        "import logging\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "def chunk(data, start, end, arg):\n"
        "    print('printed', start, os.environ['SETTING'])\n"
        "    logging.info('logged %d', start)\n"
        "os.environ['SETTING'] = 'here'\n"
        f"with ktask.connect({str(daemon.place)!r}) as client:\n"
        "    client.run(chunk, ranges=[(0, 4)], min_chunk=1)\n"
    )
    done = program(daemon, code, tmp_path)
    assert "printed 0 here\n" in done.stdout, done.stderr
    assert "INFO:root:logged 0\n" in done.stderr


def test_run_when_the_program_has_gone_then_undone_all_the_same(daemon: Daemon, tmp_path: Path) -> None:
    code = (
        "import signal, time\n"
        "def chunk(data, start, end, arg):\n"
        "    if start >= 2:\n"
        "        open('begun', 'w').close()\n"
        "        time.sleep(1000)\n"
        "def back(data, start, end, arg):\n"
        "    print('undone')\n"
        "    open(f'back{start}', 'w').close()\n"
        "import threading\n"
        "def leave():\n"
        "    while not os.path.exists('begun'): time.sleep(0.005)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "threading.Thread(target=leave).start()\n"
        f"with ktask.connect({str(daemon.place)!r}) as client:\n"
        "    client.run(chunk, ranges=[(0, 8)], min_chunk=1, max_threads=1, undo=back)\n"
    )
    assert program(daemon, code, tmp_path).returncode == -signal.SIGKILL
    until((tmp_path / "back0").exists, "the first chunk is undone")


def test_log_when_a_record_is_odd_then_the_call_and_the_executor_go_on(
    daemon: Daemon, tmp_path: Path
) -> None:
    code = (
        "import logging\n"
        "from tests.own import things\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "class Refuses(logging.Filter):\n"
        "    def filter(self, record): raise LookupError('of the filter')\n"
        "logging.getLogger('refused').addFilter(Refuses())\n"
        "def call():\n"
        "    logging.info('%d', 'no number')\n"
        "    extra = {'marked': things.Marked('one', 'other'), 'plain': [1, {'a': (2,)}]}\n"
        "    logging.info('odd', extra=extra)\n"
        "    logging.getLogger('refused').info('refused')\n"
        "    return 5\n"
        "print(executor.submit(call).result(), executor.submit(pow, 2, 3).result())\n"
        f"with ktask.connect({str(daemon.place)!r}) as client:\n"
        "    print(client.run(lambda data, start, end, arg: call(), ranges=[(0, 1)]).result)\n"
    )
    done = program(daemon, code, tmp_path, {"PYTHONPATH": str(REPOSITORY)})
    assert done.stdout == "5 8\n{'value': [5]}\n", done.stderr
    assert "INFO:root:odd\n" in done.stderr


def test_run_when_its_workers_come_and_go_then_no_descriptor_is_kept_for_them(
    daemon: Daemon, client: ktask.Client
) -> None:
    kept: list[int] = []
    with output.received(locate.endpoint_of(daemon.place)) as line:
        for _ in range(30):
            with socket.socket(socket.AF_UNIX) as worker:
                worker.connect(calls.path_of(line))
                assert worker.recv(1), "it was accepted"
            kept.append(len(os.listdir("/proc/self/fd")))
        until(lambda: len(os.listdir("/proc/self/fd")) <= min(kept), "the others are closed")


def test_run_when_its_function_uses_ktask_then_at_the_same_daemon(
    daemon: Daemon, client: ktask.Client
) -> None:
    found = client.run(lambda data, start, end, arg: os.environ.get("KTASKD_SOCKET"), ranges=[(0, 1)]).result
    assert found == {"value": [str(daemon.place)]}


def test_call_when_it_forks_then_the_child_does_not_hold_the_line(
    executor: ktask.Executor, tmp_path: Path
) -> None:
    def call() -> None:
        if os.fork() == 0:
            while not seen.exists():
                time.sleep(0.005)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    seen = tmp_path / "seen"
    with pytest.raises(WorkerLost):
        executor.submit(call).result(PATIENCE_S)
    seen.touch()


def test_executor_when_no_thread_can_be_started_then_a_later_call_is_done(
    executor: ktask.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            executor.submit(things.square, 2)
    assert executor.submit(things.square, 3).result(PATIENCE_S) == 9


def test_program_when_its_output_is_closed_then_calls_still_work(daemon: Daemon, tmp_path: Path) -> None:
    code = "os.close(1)\nopen('result', 'w').write(str(executor.submit(pow, 2, 3).result()))\n"
    assert program(daemon, code, tmp_path).returncode == 0
    assert (tmp_path / "result").read_text() == "8"


def test_manager_when_its_proxies_are_handed_over_then_they_work(daemon: Daemon, tmp_path: Path) -> None:
    code = (
        "import multiprocessing\n"
        "with multiprocessing.get_context('fork').Manager() as manager:\n"
        "    queue = manager.Queue()\n"
        "    executor.submit(lambda: queue.put(5)).result()\n"
        "    print(queue.get())\n"
    )
    done = program(daemon, code, tmp_path)
    assert (done.stdout, done.stderr) == ("5\n", "")


def test_executor_when_within_a_call_then_at_the_same_daemon(
    daemon: Daemon, executor: ktask.Executor
) -> None:
    def inner() -> str:
        with ktask.Executor(1) as within:
            within.submit(pow, 2, 3).result()
            return str(within._calls._session.endpoint)  # type: ignore[union-attr]

    assert executor.submit(inner).result() == str(daemon.socket)


@pytest.mark.parametrize(("depth", "width"), [(3, 2), (4, 2), (2, 5)])
def test_executors_when_within_calls_of_executors_then_all_end(
    executor: ktask.Executor, depth: int, width: int
) -> None:
    """Each call but the innermost waits for calls of its own, so more calls wait than there are CPUs."""
    found = executor.map(things.leaves, [depth - 1] * width, [width] * width)
    assert sum(found) == width**depth


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"path": 3}'])
def test_surroundings_when_they_are_none_then_said(data: bytes) -> None:
    with pytest.raises(surroundings.SurroundingsInvalid, match="surroundings: "):
        surroundings.take_on(data)


# -- errors ---------------------------------------------------------------------------


def errors(client: ktask.Client) -> list[KtaskError]:
    found: list[KtaskError] = [
        KtaskError("words", code="NOT_FOUND", reason="WHY", field="a.b", metadata={"x": "y"}),
        DaemonNotFound("nobody", ["first", "second"]),
        WorkerLost("gone", reason="WORKER_LOST"),
        InitializerFailed("no"),
    ]
    with pytest.raises(ktask.JobFailed) as failed, ktask.memory(4096) as memory:
        client.run(lambda data, start, end, arg: 1 / 0, data=memory)
    return [*found, failed.value]


def test_errors_when_pickled_then_they_carry_the_same(client: ktask.Client) -> None:
    for error in errors(client):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.__dict__ == error.__dict__


def test_job_failed_when_raised_in_another_pool_then_the_pool_goes_on(daemon: Daemon, tmp_path: Path) -> None:
    """Runs in a separate program, since such a pool would leave a process behind in this one."""
    code = (
        "import concurrent.futures, multiprocessing\n"
        "from tests.own import things\n"
        "context = multiprocessing.get_context('spawn')\n"
        "with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:\n"
        "    try:\n"
        f"        pool.submit(things.fail_a_job, {str(daemon.place)!r}).result()\n"
        "    except ktask.JobFailed as error:\n"
        "        print(error.reason)\n"
        "    print(pool.submit(pow, 2, 3).result())\n"
    )
    done = program(daemon, code, tmp_path, {"PYTHONPATH": str(REPOSITORY)})
    assert done.stdout == "FUNCTION_ERROR\n8\n", done.stderr


def test_worker_when_lost_then_caught_as_a_broken_pool(executor: ktask.Executor) -> None:
    with pytest.raises(concurrent.futures.process.BrokenProcessPool):
        executor.submit(things.die).result()
    assert executor.submit(things.square, 3).result() == 9


# -- the end ---------------------------------------------------------------------------


def test_callback_when_it_exits_then_no_other_call_is_concerned(executor: ktask.Executor) -> None:
    called = threading.Event()
    first = executor.submit(things.square, 1)
    first.add_done_callback(lambda _: sys.exit(3))
    first.add_done_callback(lambda _: called.set())
    assert [executor.submit(things.square, i).result() for i in range(4)] == [0, 1, 4, 9]
    assert called.wait(PATIENCE_S), "the other callbacks are called"


def test_call_when_submitted_at_the_very_end_then_refused(daemon: Daemon, tmp_path: Path) -> None:
    code = (
        "import atexit\n"
        "def last():\n"
        "    try:\n"
        "        executor.submit(pow, 2, 3)\n"
        "    except RuntimeError as error:\n"
        "        print(error)\n"
        "atexit.register(last)\n"
        "executor.submit(pow, 2, 3).result()\n"
    )
    done = program(daemon, code, tmp_path)
    assert done.stdout == "cannot schedule new futures after interpreter shutdown\n"


@pytest.mark.parametrize("head", ["with executor: ", ""])
def test_ctrl_c_when_a_call_is_waited_for_then_the_program_and_the_call_end(
    daemon: Daemon, tmp_path: Path, head: str
) -> None:
    code = (
        "import ktask, os, time\n"
        f"executor = ktask.Executor(1, target={str(daemon.place)!r})\n"
        "def call():\n"
        "    with open('part', 'w') as file: file.write(str(os.getpid()))\n"
        "    os.rename('part', 'begun')\n"
        "    time.sleep(1000)\n"
        f"{head}executor.submit(call).result()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        until((tmp_path / "begun").exists, "the call has begun")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGINT
    assert errors.decode().rstrip().endswith("KeyboardInterrupt")
    pid = int((tmp_path / "begun").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists(), "the call has ended")


# -- initializers ----------------------------------------------------------------------


def test_initializer_when_given_then_called_once_in_each_worker(daemon: Daemon, tmp_path: Path) -> None:
    with ktask.Executor(
        2, initializer=things.note_a_call, initargs=(str(tmp_path),), target=daemon.place
    ) as executor:
        pids = {executor.submit(os.getpid).result() for _ in range(20)}
        pids |= set(executor.map(things.pid_of, range(20)))
    assert {path.name for path in tmp_path.iterdir()} == {str(pid) for pid in pids}
    assert all(path.read_text() == "x" for path in tmp_path.iterdir())


def test_initializer_when_it_raises_then_logged_as_by_a_pool_of_processes(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    with ktask.Executor(1, initializer=things.leave_by_an_error, target=daemon.place) as executor:
        assert isinstance(executor.submit(pow, 2, 3).exception(), InitializerFailed)
    (record,) = [one for one in caplog.records if one.name == "concurrent.futures"]
    assert (record.levelname, record.getMessage()) == ("CRITICAL", "Exception in initializer:")
    assert "ZeroDivisionError: on purpose" in str(record.exc_text)


def test_initializer_when_it_raises_then_the_executor_takes_no_more(daemon: Daemon) -> None:
    with ktask.Executor(1, initializer=things.leave_by_an_error, target=daemon.place) as executor:
        with pytest.raises(InitializerFailed, match="initializer: raised ZeroDivisionError"):
            executor.submit(pow, 2, 3).result()
        with pytest.raises(concurrent.futures.BrokenExecutor):
            executor.submit(pow, 2, 3)
