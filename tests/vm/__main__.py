"""`python -m tests.vm`: boot the virtual machine, run the checks in it, and print a table.

python -m tests.vm [CHECK ...]       the checks, or some of them
python -m tests.vm --script FILE     install the package, then run a shell script in there
python -m tests.vm --transcript      write the transcript in deploy/README.md anew
python -m tests.vm --make            only get and make what the machine needs; status 1 where that cannot be
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tests.native.build import build
from tests.vm import image
from tests.vm.machine import Died, Result, boot

GUEST = Path(__file__).parent / "guest"
TRANSCRIPT = Path(__file__).parent / "transcript.sh"
README = image.ROOT / "deploy/README.md"
HEADING = "## A transcript"


def files() -> dict[str, str | bytes | Path]:
    """What the machine gets: the package, the checks, grpcurl."""
    packages = sorted((image.ROOT / "dist").glob("ktaskd_*.deb"))
    if not packages:
        raise image.CannotMake("dist: there is no package; make deb")
    found: dict[str, str | bytes | Path] = {f"vm/guest/{path.name}": path for path in GUEST.glob("*.py")}
    image.CACHE.mkdir(parents=True, exist_ok=True)
    found["vm/clear_page.so"] = build("clear_page", image.CACHE)
    found["vm/silent_fuse.py"] = image.ROOT / "tests/door/silent_fuse.py"
    found |= {"vm/ktaskd.deb": packages[-1], "vm/grpcurl": image.grpcurl()}
    return found


def show(result: Result) -> None:
    """One line of the table, as soon as it is known."""
    verdict = "PASS" if result.ok else "FAIL"
    print(f"{verdict}  {result.seconds:6.1f} s  {result.name.replace('_', ' ')}: {result.figure}", flush=True)
    if not result.ok:
        print(result.detail, flush=True)


def write_transcript(said: str) -> None:
    """Put what the commands printed into the section of deploy/README.md, which is its last."""
    text = README.read_text().partition(f"\n{HEADING}\n")[0]
    lines = "\n".join(f"    {line}".rstrip() for line in said.strip().splitlines())
    about = "From the virtual machine of `make vm-test`, by `python -m tests.vm --transcript`:"
    README.write_text(f"{text}\n{HEADING}\n\n{about}\n\n{lines}\n")


def make() -> int:
    """Have the programs, the kernel and the disk; 1 where that cannot be, which it says."""
    try:
        image.get_tools()
        image.kernel()
        image.base()
    except image.CannotMake as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """0 = all passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    parser.add_argument("checks", nargs="*", help="names; none = all")
    parser.add_argument("--script", type=Path, help="run this in the machine instead of the checks")
    parser.add_argument("--transcript", action="store_true", help="write that of deploy/README.md anew")
    parser.add_argument("--make", action="store_true", help="only get and make what the machine needs")
    options = parser.parse_args()
    if options.make:
        return make()
    if options.transcript:
        options.script = TRANSCRIPT
    begin_s, failed = time.monotonic(), 0

    def heard(result: Result) -> None:
        nonlocal failed
        failed += not result.ok
        show(result)
        if options.script and result.name == "script":
            print(result.detail)
            if options.transcript and result.ok:
                write_transcript(result.detail)

    try:
        added = files()
        if options.script:
            added["vm/script"] = options.script
        console = boot(added, "script" if options.script else " ".join(["checks", *options.checks]), heard)
    except (image.CannotMake, Died, subprocess.SubprocessError) as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    print(f"{failed} failed, {time.monotonic() - begin_s:.0f} s in all, console of {len(console)} characters")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
