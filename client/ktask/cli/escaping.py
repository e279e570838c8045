"""Text from elsewhere, made safe to print on a terminal. Pure."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` without anything that steers a terminal, in characters that can be written."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def escaped(name: str) -> str:
    """A file's name on a line of its own, as coreutils print it: none looks like two lines.

    A name with a backslash or the end of a line in it is marked by a backslash before it.
    """
    if not any(char in name for char in "\\\n\r"):
        return printable(name)
    plain = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return "\\" + printable(plain)
