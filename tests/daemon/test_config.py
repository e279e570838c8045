"""The configuration file: it is strict, and its defaults are written down once."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ktaskd.daemon.checkconfig import format_config
from ktaskd.daemon.config import Config, ConfigError, flatten, load_config
from ktaskd.daemon.hostconfig import socket_mode, worker_user
from ktaskd.daemon.reloading import RELOADABLE
from tests.support.users import REPOSITORY

DEFAULTS = REPOSITORY / "deploy" / "ktaskd.toml"
KTASKD = Path(sys.executable).parent / "ktaskd"


def load(path: Path, text: str) -> Config:
    file = path / "ktaskd.toml"
    file.write_text(text)
    return load_config(file)


def test_defaults_when_read_from_the_file_then_those_of_the_code() -> None:
    assert load_config(DEFAULTS) == Config()


def test_defaults_when_the_file_is_read_then_every_key_is_in_it() -> None:
    raw = tomllib.loads(DEFAULTS.read_text())
    assert {f"{section}.{key}" for section, values in raw.items() for key in values} == set(flatten(Config()))


def test_defaults_when_the_file_is_read_then_what_changes_without_a_restart_says_so() -> None:
    section, comment, after_key, said = "", "", False, set()
    for line in DEFAULTS.read_text().splitlines():
        if line.startswith("["):
            section, comment = line.strip("[]"), ""
        elif line.startswith("#"):
            comment = ("" if after_key else comment) + line.lstrip("#")
        elif "=" in line and "Changes without a restart" in comment:
            said.add(f"{section}.{line.split()[0]}")
        after_key = not line.startswith("#")
    assert said == RELOADABLE


def test_load_when_there_is_no_file_then_the_defaults() -> None:
    assert load_config(None) == Config()


def test_load_when_a_value_is_given_then_only_that_differs(tmp_path: Path) -> None:
    config = load(tmp_path, "[jobs]\nkept = 3\nkeep_s = 2\n")
    assert config == dataclasses.replace(
        Config(), jobs=dataclasses.replace(Config().jobs, kept=3, keep_s=2.0)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[jbos]\n",
            "jbos: unknown key (known: sockets, workers, jobs, disks, governor, functions, daemon, metrics)",
        ),
        ("kept = 1\n", "kept: unknown key"),
        ("[jobs]\nqueue = 1\n", "jobs.queue: unknown key (known: queued, queued_per_uid, kept, keep_s)"),
        ("[jobs.kept]\nx = 1\n", "jobs.kept: got {'x': 1}, wanted int"),
        ("jobs = 3\n", "jobs: got int, wanted a table"),
        ("[[jobs]]\nkept = 1\n", "jobs: got list, wanted a table"),
        ("[jobs]\nkept = 1.0\n", "jobs.kept: got 1.0, wanted int"),
        ("[jobs]\nkept = true\n", "jobs.kept: got True, wanted int"),
        ("[jobs]\nkeep_s = true\n", "jobs.keep_s: got True, wanted float"),
        ('[jobs]\nkept = "1"\n', "jobs.kept: got '1', wanted int"),
        ("[sockets]\nmode = 0o660\n", "sockets.mode: got 432, wanted str"),
        ("[jobs]\nkept = -1\n", "jobs.kept: got -1, wanted 0 to 1000000000"),
        ("[jobs]\nkept = 1000000001\n", "jobs.kept: got 1000000001, wanted 0 to 1000000000"),
        ("[jobs]\nkeep_s = nan\n", "jobs.keep_s: got nan, wanted"),
        ("[jobs]\nkeep_s = inf\n", "jobs.keep_s: got inf, wanted"),
        ("[jobs]\nkeep_s = -0.5\n", "jobs.keep_s: got -0.5, wanted"),
        (f"[jobs]\nkeep_s = 1{'0' * 400}\n", "jobs.keep_s: got 1"),
        ("[sockets]\nstreams = 0\n", "sockets.streams: got 0, wanted 1 to"),
        ("[workers]\nwarm = 4097\n", "workers.warm: got 4097, wanted 0 to 4096"),
        ('[workers]\nidle_group = "always"\n', 'workers.idle_group: got "always", wanted one of'),
        ("[workers]\nleads = 4097\n", "workers.leads: got 4097, wanted 0 to 4096"),
        ('[workers]\nuser = "a\\u0000b"\n', "workers.user: got 'a\\x00b', wanted a text without NUL"),
        (
            '[sockets]\nmode = "660x"\n',
            'sockets.mode: got "660x", wanted "auto" or octal digits such as "0660"',
        ),
        ('[sockets]\nmode = "4755"\n', 'sockets.mode: got "4755"'),
        ('[daemon]\nlog_level = "loud"\n', 'daemon.log_level: got "loud", wanted one of'),
        (
            '[governor]\non_battery = "stop"\n',
            "governor.on_battery: got \"stop\", wanted one of ('pause', 'leads', 'run')",
        ),
        ("[governor]\nio_fewer_percent = 101\n", "governor.io_fewer_percent: got 101, wanted 0 to 100"),
        ("[governor]\npressure_window_s = 0.5\n", "governor.pressure_window_s: got 0.5, wanted 1 to"),
        (
            "[governor]\ncpu_more_percent = 11\n",
            "governor.cpu_more_percent: got 11.0, wanted at most governor.cpu_fewer_percent, which is 10.0",
        ),
        ("[jobs\n", "not TOML: "),
        ("[jobs]\nkept = 1\nkept = 2\n", "not TOML: "),
        (f"[jobs]\nkept = {'1' * 5000}\n", "not TOML: "),
        (f"x = {'[' * 5000}\n", "not TOML: "),
    ],
)
def test_load_when_wrong_then_the_file_the_key_and_what_was_wanted(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/ktaskd.toml: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[metrics]\nsocket_mode = "rw"\n',
            'metrics.socket_mode: got "rw", wanted "auto" or octal digits such as "0660"',
        ),
        ('[metrics]\nsocket = "m.sock"\n', 'metrics.socket: got "m.sock", wanted "" or an absolute path'),
        (
            '[metrics]\ntextfile = "/var/k.txt"\n',
            'metrics.textfile: got "/var/k.txt", wanted "" or an absolute path that',
        ),
        ("[metrics]\ninterval_s = 0\n", "metrics.interval_s: got 0, wanted 1 to"),
    ],
)
def test_load_when_the_metrics_are_wrong_then_the_key_and_what_was_wanted(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(tmp_path, text)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"[jobs]\nkept = 1 # \xe4"])
def test_load_when_not_utf8_then_said(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ConfigError, match="x: not TOML: "):
        load_config(tmp_path / "x")


def test_load_when_it_cannot_be_read_then_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        load_config(tmp_path / "none")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)


def test_load_when_the_command_line_says_more_then_it_wins(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[daemon]\nidle_exit_s = 5\n")
    assert load_config(tmp_path / "x", idle_exit_s=7.0).daemon.idle_exit_s == 7.0
    assert load_config(tmp_path / "x").daemon.idle_exit_s == 5.0
    with pytest.raises(ConfigError, match="--idle-exit: got nan, wanted"):
        load_config(None, idle_exit_s=float("nan"))


def test_format_when_parsed_again_then_the_same(tmp_path: Path) -> None:
    group = 'a "b" \\ \n ü \x7f'
    sources = dict.fromkeys(flatten(Config()), "default") | {"sockets.group": "file", "jobs.kept": "file"}
    config = dataclasses.replace(
        Config(),
        sockets=dataclasses.replace(Config().sockets, group=group),
        jobs=dataclasses.replace(Config().jobs, kept=9),
    )
    text = format_config(config, sources)
    assert load(tmp_path, text) == config
    assert [line for line in text.splitlines() if line.endswith("# file")] == [
        line for line in text.splitlines() if line.startswith(("group", "kept"))
    ]


# -- the command -------------------------------------------------------------------


def ktaskd(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([KTASKD, *words], check=False, capture_output=True, text=True, timeout=30)


def test_check_config_when_right_then_printed_and_0(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[jobs]\nkeep_s = 5\n")
    done = ktaskd("--check-config", "--config", tmp_path / "x")
    assert (done.returncode, done.stderr) == (0, "")
    assert "keep_s = 5.0  # file\n" in done.stdout
    assert "kept = 2000  # default\n" in done.stdout
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


MACHINE: list[tuple[str, str, str, str]] = [
    ("workers", 'user = "nosuch"', "workers.user", 'no user "nosuch"'),
    ("workers", 'user = "root"', "workers.user", "is uid 0"),
    ("workers", "helpers_per_node = 4096", "workers.helpers_per_node", "got 4096, wanted at most"),
    ("workers", "leads = 2\nleads_per_uid = 3", "workers.leads_per_uid", "got 3, wanted at most 2"),
    ("workers", 'helpers_socket = "/no/such"', "workers.helpers_socket", "start ktaskd-helpers.socket"),
    ("workers", 'helpers_socket = "/dev/null"', "workers.helpers_socket", "is no socket"),
    ("sockets", 'group = "nosuch"', "sockets.group", 'no group "nosuch"'),
    ("sockets", 'mode = "0660"\ngroup = "nosuch"', "sockets.group", 'no group "nosuch"'),
    ("functions", 'dir = "/no/such"', "functions.dir", "no such directory"),
    ("functions", 'dir = "/dev/null"', "functions.dir", "no such directory"),
    ("disks", 'named = "nosuch=1"', "disks.named", 'no disk "nosuch"'),
]
"""Sections and keys, the path at fault, and the reason."""


@pytest.mark.parametrize(("section", "keys", "path", "why"), MACHINE)
def test_check_config_when_the_machine_has_it_not_then_2_and_why(
    tmp_path: Path, section: str, keys: str, path: str, why: str
) -> None:
    file = tmp_path / "x"
    file.write_text(f"[{section}]\n{keys}\n")
    done = ktaskd("--check-config", "--config", file)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ktaskd: {file}: {path}: ")
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "  # file\n" in done.stdout


def test_check_config_when_a_manifest_is_wrong_then_2_and_which(tmp_path: Path) -> None:
    directory = tmp_path / "functions.d"
    directory.mkdir(mode=0o755)
    (directory / "bad.toml").write_text("name = 3\n")
    file = tmp_path / "x"
    file.write_text(f'[functions]\ndir = "{directory}"\n')
    done = ktaskd("--check-config", "--config", file)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ktaskd: {file}: functions.dir: {directory}/bad.toml: ")


@pytest.mark.parametrize(
    "keys",
    [
        '[workers]\nuser = ""\n',
        '[workers]\nuser = "nobody"\n[sockets]\ngroup = "nogroup"\n',
        '[sockets]\nmode = "0600"\ngroup = "nosuch"\n',  # the mode gives the group no access
        '[functions]\ndir = ""\n',
    ],
)
def test_check_config_when_the_machine_has_all_of_it_then_0(tmp_path: Path, keys: str) -> None:
    (tmp_path / "x").write_text(keys)
    done = ktaskd("--check-config", "--config", tmp_path / "x")
    assert (done.returncode, done.stderr) == (0, "")


def test_check_config_when_no_file_sets_it_then_nothing_is_wrong_with_the_defaults(tmp_path: Path) -> None:
    """A machine without the user ktaskd and the group ktask; this one may be like that."""
    (tmp_path / "x").write_text("")
    done = ktaskd("--check-config", "--config", tmp_path / "x")
    assert (done.returncode, done.stderr) == (0, "")
    assert "# file" not in done.stdout


def test_check_config_when_options_say_otherwise_then_marked_with_those(tmp_path: Path) -> None:
    file = tmp_path / "x"
    # The file sets it, though to its default.
    file.write_text('[jobs]\nkept = 2000\n[daemon]\nidle_exit_s = 5\n[workers]\nuser = "nosuch"\n')
    done = ktaskd(
        "--check-config", "--config", file, "--idle-exit", "0", "--own-user", "--helpers-socket", "/x"
    )
    marks = {
        line.split(" = ")[0]: line.rpartition("  # ")[2] for line in done.stdout.splitlines() if " = " in line
    }
    assert {name for name, mark in marks.items() if mark == "file"} == {"kept"}
    assert {name: mark for name, mark in marks.items() if mark.startswith("--")} == {
        "idle_exit_s": "--idle-exit",
        "user": "--own-user",
        "mode": "--own-user",
        "group": "--own-user",
        "helpers_socket": "--helpers-socket",
    }
    assert done.stderr.startswith("ktaskd: --helpers-socket: /x: No such file or directory; start ")
    file.write_text('[sockets]\nmode = "0666"\ngroup = "nogroup"\n')
    done = ktaskd("--check-config", "--config", file, "--own-user")
    assert 'mode = "0666"  # file\ngroup = "nogroup"  # file\n' in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])  # PYTHONUNBUFFERED, as container images set it
@pytest.mark.parametrize("words", [["--check-config"], ["--help"], ["--version"]])
def test_command_when_nobody_reads_what_it_prints_then_it_ends_quietly(
    words: list[str], unbuffered: str
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as closed:
        done = subprocess.run(
            [KTASKD, *words],
            check=False,
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=30,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_check_config_when_an_option_is_no_text_then_printed_all_the_same() -> None:
    done = ktaskd("--check-config", "--helpers-socket", os.fsdecode(b"/none/\xff"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_check_config_when_printed_then_its_output_is_a_configuration(tmp_path: Path) -> None:
    done = ktaskd("--check-config", "--config", DEFAULTS, "--idle-exit", "9")
    assert load(tmp_path, done.stdout).daemon.idle_exit_s == 9.0


@pytest.mark.parametrize("more", [("--check-config",), ("--runtime-dir", "/nonexistent/x")])
def test_command_when_the_configuration_is_wrong_then_one_line_and_2(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    (tmp_path / "x").write_text("[jobs]\nqueue = 5\n")
    done = ktaskd("--config", tmp_path / "x", *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"ktaskd: {tmp_path}/x: jobs.queue: unknown key \(known: .*\)\n", done.stderr)


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "x"])
def test_command_when_the_idle_exit_is_no_time_then_2(seconds: str) -> None:
    done = ktaskd("--idle-exit", seconds, "--check-config")
    assert done.returncode == 2
    assert "--idle-exit" in done.stderr


def test_command_when_there_is_no_runtime_directory_then_1(tmp_path: Path) -> None:
    done = ktaskd("--runtime-dir", tmp_path / "none" / "x", "--config", DEFAULTS)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ktaskd: runtime directory {tmp_path}/none/x: No such file or directory\n"


# -- its effect on this machine --------------------------------------------------------


def test_worker_user_when_it_is_root_then_only_admins_may_run_jobs() -> None:
    user = worker_user(dataclasses.replace(Config().workers, user="root"), 0)
    assert (user.uid, "is uid 0" in user.refusal) == (-1, True)


def test_worker_user_when_not_root_then_workers_stay_who_they_are() -> None:
    assert worker_user(Config().workers, 1000).refusal == ""


@pytest.mark.parametrize(
    ("mode", "group", "euid", "wanted"),
    [
        ("auto", "no-such-group", 0, (0o600, -1)),
        ("auto", "nogroup", 0, (0o660, 65534)),
        ("auto", "nogroup", 1000, (0o600, -1)),
        ("0666", "nogroup", 0, (0o666, 65534)),
        ("600", "", 0, (0o600, -1)),
    ],
)
def test_socket_mode_when_asked_then_mode_and_group(
    mode: str, group: str, euid: int, wanted: tuple[int, int]
) -> None:
    assert socket_mode(dataclasses.replace(Config().sockets, mode=mode, group=group), euid) == wanted


def test_own_user_when_asked_for_then_the_sockets_are_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "c"
    for mode, expected in (("auto", "0600"), ("0666", "0666")):
        file.write_text(f'[sockets]\nmode = "{mode}"\ngroup = "staff"\n')
        assert load_config(file, own_user=True).sockets.mode == expected
        config = load_config(file, own_user=True, private=True)
        assert (config.sockets.mode, config.sockets.group, config.workers.user) == ("0600", "", "")
    assert load_config(None, own_user=True).sockets.mode == "0600"
    assert load_config(None).sockets.mode == "auto"
