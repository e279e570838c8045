"""Boot the virtual machine, hand it the files to run, and receive its results."""

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
EMPTY_DISK_MIB = 512
SILENT_S = 240.0
"""Seconds without any output on the console or the results port after which the machine counts as hung."""
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
    """The result of one check.

    Args:
        figure: the measured value, in words.
        detail: why it failed, and the journal.
        seconds: how long it took, by the host's clock.
    """

    name: str
    ok: bool
    figure: str = ""
    detail: str = ""
    seconds: float = 0.0


class Died(Exception):
    """The machine ended, or hung, before it was done; the message has the end of its console."""


@contextmanager
def _only_one() -> Iterator[None]:
    """Allow one machine at a time on this host, since two would each be half as fast."""
    path = Path(tempfile.gettempdir()) / f"ktaskd-vm.{os.geteuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def boot(files: Mapping[str, str | bytes | Path], argument: str, report: Callable[[Result], None]) -> str:
    """Boot and run the guest's main with `argument`; report each result as it comes; return the console.

    Raises:
        image.CannotMake, Died
    """
    image.get_tools()
    kernel, modules = image.kernel()
    disk = image.base()
    with _only_one(), tempfile.TemporaryDirectory(prefix="ktaskd-vm-", dir="/var/tmp") as name:
        directory = Path(name)
        _write_initrd(directory, image.first_root(disk, modules), files, argument)
        return _Run(directory, kernel, disk, report).run()


def _write_initrd(
    directory: Path,
    first_root: Mapping[str, str | bytes | Path],
    files: Mapping[str, str | bytes | Path],
    argument: str,
) -> None:
    """Write an initramfs that mounts the disk, with the files that this run adds."""
    tree = directory / "first"
    unit = "etc/systemd/system/ktaskd-vm.service"
    links = [(f"added/etc/systemd/system/{name}", "/dev/null") for name in _MASKED]
    links.append(("added/etc/systemd/system/multi-user.target.wants/ktaskd-vm.service", f"/{unit}"))
    own = {unit: _UNIT % argument, "etc/hostname": "ktaskd-vm\n", "etc/machine-id": "0" * 31 + "1\n"}
    added = {f"added/{name}": content for name, content in {**own, **files}.items()}
    image.write_tree(tree, {**first_root, **added}, links)
    (tree / "init").chmod(0o755)
    image.pack(tree, directory / "initrd")
    shutil.rmtree(tree)


class _Run:
    """One run of the emulator."""

    def __init__(self, directory: Path, kernel: Path, disk: Path, report: Callable[[Result], None]) -> None:
        self._directory, self._console, self._results = (
            directory,
            directory / "console",
            directory / "results",
        )
        self._kernel, self._disk, self._report = kernel, disk, report
        self._read = 0
        self._last_s = time.monotonic()
        self._done = False

    def run(self) -> str:
        process = subprocess.Popen(
            self._words(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(self._directory)},
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
            *("-kernel", str(self._kernel), "-initrd", str(self._directory / "initrd"), *self._drives()),
            *("-append", "console=ttyS0 rdinit=/init psi=1 panic=-1 mitigations=off systemd.show_status=1"),
            *("-serial", f"file:{self._console}", "-serial", f"file:{self._results}"),
        ]

    def _drives(self) -> list[str]:
        """Options for the root's disk, whose changes are discarded, and two empty ones: vda, vdb, vdc."""
        words = ["-drive", f"file={self._disk},if=virtio,format=raw,snapshot=on,cache=unsafe"]
        for name in ("second", "third"):
            path = self._directory / name
            path.touch()
            os.truncate(path, EMPTY_DISK_MIB << 20)
            words += ["-drive", f"file={path},if=virtio,format=raw,cache=unsafe"]
        return words

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        size, silent_since = 0, time.monotonic()
        while process.poll() is None:
            self._hear()
            now = sum(path.stat().st_size for path in (self._console, self._results) if path.exists())
            if now != size:
                size, silent_since = now, time.monotonic()
            elif time.monotonic() - silent_since > SILENT_S:
                raise Died(f"the virtual machine was silent for {SILENT_S:g} s\n{self._text()[-6000:]}")
            time.sleep(LOOK_S)
        self._hear()

    def _hear(self) -> None:
        """Take the complete lines that have arrived since the last look."""
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
        self._report(
            Result(str(said["name"]), bool(said["ok"]), str(said["figure"]), str(said["detail"]), seconds)
        )

    def _text(self) -> str:
        return self._console.read_text(errors="replace") if self._console.exists() else ""
