"""Write docs/verbs.md: python -m tests.verbs."""

from __future__ import annotations

from tests.verbs.page import PAGE, page

if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
