"""Ctrl-C and os.fork in real client processes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake import FakeDaemon

WAIT_S = 30


@contextlib.contextmanager
def program(fake: FakeDaemon, code: str) -> Iterator[subprocess.Popen[str]]:
    """A client process that runs `code` with `client` connected."""
    head = f"import ktask, os, sys\nclient = ktask.connect({str(fake.directory)!r})\n"
    with subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("progress", ["None", "lambda job: None"])
@pytest.mark.parametrize("alarm", ["signal.SIG_DFL", "print"])
def test_ctrl_c_when_waiting_then_cancelled_undone_and_raised(
    fake: FakeDaemon, progress: str, alarm: str
) -> None:
    """With and without a handler of another signal that might raise during the call."""
    code = f"""
        import signal
        signal.signal(signal.SIGALRM, {alarm})
        try:
            client.run("fake.block", progress={progress})
        except KeyboardInterrupt as interrupt:
            print(client.jobs().__next__().state, *interrupt.__notes__)
    """
    with program(fake, code) as process:
        fake.wait_for(lambda fake: fake.jobs)
        process.send_signal(signal.SIGINT)
        # The job is cancelled, and its undo has not ended, so the client still waits.
        fake.wait_for(lambda fake: "Cancel" in fake.calls)
        fake.wait_for(lambda fake: fake.only_job().message.state == pb.JOB_STATE_UNDOING)
        assert process.poll() is None
        fake.undo.set()
        out, err = process.communicate(timeout=WAIT_S)
    assert (out, err) == ("CANCELLED job job0 ended CANCELLED\n", "")


def test_ctrl_c_when_the_undo_hangs_then_a_second_one_ends_the_wait(fake: FakeDaemon) -> None:
    code = """
        try:
            client.run("fake.block")
        except KeyboardInterrupt:
            print(client.job("job0").state)
    """
    with program(fake, code) as process:
        fake.wait_for(lambda fake: fake.jobs)
        process.send_signal(signal.SIGINT)
        fake.wait_for(lambda fake: "Cancel" in fake.calls)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=WAIT_S)
    assert out == "UNDOING\n"


def test_ctrl_c_when_it_comes_at_any_step_then_nothing_hangs_and_no_job_goes_on(fake: FakeDaemon) -> None:
    code = """
        import random, signal, threading, time
        def shoot():
            time.sleep(random.random() * 0.002)
            os.kill(os.getpid(), signal.SIGINT)
        for i in range(20):
            shooter = threading.Thread(target=shoot)
            try:
                shooter.start()
                client.run("fake.block", progress=(None, print)[i % 2] and (lambda job: None))
            except KeyboardInterrupt:
                pass
            shooter.join()
        print(*{job.state for job in client.jobs()} - {"CANCELLED"})
    """
    fake.undo.set()
    with program(fake, code) as process:
        out, err = process.communicate(timeout=WAIT_S)
    assert (out, err) == ("\n", "")


def test_ctrl_c_when_the_program_has_its_own_handler_then_that_one_decides(fake: FakeDaemon) -> None:
    code = """
        import signal
        signal.signal(signal.SIGINT, lambda number, frame: print("noted", flush=True))
        print(client.run("fake.steps").state, signal.getsignal(signal.SIGINT).__name__)
    """
    with program(fake, code) as process:
        fake.wait_for(lambda fake: fake.jobs)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "noted\n"
        fake.step.release(5)
        out, err = process.communicate(timeout=WAIT_S)
    assert (out, err) == ("SUCCEEDED <lambda>\n", "")


def test_ctrl_c_when_the_daemon_is_gone_then_raised_all_the_same(fake: FakeDaemon) -> None:
    code = """
        try:
            client.run("fake.block")
        except KeyboardInterrupt as interrupt:
            print(len(interrupt.__notes__))
    """
    with program(fake, code) as process:
        fake.wait_for(lambda fake: fake.jobs)
        process.send_signal(signal.SIGINT)
        fake.wait_for(lambda fake: "Cancel" in fake.calls)
        fake.kill()
        out, _ = process.communicate(timeout=WAIT_S)
    assert out == "1\n"


def test_fork_when_the_child_uses_the_client_then_a_clear_error_and_the_parent_goes_on(
    fake: FakeDaemon,
) -> None:
    code = """
        memory = ktask.memory(10)
        before = client.run("file.crc32", data=memory).result
        pid = os.fork()
        if pid == 0:
            for call in (client.status, lambda: client.run("file.crc32", data=memory), client.close):
                try:
                    call()
                    print("no error")
                except ktask.KtaskError as error:
                    print(error.reason)
            sys.stdout.flush()
            memory.close()
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        assert client.run("file.crc32", data=memory).result == before
        client.close()
    """
    with program(fake, code) as process:
        out, err = process.communicate(timeout=WAIT_S)
    assert out.split("\n") == ["CLIENT_FORKED", "CLIENT_FORKED", "no error", "3", ""], err
    assert fake.handoff.hands == 1


def test_fork_when_the_child_connects_again_then_it_works(fake: FakeDaemon) -> None:
    code = """
        import subprocess
        print(subprocess.run(
            [sys.executable, "-c", f"import ktask; print(len(ktask.connect({client.socket!r}).functions()))"],
            check=True, capture_output=True, text=True,
        ).stdout.strip())
        print(len(client.functions()))
    """
    with program(fake, code) as process:
        out, err = process.communicate(timeout=WAIT_S)
    child, parent = map(int, out.split())
    assert child == parent > 0, err


def test_end_of_the_program_when_nothing_was_closed_then_no_complaint(fake: FakeDaemon) -> None:
    code = """
        m = ktask.memory(10)
        client.run("file.crc32", data=m)
        watching = client.watch(client.submit("fake.steps"))
        next(watching)
    """
    with program(fake, code) as process:
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "", "")


def test_deferral_when_anything_else_might_raise_then_not_possible(fake: FakeDaemon) -> None:
    """Runs in a process of its own, since pytest has a handler for SIGALRM."""
    code = """
        import signal
        from concurrent.futures import ThreadPoolExecutor
        from ktask.link.interrupt import can_defer
        print(can_defer(), ThreadPoolExecutor(1).submit(can_defer).result())
        for number, handler in (("ALRM", print), ("INT", print), ("INT", signal.SIG_IGN)):
            before = signal.signal(getattr(signal, "SIG" + number), handler)
            print(can_defer())
            signal.signal(getattr(signal, "SIG" + number), before)
        print(can_defer())
    """
    with program(fake, code) as process:
        out, err = process.communicate(timeout=WAIT_S)
    assert out.split() == ["True", "False", "False", "False", "False", "True"], err
