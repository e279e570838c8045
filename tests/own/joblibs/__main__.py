"""joblib's own tests with our backend instead of loky's: python -m tests.own.joblibs.

Needs joblib and pytest in the environment of this interpreter; joblib brings its tests. `--backend loky` runs
the same tests unchanged, for comparison. The daemon is the one that KTASKD_SOCKET names, or else one that is
started and ended here. Other modules of tests, such as scikit-learn's, can be named:

    python -m tests.own.joblibs --jobs 2 sklearn.model_selection.tests.test_search
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from tests.own.joblibs.leftout import LEFT_OUT
from tests.own.suite import a_daemon

SITE = Path(__file__).parent / "site"
MODULES = ("joblib.test.test_parallel", "joblib.test.test_memmapping")
_TIMEOUT_S = 120


def main() -> int:
    """Run the tests and print the counts; the exit status is 1 if any failed."""
    parser = argparse.ArgumentParser(
        "python -m tests.own.joblibs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("modules", nargs="*", default=MODULES, help="by default those of joblib's backends")
    parser.add_argument("--backend", choices=("ktask", "loky"), default="ktask")
    parser.add_argument("--jobs", default="", help="n_jobs of every run that has none of its own")
    parser.add_argument("-k", dest="pattern", default="", help="as pytest takes it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ktask-joblib-") as place, contextlib.ExitStack() as stack:
        if args.backend == "ktask":
            stack.enter_context(a_daemon())
        begun_s = time.monotonic()
        left: Mapping[str, Sequence[str]]
        left = LEFT_OUT if args.backend == "ktask" and tuple(args.modules) == MODULES else {}
        os.environ["KTASK_JOBLIB_LEFT_OUT"] = "\n".join(test for tests in left.values() for test in tests)
        os.environ["KTASK_JOBLIB_JOBS"] = args.jobs
        _run(Path(place), args.modules, args.backend, args.pattern)
        cases = ElementTree.parse(f"{place}/report.xml").getroot().iter("testcase")
        found = Path(place, "left_out").read_text().splitlines()
        left = {why: [test for test in tests if test in found] for why, tests in left.items()}
        status = _report(list(cases), args.backend, left, time.monotonic() - begun_s)
        used = Path(place, "used")
        if used.exists():
            print(f"  with our backend: {len(set(used.read_text().splitlines()))} of those run")
        return status


def _run(place: Path, modules: Sequence[str], backend: str, pattern: str) -> None:
    path = [os.fspath(SITE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environ = {
        **os.environ,
        "KTASK_JOBLIB_BACKEND": backend,
        "KTASK_JOBLIB_USED": f"{place}/used",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }
    (place / "pytest.ini").write_text("[pytest]\n")  # do not use the settings of this project
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-k", pattern]
    command += ["-p", "ktask_leftout"]
    command += [f"--timeout={_TIMEOUT_S}", f"--junit-xml={place}/report.xml", "--pyargs", *modules]
    subprocess.run(command, cwd=place, env=environ, check=False)


def _report(
    cases: Sequence[ElementTree.Element], backend: str, left: Mapping[str, Sequence[str]], took_s: float
) -> int:
    failed = [one for one in cases if one.find("failure") is not None or one.find("error") is not None]
    skipped = Counter(_reason(one) for one in cases if one.find("skipped") is not None)
    left_out = Counter({why: len(tests) for why, tests in left.items()})
    passed = len(cases) - len(failed) - skipped.total()
    print(
        f"\n{backend}: passed {passed}, failed {len(failed)}, skipped by themselves {skipped.total()}, "
        f"left out {left_out.total()}, {took_s:.0f} s"
    )
    for why, count in left_out.items():
        print(f"  left out {count}: {why}")
    for why, count in skipped.items():
        print(f"  skipped {count}: {why}")
    for one in failed:
        print(f"  failed: {one.get('classname')}::{one.get('name')}")
    return 1 if failed else 0


def _reason(case: ElementTree.Element) -> str:
    found = case.find("skipped")
    assert found is not None
    return found.get("message") or found.get("type") or ""


if __name__ == "__main__":
    sys.exit(main())
