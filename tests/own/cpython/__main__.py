"""CPython's own tests of executors, with ours: python -m tests.own.cpython [DIRECTORY_OF_THE_TESTS].

Needs test_concurrent_futures.py of this version of Python. Debian has it in libpython3.11-testsuite:

    apt-get download libpython3.11-testsuite
    dpkg-deb -x libpython3.11-testsuite_*.deb build/cpython
    python -m tests.own.cpython build/cpython/usr/lib/python3.11/test

The daemon is the one that KTASKD_SOCKET names, or else one that is started and ended here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import unittest
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.own.cpython import leftout, theirs
from tests.own.suite import a_daemon


def main() -> int:
    """Run the chosen tests and print the counts; the exit status is 1 if any failed."""
    parser = argparse.ArgumentParser(
        "python -m tests.own.cpython",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", nargs="?", default="/usr/lib/python3.11/test", type=Path)
    parser.add_argument("-k", dest="pattern", default="", help="only tests with this in their name")
    args = parser.parse_args()
    with _importable(args.directory.absolute()), a_daemon():
        result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(_chosen(args.pattern))
    _report(result)
    return 0 if result.wasSuccessful() else 1


@contextlib.contextmanager
def _importable(tests: Path) -> Iterator[None]:
    if not (tests / "test_concurrent_futures.py").exists():
        sys.exit(f"{tests}: no test_concurrent_futures.py there; --help says where to get it")
    with tempfile.TemporaryDirectory(prefix="ktask-cpython-") as place:
        theirs.make_package(tests, Path(place))
        yield


def _chosen(pattern: str) -> unittest.TestSuite:
    from tests.own.cpython.cases import CASES

    loader = unittest.TestLoader()
    cases = [test for case in CASES for test in loader.loadTestsFromTestCase(case)]
    return unittest.TestSuite(test for test in cases if pattern in str(test))


def _report(result: unittest.TestResult) -> None:
    bad = len(result.failures) + len(result.errors)
    left = Counter(why for tests in leftout.LEFT_OUT.values() for why in tests.values())
    skipped = Counter(why for _, why in result.skipped)
    passed = result.testsRun - bad - skipped.total()
    print(
        f"\npassed {passed}, failed {bad}, skipped by themselves {skipped.total()}, left out {left.total()}"
    )
    for title, reasons in (("skipped", skipped), ("left out", left)):
        for why, count in reasons.items():
            print(f"  {title} {count}: {why}")
    print(f"  with the error of the call where a pool is broken: {len(leftout.OWN_ERRORS)} of those run")
    print(f"  with a worker that has come before: {len(leftout.WARM)} of those run")


if __name__ == "__main__":
    os.environ.pop("PYTHONSAFEPATH", None)
    sys.exit(main())
