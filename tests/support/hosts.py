"""The fake machines of tests/data/hosts, and copies of them that a test may change."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ktaskd.host.root import HostRoot

HOSTS = Path(__file__).parents[1] / "data" / "hosts"


def host_names() -> list[str]:
    """The names of all machines."""
    return sorted(path.name for path in HOSTS.iterdir() if path.is_dir())


def host(name: str) -> HostRoot:
    """A machine that a test only reads."""
    assert (HOSTS / name).is_dir(), name
    return HostRoot(HOSTS / name)


@dataclass(frozen=True)
class FakeHost:
    """A machine that a test may change; paths are absolute there, and links are followed."""

    root: HostRoot

    @classmethod
    def copy(cls, name: str, top: Path) -> FakeHost:
        """A copy of the machine `name` in the new directory `top`."""
        shutil.copytree(HOSTS / name, top, symlinks=True)
        return cls(HostRoot(top))

    def write(self, path: str, text: str) -> None:
        """Change or add a file; a newline is added to the text."""
        file = self.root.at(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def remove(self, path: str) -> None:
        """Remove a file, a link or a directory with everything below it."""
        gone = self.root.at(path)
        if gone.is_dir() and not gone.is_symlink():
            shutil.rmtree(gone)
        else:
            gone.unlink()

    def unplug(self) -> None:
        """Pull a laptop's plug."""
        self.write("/sys/class/power_supply/AC/online", "0")
        self.write("/sys/class/power_supply/BAT0/status", "Discharging")

    def plug_in(self) -> None:
        """Plug a laptop in."""
        self.write("/sys/class/power_supply/AC/online", "1")
        self.write("/sys/class/power_supply/BAT0/status", "Charging")
