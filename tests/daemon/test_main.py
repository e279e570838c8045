from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ktaskd.daemon import command as module
from ktaskd.daemon.main import main
from ktaskd.host.root import HostRoot


def test_host_root_when_it_is_no_directory_then_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "file"
    there.touch()
    assert main(["--host-root", str(there), "--runtime-dir", str(tmp_path / "run")]) == 2
    assert f"--host-root: got '{there}', wanted a directory" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "wanted"), [([], "/"), (["--host-root", "machine"], "machine")])
def test_host_root_when_given_then_passed_on_as_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], wanted: str
) -> None:
    (tmp_path / "machine").mkdir()
    monkeypatch.chdir(tmp_path)
    got: list[object] = []

    def run(*args: object) -> int:
        got.extend(args)
        return 0

    monkeypatch.setattr(module, "_run", run)
    assert main([*given, "--runtime-dir", str(tmp_path / "run")]) == 0
    assert got[-1] == HostRoot(tmp_path / wanted)


@pytest.mark.parametrize("word", ["--version", "--help", "--no-such-option"])
def test_command_when_it_starts_no_daemon_then_it_loads_nothing_of_one(word: str) -> None:
    code = (
        "import sys\nfrom ktaskd.daemon.main import main\nmain([sys.argv[1]])\n"
        "print('\\n'.join(name for name in sys.modules if name.startswith('ktaskd.')), file=sys.stderr)\n"
        "sys.exit('asyncio' in sys.modules or 'grpc' in sys.modules)"
    )
    words = [sys.executable, "-I", "-c", code, word]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    mine = [line for line in done.stderr.splitlines() if line.startswith("ktaskd.")]
    assert mine == ["ktaskd.daemon", "ktaskd.daemon.main"]
