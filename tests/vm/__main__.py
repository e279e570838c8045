"""`python -m tests.vm`: boot the virtual machine, run the checks in it, and print a table.

python -m tests.vm [CHECK ...]       run these checks, or all
python -m tests.vm --script FILE     install the package, then run a shell script in the machine
python -m tests.vm --transcript      replace the transcript in deploy/README.md
python -m tests.vm --make            only make the machine's files; exit status 1 if that is not possible
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
    """Files for the machine: the package, the checks, grpcurl."""
    packages = sorted((image.ROOT / "dist").glob("ktaskd_*.deb"))
    if not packages:
        raise image.CannotMake("dist: there is no package; run make deb")
    found: dict[str, str | bytes | Path] = {f"vm/guest/{path.name}": path for path in GUEST.glob("*.py")}
    image.CACHE.mkdir(parents=True, exist_ok=True)
    found["vm/clear_page.so"] = build("clear_page", image.CACHE)
    found["vm/silent_fuse.py"] = image.ROOT / "tests/door/silent_fuse.py"
    found |= {"vm/ktaskd.deb": packages[-1], "vm/grpcurl": image.grpcurl()}
    return found


def show(result: Result) -> None:
    """Print one line of the table, as soon as the result arrives."""
    verdict = "PASS" if result.ok else "FAIL"
    print(f"{verdict}  {result.seconds:6.1f} s  {result.name.replace('_', ' ')}: {result.figure}", flush=True)
    if not result.ok:
        print(result.detail, flush=True)


def write_transcript(printed: str) -> None:
    """Put the commands' output into the last section of deploy/README.md."""
    text = README.read_text().partition(f"\n{HEADING}\n")[0]
    lines = "\n".join(f"    {line}".rstrip() for line in printed.strip().splitlines())
    about = "From the virtual machine of `make vm-test`, by `python -m tests.vm --transcript`:"
    README.write_text(f"{text}\n{HEADING}\n\n{about}\n\n{lines}\n")


def make() -> int:
    """Get the programs, the kernel and the disk; 1 and a message if that is not possible."""
    try:
        image.get_tools()
        image.kernel()
        image.base()
    except image.CannotMake as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Run as the options say; 0 = all passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    parser.add_argument("checks", nargs="*", help="names of checks (default: all)")
    parser.add_argument("--script", type=Path, help="run this in the machine instead of the checks")
    parser.add_argument(
        "--transcript", action="store_true", help="replace the transcript in deploy/README.md"
    )
    parser.add_argument("--make", action="store_true", help="only make the machine's files")
    options = parser.parse_args()
    if options.make:
        return make()
    if options.transcript:
        options.script = TRANSCRIPT
    begin_s, failed = time.monotonic(), 0

    def report(result: Result) -> None:
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
        console = boot(added, "script" if options.script else " ".join(["checks", *options.checks]), report)
    except (image.CannotMake, Died, subprocess.SubprocessError) as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    print(
        f"{failed} failed, {time.monotonic() - begin_s:.0f} s in total, {len(console)} characters of console"
    )
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
