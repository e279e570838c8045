"""Tests that `make check` leaves out: those that take more than half a second of CPU time, or start daemons.

Whole directories and modules are listed here; a single test has the marker itself.
"""

from __future__ import annotations

SLOW = (
    # These start daemons, pools of workers, virtual machines or package managers.
    *("tests/against", "tests/badinput", "tests/deploy", "tests/fair/test_users.py", "tests/fault"),
    *("tests/hostile", "tests/integration", "tests/native", "tests/own", "tests/plugins", "tests/readme"),
    *("tests/support/test_signals.py", "tests/support/test_users.py", "tests/tools", "tests/vm"),
    # `make check` does what they do.
    "tests/arch/test_lint.py",
    # The command line, a process for each test.
    *(
        "tests/client/cli/test_bar.py",
        "tests/client/cli/test_commands.py",
        "tests/client/cli/test_every_command.py",
    ),
    *(
        "tests/client/cli/test_manifest.py",
        "tests/client/cli/test_streams.py",
        "tests/client/cli/test_verify.py",
    ),
    *("tests/client/link/test_made.py", "tests/client/test_labels.py", "tests/client/test_real.py"),
    *("tests/daemon/test_checkhost.py", "tests/daemon/test_config.py", "tests/daemon/test_directory.py"),
    *("tests/daemon/test_garbage.py", "tests/daemon/test_lacking.py", "tests/daemon/test_logs.py"),
    *("tests/daemon/test_starts.py", "tests/daemon/test_watchdog.py"),
    # Jobs in real pools.
    *("tests/jobs/test_allowance.py", "tests/jobs/test_callers.py", "tests/jobs/test_death.py"),
    *("tests/jobs/test_disks.py", "tests/jobs/test_failure.py", "tests/jobs/test_guests.py"),
    *("tests/jobs/test_starvation.py", "tests/jobs/test_steady.py", "tests/jobs/test_stopped.py"),
    *("tests/pool/test_guests.py", "tests/pool/test_helpers.py", "tests/pool/test_pool.py"),
)


def is_slow(nodeid: str) -> bool:
    """Whether a test lies in one of these."""
    return nodeid.startswith(tuple(f"{path}/" if "." not in path else f"{path}::" for path in SLOW))
