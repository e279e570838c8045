"""Boots the virtual machine, hands it what it shall run, and hears its results."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm import image

CPUS, NODES, MIB_PER_NODE = 4, 2, 1536
SILENT_S = 240.0
"""Without a byte of console or results for so long it hangs."""
LOOK_S = 0.2

_MASKED = (
    *("serial-getty@ttyS0.service", "getty@tty1.service", "apt-daily.timer", "apt-daily-upgrade.timer"),
    *("dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "systemd-timesyncd.service"),
    *("e2scrub_reap.service", "systemd-update-utmp.service", "ldconfig.service"),
)
_UNIT = """[Unit]
Description=Checks of ktaskd
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -B /vm/guest/main.py %s
ExecStopPost=/usr/bin/systemctl poweroff --no-block
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one check.

    Args:
        figure: what was measured, in words.
        detail: why it failed, and what the journal says.
        seconds: it took, by the host's clock.
    """

    name: str
    ok: bool
    figure: str = ""
    detail: str = ""
    seconds: float = 0.0


class Died(Exception):
    """The machine ended, or hung, before it was done; the text has the end of its console."""


@contextmanager
def _only_one() -> Iterator[None]:
    """One machine at a time on this host: two would each be half as fast."""
    path = Path(tempfile.gettempdir()) / f"ktaskd-vm.{os.geteuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def boot(files: Mapping[str, str | bytes | Path], argument: str, heard: Callable[[Result], None]) -> str:
    """Boot, run the guest's main with `argument`, tell each result as it comes; the console's text.

    Raises:
        image.CannotMake, Died
    """
    image.get_tools()
    kernel, _ = image.kernel()
    base = image.base()
    with _only_one(), tempfile.TemporaryDirectory(prefix="ktaskd-vm-") as name:
        directory = Path(name)
        initrd = directory / "initrd"
        _write_initrd(initrd, base, directory, files, argument)
        return _Run(directory, kernel, initrd, heard).run()


def _write_initrd(
    initrd: Path, base: Path, directory: Path, files: Mapping[str, str | bytes | Path], argument: str
) -> None:
    """Debian's root, and behind it what this run adds: the kernel unpacks one after the other."""
    tree = directory / "added"
    unit = "etc/systemd/system/ktaskd-vm.service"
    links = [(f"etc/systemd/system/{name}", "/dev/null") for name in _MASKED]
    links.append(("etc/systemd/system/multi-user.target.wants/ktaskd-vm.service", f"/{unit}"))
    own = {unit: _UNIT % argument, "etc/hostname": "ktaskd-vm\n", "etc/machine-id": "0" * 31 + "1\n"}
    image.write_tree(tree, {**own, **files}, links)
    added = directory / "added.cpio"
    image.pack(tree, added)
    with initrd.open("wb") as whole:
        for part in (base, added):
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
            # Archives in a row begin at multiples of four.
            whole.write(bytes(-whole.tell() % 4))
    added.unlink()


class _Run:
    """One run of the emulator."""

    def __init__(self, directory: Path, kernel: Path, initrd: Path, heard: Callable[[Result], None]) -> None:
        self._console, self._results = directory / "console", directory / "results"
        self._kernel, self._initrd, self._heard = kernel, initrd, heard
        self._read = 0
        self._last_s = time.monotonic()
        self._done = False

    def run(self) -> str:
        process = subprocess.Popen(
            self._words(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            self._follow(process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            _, errors = process.communicate()
        text = self._text()
        if not self._done:
            raise Died(f"the virtual machine ended too early: {errors.decode()}\n{text[-6000:]}")
        return text

    def _words(self) -> list[str]:
        numa: list[str] = []
        each = CPUS // NODES
        for nid in range(NODES):
            cpus = f"{nid * each}-{nid * each + each - 1}"
            numa += ["-object", f"memory-backend-ram,id=m{nid},size={MIB_PER_NODE}M"]
            numa += ["-numa", f"node,nodeid={nid},cpus={cpus},memdev=m{nid}"]
        return [
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", str(CPUS)),
            *("-m", f"{MIB_PER_NODE * NODES}M", *numa),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"),
            *("-kernel", str(self._kernel), "-initrd", str(self._initrd)),
            *("-append", "console=ttyS0 rdinit=/init psi=1 panic=-1 mitigations=off systemd.show_status=1"),
            *("-serial", f"file:{self._console}", "-serial", f"file:{self._results}"),
        ]

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        size, silent_since = 0, time.monotonic()
        while process.poll() is None:
            self._hear()
            now = sum(path.stat().st_size for path in (self._console, self._results) if path.exists())
            if now != size:
                size, silent_since = now, time.monotonic()
            elif time.monotonic() - silent_since > SILENT_S:
                raise Died(f"the virtual machine said nothing for {SILENT_S:g} s\n{self._text()[-6000:]}")
            time.sleep(LOOK_S)
        self._hear()

    def _hear(self) -> None:
        """Take whole lines of what came since the last look."""
        if not self._results.exists():
            return
        with self._results.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if line.strip():
                self._take(json.loads(line))

    def _take(self, said: dict[str, object]) -> None:
        if said.get("done"):
            self._done = True
            return
        now_s = time.monotonic()
        seconds, self._last_s = now_s - self._last_s, now_s
        self._heard(
            Result(str(said["name"]), bool(said["ok"]), str(said["figure"]), str(said["detail"]), seconds)
        )

    def _text(self) -> str:
        return self._console.read_text(errors="replace") if self._console.exists() else ""
