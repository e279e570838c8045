r"""Translates extended regular expressions of POSIX, with additions of GNU grep, to the syntax of RE2. Pure.

Both mean the same by most expressions. Different are bracket expressions, where a backslash is an ordinary
character; repeats of repeats; braces that are no repeat; and the escapes. `\d`, `\D`, `\t` and the like, and
groups with flags, mean what they mean to RE2. Classes and `\w` contain ASCII only. There are no
back-references.

Source: POSIX.1-2017, Base Definitions, 9.4; the manual of GNU grep, 3; https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import re

_REPEAT = re.compile(r"[*+?]|\{([0-9]*)(?:(,)([0-9]*))?\}")
_CLASSES = frozenset(
    "alnum alpha blank cntrl digit graph lower print punct space upper xdigit".split()  # noqa: SIM905
)
_OF_RE2 = frozenset("bBwWsSdDafrtvAzpPx")
"""Escapes that RE2 knows; GNU grep knows the first six."""

_WORDS = re.compile(r"\(?(?:\w+\|)*\w+\)?", re.ASCII)
"""A word, or a group of words."""


class PatternInvalid(ValueError):
    """A pattern is no extended regular expression; the text says why."""


def to_re2(pattern: str) -> str:
    """Translate an expression; raises PatternInvalid. RE2 may still refuse the result."""
    if pattern.startswith("[:") and pattern.endswith(":]"):
        raise PatternInvalid(f'a class is written "[{pattern}]", in two brackets')
    return _Translator(pattern).whole()


def literal(text: str) -> str:
    """An expression of RE2 that matches a text."""
    return re.sub(r"[^\w\x80-\U0010ffff]", lambda found: _escaped(found[0]), text, flags=re.ASCII)


def _escaped(character: str) -> str:
    return rf"\x{ord(character):02x}" if character < " " else f"\\{character}"


class _Translator:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._depth = 0

    def whole(self) -> str:
        parts: list[str] = []
        while self._at < len(self._text):
            parts.append(self._repeated(self._atom()))
        return "".join(parts)

    def _take(self) -> str:
        taken = self._text[self._at : self._at + 1]
        self._at += 1
        return taken

    def _repeated(self, atom: str) -> str:
        """The atom with its repeats; each but the first repeats a group."""
        first = True
        while atom not in ("(", "|") and (found := self._repeat()):
            atom = atom + found if first else f"(?:{atom}){found}"
            first = False
        return atom

    def _repeat(self) -> str:
        """The repeat that comes next; "" if none does."""
        found = _REPEAT.match(self._text, self._at)
        if found is None or (found[0].startswith("{") and not (found[1] or found[2])):
            return ""
        self._at = found.end()
        if found[0] in "*+?":
            return found[0]
        least, more, most = found.groups()
        if most and int(most) < int(least or 0):
            raise PatternInvalid(f'"{found[0]}" repeats at most less often than at least')
        return f"{{{least or 0}{more or ''}{most or ''}}}"

    def _atom(self) -> str:
        taken = self._take()
        match taken:
            case "\\":
                return self._escape()
            case "[":
                return self._bracket()
            case "*" | "+" | "?":
                # Repeats nothing, as in `(*a)`.
                self._at -= 1
                return "(?:)"
            case "{":
                self._at -= 1
                if self._repeat():
                    return "(?:)"
                self._at += 1
                return r"\{"
            case "}":
                return r"\}"
            case "^" | "$":
                # RE2 repeats only a group with an assertion.
                return f"(?:{taken})" if self._is_repeated() else taken
            case "(":
                return self._group()
        return taken

    def _is_repeated(self) -> bool:
        at, found = self._at, self._repeat()
        self._at = at
        return bool(found)

    def _group(self) -> str:
        if self._text.startswith("?", self._at):
            # A group of RE2 with flags or without a number, or one with a name.
            found = re.compile(r"\?(?:[a-zA-Z-]*[:)]|P?<\w+>)").match(self._text, self._at)
            if found:
                self._at = found.end()
                return "(" + found[0]
        return "("

    def _escape(self) -> str:
        taken = self._take()
        if not taken:
            raise PatternInvalid("ends with a backslash; write two to find one")
        if taken in "<>":
            return self._word_edge(taken)
        if taken in "`'":
            return "^" if taken == "`" else "$"
        if taken in "123456789":
            raise PatternInvalid(f"has the back-reference \\{taken}, which RE2 does not know; use grep")
        if taken in _OF_RE2:
            return f"\\{taken}"
        return literal(taken)

    def _word_edge(self, sign: str) -> str:
        r"""`\b` for an edge of a word next to a word."""
        before, after = self._text[: self._at - 2], self._text[self._at :]
        if sign == "<":
            found = _WORDS.match(after)
            word = found[0] if found else ""
            is_repeated = _REPEAT.match(after, len(word)) is not None
            is_word = word != "" and not (is_repeated and (word.endswith(")") or len(word) == 1))
        else:
            last = before[before.rfind("(") :] if before.endswith(")") else before[-1:]
            is_word = _WORDS.fullmatch(last) is not None
        if not is_word:
            raise PatternInvalid(rf"has \{sign} that is not next to a word; use \b")
        return r"\b"

    def _bracket(self) -> str:
        negated = self._text.startswith("^", self._at)
        self._at += negated
        parts, begin = [], self._at
        while self._at == begin or not self._text.startswith("]", self._at):
            parts.append(self._member())
        self._at += 1
        return f"[{'^' if negated else ''}{''.join(parts)}]"

    def _member(self) -> str:
        """One character, range or class of a bracket expression."""
        first = self._element()
        if len(first) > 2 or not self._text.startswith("-", self._at) or self._ends_after_dash():
            return first
        self._at += 1
        return f"{first}-{self._element()}"

    def _ends_after_dash(self) -> bool:
        return self._text.startswith("]", self._at + 1)

    def _element(self) -> str:
        taken = self._take()
        if not taken:
            raise PatternInvalid('has "[" without its "]"')
        sign = self._text[self._at : self._at + 1]
        if taken == "[" and sign and sign in ":.=":
            end = self._text.find(f"{sign}]", self._at + 1)
            name = self._text[self._at + 1 : end]
            if end < 0 or (name not in _CLASSES if sign == ":" else len(name) != 1):
                raise PatternInvalid(f'has "[{sign}" that begins no known class or character')
            self._at = end + 2
            return f"[:{name}:]" if sign == ":" else _in_bracket(name)
        return _in_bracket(taken)


def _in_bracket(character: str) -> str:
    return f"\\{character}" if character in "\\]^-[" else character
