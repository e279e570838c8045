"""Write docs/transcript.md: python -m tests.readme. Needs root, and a checkout that others can read."""

from __future__ import annotations

import sys

from tests.readme.transcript import PAGE, READER, failures, page, play


def main() -> int:
    """Write the page; returns 1 if a command failed."""
    played = {"root": play(0), "a user without rights": play(READER)}
    PAGE.write_text(page(played))
    wrong = [text for chapters in played.values() for text in failures(chapters)]
    print("\n".join([str(PAGE), *wrong]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
