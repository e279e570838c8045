"""A call finds what is read only at the start of a process: variables, options, interpreter, packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

import ktask
import pytest
from ktask.v1 import start

from tests.support.real_daemon import Daemon
from tests.support.users import REPOSITORY

PATIENCE_S = 100


def program(daemon: Daemon, code: str, environ: Mapping[str, str], *command: str) -> list[str]:
    """The lines that a program prints, in which `executor` uses the daemon."""
    head = f"import ktask, os, sys\nexecutor = ktask.Executor(1, target={str(daemon.place)!r})\n"
    done = subprocess.run(
        [*(command or (sys.executable,)), "-c", head + code],
        check=False,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_call_when_variables_are_read_at_the_start_then_those_of_its_own_program(
    daemon: Daemon, tmp_path: Path
) -> None:
    """The library is found, the other one is preloaded, and the next program sees neither."""
    (tmp_path / "any.c").write_text("int any(void)\n{\n\treturn 1;\n}\n")
    for name in ("libonlyhere.so", "libbefore.so"):
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / name, tmp_path / "any.c"], check=True)
    code = (
        "def look():\n"
        "    import ctypes\n"
        "    maps = open('/proc/self/maps').read()\n"
        "    try:\n"
        "        ctypes.CDLL('libonlyhere.so')\n"
        "    except OSError:\n"
        "        return hash('x'), sys.flags.optimize, 'libbefore' in maps, False\n"
        "    return hash('x'), sys.flags.optimize, 'libbefore' in maps, True\n"
        "print(look() == executor.submit(look).result(), *look())\n"
        "print(executor.submit(lambda: dict(os.environ) == environ).result())\n"
    ).replace("== environ", f"== {{**os.environ, 'KTASKD_SOCKET': {str(daemon.place)!r}}}")
    environ = {
        "PYTHONHASHSEED": "7",
        "LD_LIBRARY_PATH": str(tmp_path),
        "LD_PRELOAD": str(tmp_path / "libbefore.so"),
    }
    seven = program(daemon, code, environ, sys.executable, "-O")
    assert seven[0].split()[0] == "True"
    assert seven[0].split()[2:] == ["1", "True", "True"]
    eight = program(daemon, code, {"PYTHONHASHSEED": "8"})
    assert eight[0].split()[0] == "True"
    assert eight[0].split()[2:] == ["0", "False", "False"]
    assert seven[0].split()[1] != eight[0].split()[1]


def test_worker_when_it_has_started_again_then_the_daemon_knows_it_as_before(daemon: Daemon) -> None:
    code = (
        f"with ktask.connect({str(daemon.place)!r}) as client:\n"
        "    def look():\n"
        "        return os.getpid(), open('/proc/self/comm').read(), os.getppid()\n"
        "    pid, name, parent = executor.submit(look).result()\n"
        "    known = [w.pid for pool in client.status().pools for w in pool.workers]\n"
        "    print(pid in known, name.strip(), open(f'/proc/{parent}/comm').read().strip())\n"
        "executor.shutdown()\n"
    )
    plain = program(daemon, code, {})
    again = program(daemon, code, {"PYTHONHASHSEED": "1"})
    for (line,) in (plain, again):
        known, name, parents_name = line.split()
        assert (known, name) == ("True", parents_name)


def test_job_when_workers_start_again_then_run_combined_and_undone(daemon: Daemon) -> None:
    """Each step may be the first of the job in its worker."""
    code = (
        f"with ktask.connect({str(daemon.place)!r}) as client, ktask.memory(1 << 20) as m:\n"
        "    def fill(data, start, end, arg):\n"
        "        data.view(start, end)[:] = bytes([arg]) * (end - start)\n"
        "        return [hash('x')]\n"
        "    job = client.run(fill, data=m, arg=7, combine=lambda parts: sum(parts, []))\n"
        "    print(set(job.result['value']) == {hash('x')}, set(m))\n"
        "    def fail(data, start, end, arg):\n"
        "        if end == len(data): raise ValueError(hash('x'))\n"
        "        return fill(data, start, end, 9)\n"
        "    def undo(data, start, end, arg):\n"
        "        data.view(start, end)[:] = bytes([7]) * (end - start)\n"
        "    try:\n"
        "        client.run(fail, data=m, undo=undo, max_threads=1)\n"
        "    except ktask.JobFailed as error:\n"
        "        print(error.job.state, error.job.error.message == f'ValueError: {hash(chr(120))}')\n"
        "    print(set(m))\n"
    )
    found = program(daemon, code, {"PYTHONHASHSEED": "3"})
    assert found == ["True {7}", "FAILED True", "{7}"]


@pytest.fixture(scope="module")
def other_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with ktask and a package that no other has."""
    home = tmp_path_factory.mktemp("other") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    interpreter = home / "bin" / "python"
    (packages,) = home.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    lines = [*here, str(REPOSITORY), str(REPOSITORY / "client")]
    (packages / "others.pth").write_text("\n".join(lines) + "\n")
    (packages / "onlyhere.py").write_text("def double(x):\n    return 2 * x\n")
    return interpreter


