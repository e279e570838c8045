"""Names of the keys that a terminal sends. Pure."""

from __future__ import annotations

import re

_SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
    b"\x1b[F": "end",
    b"\x1bOF": "end",
    b"\x1b[4~": "end",
    b"\x1b": "escape",
    b"\r": "enter",
    b"\n": "enter",
}

_KEY = re.compile(rb"\x1b\[[0-9;?]*[@-~]|\x1bO[@-~]|\x1b|[\x00-\x7f]|[\xc0-\xff][\x80-\xbf]*|[\x80-\xbf]")
_BEGUN = re.compile(rb"\x1b(\[[0-9;?]*|O)\Z")
_LONGEST = 32


def names_of(data: bytes) -> tuple[list[str], bytes]:
    """The keys that were pressed, and the bytes of one that has not come completely.

    Keys without a meaning here are left out.
    """
    begun = _BEGUN.search(data)
    rest = begun.group() if begun is not None and len(begun.group()) <= _LONGEST else b""
    whole = data[: len(data) - len(rest)]
    names = (_name(key) for key in _KEY.findall(whole))
    return [name for name in names if name], rest


def _name(key: bytes) -> str:
    if key in _SEQUENCES:
        return _SEQUENCES[key]
    return key.decode() if len(key) == 1 and key.isascii() and key.decode().isprintable() else ""
