"""The pictures of the documentation are drawn by a program.

Tests: tests/pictures/__main__.py
"""

from __future__ import annotations

from tests.pictures.__main__ import PLACE, pictures


def test_pictures_when_drawn_then_each_is_in_the_documentation_and_fetches_nothing() -> None:
    drawn = pictures()
    assert drawn.keys() == {path.stem for path in PLACE.glob("*.svg")}
    for name, text in drawn.items():
        assert text.startswith("<svg"), name
        assert "url(http" not in text.replace(" ", "").replace('"', ""), name
    assert "#98a84b" in drawn["top-80"]  # green
    assert "#98a84b" not in drawn["top-plain"]