def test_call_when_its_program_has_another_virtual_environment_then_that_ones_packages(
    daemon: Daemon, other_home: Path
) -> None:
    code = (
        "import onlyhere\n"
        "print(executor.submit(onlyhere.double, 21).result())\n"
        "print(executor.submit(lambda: sys.prefix).result(), sys.prefix)\n"
        f"with ktask.connect({str(daemon.place)!r}) as client:\n"
        "    job = client.run(lambda *_: onlyhere.double(2), ranges=[(0, 1)], combine=sum)\n"
        "    print(job.result['value'])\n"
    )
    doubled, prefixes, run = program(daemon, code, {}, str(other_home))
    assert (doubled, run) == ("42", "4")
    assert prefixes.split() == [str(other_home.parents[1])] * 2


def test_call_when_packages_were_installed_meanwhile_then_nothing_old_is_loaded(
    daemon: Daemon, tmp_path: Path
) -> None:
    """Workers are forked from processes that have loaded numpy, in the version of that moment."""
    packages = tmp_path / "site-packages"
    look = "print(executor.submit(lambda: 'numpy' in sys.modules).result())\n"
    assert program(daemon, look, {}) == ["True"]
    packages.mkdir()
    add = f"sys.path.insert(0, {str(packages)!r})\n"
    assert program(daemon, add + look, {}) == ["False"]
    os.utime(packages, (0, 0))
    assert program(daemon, add + look, {}) == ["True"]


def test_start_when_only_variables_differ_that_do_not_matter_then_not_again() -> None:
    """Containers set these variables; restarting for them would delay each program's first call."""
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": "/x", "HOME": "/x", "TZ": "UTC"}
    environ |= {"KMP_INIT_AT_FORK": "FALSE", "KMP_DUPLICATE_LIB_OK": "True"}
    same = {**start.take(), "options": ["-B", "-s"]}
    start.check(same, environ, ["/x"])
    for name in ("PYTHONHASHSEED", "OMP_NUM_THREADS", "LD_LIBRARY_PATH", "KMP_AFFINITY"):
        with pytest.raises(start.StartAgain) as caught:
            start.check(same, {**environ, name: "1x"}, ["/x"])
        assert caught.value.environ[name] == "1x"


def test_start_when_the_user_has_hooks_of_import_then_again_with_them(tmp_path: Path) -> None:
    """Hooks like those of `pip install --user --editable`."""
    hooks = {**start.take(), "user_hooks": str(tmp_path)}
    with pytest.raises(start.StartAgain) as caught:
        start.check(hooks, os.environ, [])
    assert caught.value.command[0] == sys.executable


