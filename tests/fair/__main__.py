"""Run fifty clients of five uids at once, and print the share of each uid. Needs root.

python -m tests.fair [SECONDS]    until all of them together have had this many CPU seconds (50)
"""

from __future__ import annotations

import sys

from tests.fair.users import a_daemon, measure, table, worst
from tests.support.users import OtherUsers, reachable_directory

CLIENTS = 10
TOLERANCE = 0.1


def main() -> int:
    """Print the table; returns 1 if a uid is further from an equal share than is allowed."""
    cpu_s = float(sys.argv[1]) if len(sys.argv) > 1 else 50.0
    with reachable_directory() as place, a_daemon() as daemon:
        shares = measure(OtherUsers(place), daemon, CLIENTS, cpu_s)
    print(table(shares))
    print(f"furthest from equal: {100 * worst(shares):.1f}%, at most {100 * TOLERANCE:.0f}% are allowed")
    return int(worst(shares) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
