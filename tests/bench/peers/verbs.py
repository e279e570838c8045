"""Verbs of the command beside the programs that they imitate, each as a whole command on one large text."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.interference.line import Line
from tests.bench.interference.programs import needed
from tests.bench.peers.archives import make_text
from tests.bench.peers.contest import Bench, Way, against, contest, mib

_BIN = Path(sys.executable).parent

LINES = {
    "zstd": ("zstd -q -f -T2 -k text", "ktask compress -f -k text"),
    "pigz": ("pigz -f -k -p2 text", "ktask compress -f -k --format gzip text"),
    "zstd from a pipe": ("cat text | zstd -q -T2 > out", "cat text | ktask compress > out"),
    "zstd -d to a pipe": (
        "cat packed.zst | zstd -q -d | cat > out",
        "cat packed.zst | ktask decompress | cat > out",
    ),
    "sha256sum": ("sha256sum text", "ktask sum text"),
    "b3sum": ("b3sum text", "ktask sum -a blake3 text"),
    "grep": ("LC_ALL=C.UTF-8 grep -E '9{5}' text > out", "ktask search '9{5}' text > out"),
    "cmp": ("cmp text copy", "ktask compare text copy"),
}
"""By the known program, which is the first word: its line and ours."""


def verbs(bench: Bench) -> Iterator[Line]:
    """Each verb over its model; no goal, since every machine has its own limit."""
    size = make_text(bench.directory / "text", bench)
    shell = _shell(bench)
    shell("cp text copy")()
    shell("ktask compress -k -o packed.zst text")()
    for name, (theirs, ours) in LINES.items():
        needed(name.split()[0], name.split()[0])
        times = contest(bench.repeat, {"ours": Way(shell(ours)), name: Way(shell(theirs))})
        yield against(times, "ours", [name], None, f"{ours}, {mib(size)}, over {name}")
    for path in bench.directory.iterdir():
        if path.is_file():
            path.unlink()


def _shell(bench: Bench) -> Callable[[str], Callable[[], bytes]]:
    """Makes a shell line into a way, which returns its output."""
    environment = {
        **os.environ,
        "PATH": f"{_BIN}:{os.environ['PATH']}",
        "KTASKD_SOCKET": bench.runtime,
    }

    def way(line: str) -> Callable[[], bytes]:
        return lambda: (
            subprocess.run(
                ["sh", "-ec", line], cwd=bench.directory, env=environment, check=True, stdout=subprocess.PIPE
            ).stdout
        )

    return way