def test_call_when_the_interpreter_is_gone_then_both_are_named_and_what_to_do(
    client: ktask.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {**start.take(), "python": "3.99", "executable": "/no/such/python", "prefix": "/no/such"}
    monkeypatch.setattr(start, "take", lambda: elsewhere)
    monkeypatch.setattr("ktask.v1.code.PYTHON", "3.99")
    with pytest.raises(ktask.JobFailed) as calls:
        list(client.map(abs, [1]))
    with pytest.raises(ktask.JobFailed) as run:
        client.run(lambda *_: None, ranges=[(0, 1)])
    for caught in (calls, run):
        text = str(caught.value)
        assert "/no/such/python (Python 3.99)" in text
        assert f"{sys.executable} (Python {sys.version_info[0]}.{sys.version_info[1]})" in text
        assert "No such file or directory" in text
        assert "ktask.connect(own=True)" in text


def test_call_when_only_its_program_has_a_module_then_named_and_the_next_step_is_right(
    daemon: Daemon,
) -> None:
    code = (
        "import types, cloudpickle\n"
        "made = types.ModuleType('made')\n"
        "exec('def double(x): return 2 * x', made.__dict__)\n"
        "sys.modules['made'] = made\n"
        "try:\n"
        "    executor.submit(made.double, 4).result()\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name, error)\n"
        f"with ktask.connect({str(daemon.place)!r}) as client:\n"
        "    try:\n"
        "        client.run(made.double, ranges=[(0, 1)])\n"
        "    except ktask.JobFailed as error:\n"
        "        print(error)\n"
        "cloudpickle.register_pickle_by_value(made)\n"
        "print(executor.submit(made.double, 4).result())\n"
    )
    call, run, after = program(daemon, code, {})
    version = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    assert call.startswith("made No module named 'made'")
    for text in (call, run):
        assert text.count(f"{sys.executable} ({version})") == 2
        assert "register_pickle_by_value" in text
    assert after == "8"


# -- which variables need a restart -------------------------------------------------------------


_WATCHER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static void note(const char *name)
{
	char line[300];
	int length = snprintf(line, sizeof line, "reads %s\\n", name);
	(void)!write(2, line, length);
}
#define WATCHED(function) \\
	char *function(const char *name) \\
	{ \\
		char *(*real)(const char *) = dlsym(RTLD_NEXT, #function); \\
		note(name); \\
		return real(name); \\
	}
WATCHED(getenv)
WATCHED(secure_getenv)
"""

_LOAD = """
import os, sys
kind = type(os.environ)
plain = kind.__getitem__
def watched(self, name):
    print("reads", name, file=sys.stderr)
    return plain(self, name)
kind.__getitem__ = watched
from ktaskd.pool import host
host.warm_up()
"""

_ELSEWHERE = {
    "KTASKD_FAULTS",  # set by the daemon
    "LC_ALL",  # part of the locale, and so of the encoding, which is compared separately
    "PATH",
    "__PYVENV_LAUNCHER__",  # macOS only
}
"""Variables that are read at the start, but need no restart."""


def test_variables_when_a_worker_loads_its_libraries_then_all_that_are_read_are_known(tmp_path: Path) -> None:
    (tmp_path / "watcher.c").write_text(_WATCHER)
    watcher = tmp_path / "watcher.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", watcher, tmp_path / "watcher.c", "-ldl"],
        check=True,
    )
    done = subprocess.run(
        [sys.executable, "-P", "-s", "-c", _LOAD],
        check=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "LD_PRELOAD": str(watcher)},
        stderr=subprocess.PIPE,
        text=True,
    )
    read = set(re.findall(r"^reads (.*)$", done.stderr, re.MULTILINE))
    assert {"OPENBLAS_CORETYPE", "PYTHONHASHSEED"} <= read
    assert not {name for name in read - _ELSEWHERE - start._TAKEN_ON if not start.is_read_at_start(name)}
