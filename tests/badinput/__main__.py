"""Write docs/bad-input.md: python -m tests.badinput."""

from __future__ import annotations

from tests.badinput.table import PAGE, write

if __name__ == "__main__":
    write()
    print(PAGE)
