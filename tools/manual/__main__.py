"""Write man pages, completions and pages of reference: python -m tools.manual."""

from __future__ import annotations

from tools.manual.made import write

if __name__ == "__main__":
    for path in write():
        print(path)
