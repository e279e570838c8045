"""Text from elsewhere, made safe to print on a terminal. Pure."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with control and unprintable characters escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def escaped(name: str) -> str:
    """A file's name as coreutils print it, which always takes one line.

    A name that contains a backslash or a line end is marked by a backslash before it.
    """
    if not any(char in name for char in "\\\n\r"):
        return printable(name)
    plain = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return "\\" + printable(plain)
