"""`python -m tests.vm`: boot the virtual machine, run the checks in it, and print a table.

python -m tests.vm [CHECK ...]       the checks, or some of them
python -m tests.vm --script FILE     install the package, then run a shell script in there
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tests.vm import image
from tests.vm.machine import Died, Result, boot

GUEST = Path(__file__).parent / "guest"


def files() -> dict[str, str | bytes | Path]:
    """What the machine gets: the package, the checks, grpcurl."""
    packages = sorted((image.ROOT / "dist").glob("ktaskd_*.deb"))
    if not packages:
        raise image.CannotMake("dist: there is no package; make deb")
    found: dict[str, str | bytes | Path] = {f"vm/guest/{path.name}": path for path in GUEST.glob("*.py")}
    found |= {"vm/ktaskd.deb": packages[-1], "vm/grpcurl": image.grpcurl()}
    return found


def show(result: Result) -> None:
    """One line of the table, as soon as it is known."""
    verdict = "PASS" if result.ok else "FAIL"
    print(f"{verdict}  {result.seconds:6.1f} s  {result.name.replace('_', ' ')}: {result.figure}", flush=True)
    if not result.ok:
        print(result.detail, flush=True)


def main() -> int:
    """0 = all passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    parser.add_argument("checks", nargs="*", help="names; none = all")
    parser.add_argument("--script", type=Path, help="run this in the machine instead of the checks")
    options = parser.parse_args()
    begin_s, failed = time.monotonic(), 0

    def heard(result: Result) -> None:
        nonlocal failed
        failed += not result.ok
        show(result)

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
