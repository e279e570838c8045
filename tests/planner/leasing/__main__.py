"""Print how leases compare with the chunks that they have replaced: python -m tests.planner.leasing.

The same table is in docs/leases.md; --write puts it there.
"""

from __future__ import annotations

import argparse

from tests.planner.leasing.table import PAGE, table, with_table


def main() -> None:
    """Print the table, or write it into the document."""
    parser = argparse.ArgumentParser(prog="python -m tests.planner.leasing", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    if parser.parse_args().write:
        PAGE.write_text(with_table(PAGE.read_text()))
    else:
        print(table())


if __name__ == "__main__":
    main()
