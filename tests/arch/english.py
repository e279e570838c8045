"""Find the openers and words that the project's English does without.

    python -m tests.arch.english ktaskd/host docs/security.md

prints one line for each finding and exits 1 if there is any. A sentence names its
actor as the subject, so none opens with "Who", "What" or "Where" unless it is a
question. A word with an everyday equivalent gives way to it. The list is a floor:
prose can be hard to read without any of these.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

OPENERS = (
    "Who|Whoever|What|Whatever|Where|Wherever|So long|So many|So much"
    "|One that|One who|Else|Those that|Those who"
)
WORDS = {
    r"\banew\b": "again",
    r"\bfor ever\b": "forever",
    r"\bheed(s|ed|ing)?\b": "ignore",
    r"\bshall\b": "will",
    r"\bat one time\b": "at once, at the same time",
    r"\b(can|cannot|could|may) (not )?be had\b": "is (not) available",
    r"\b(is|are|was|were) told of\b": "report, log, send",
}

_OPENER = re.compile(rf"(?:^|(?<=[.!?:;]\s)|(?<=[.!?:;]\s\s))(?:{OPENERS})\b(?=[ ,])")
_WORD = re.compile("|".join(WORDS), re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_CODE = re.compile(r"`[^`]*`")


@dataclass(frozen=True)
class Finding:
    """One place to mend."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def findings_in(text: str) -> Iterator[tuple[int, str]]:
    """Offsets of the findings in one piece of prose, with a few words of each."""
    prose = _CODE.sub(lambda code: "x" * len(code[0]), text)
    for match in _OPENER.finditer(prose):
        end = _SENTENCE_END.search(prose, match.end())
        if end is None or not end[0].startswith("?"):
            yield match.start(), f"sentence opens with {match[0]!r}: {_excerpt(text, match.start())}"
    for match in _WORD.finditer(prose):
        instead = next(good for bad, good in WORDS.items() if re.fullmatch(bad, match[0], re.IGNORECASE))
        yield match.start(), f"{match[0]!r} (instead: {instead}): {_excerpt(text, match.start())}"


def _excerpt(text: str, start: int) -> str:
    return " ".join(text[start : start + 60].split())


def prose_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Each docstring, run of comments and other text with spaces, with its first line's number."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    yield from _comments(source)


def _comments(source: str) -> Iterator[tuple[int, str]]:
    start, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            follows = (
                bool(lines)
                and token.start[0] == start + len(lines)
                and not token.line[: token.start[1]].strip()
            )
            if not follows:
                if lines:
                    yield start, "\n".join(lines)
                start, lines = token.start[0], []
            lines.append(token.string.lstrip("#: "))
    if lines:
        yield start, "\n".join(lines)


def prose_of_markdown(source: str) -> Iterator[tuple[int, str]]:
    """Each paragraph and list item outside code blocks, with its first line's number."""
    fenced, start, lines = False, 0, list[str]()
    for number, line in enumerate([*source.splitlines(), ""], 1):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        begins = re.match(r"\s*([*#>|-]|\d+\.)\s*", line)
        if lines and (fence or fenced or begins or not line.strip()):
            yield start, "\n".join(lines)
            lines = []
        if line.strip() and not (fence or fenced) and not line.startswith("#"):
            if not lines:
                start = number
            lines.append(line[begins.end() :].lstrip("*") if begins else line)


def prose_of_comment_lines(source: str, marker: str) -> Iterator[tuple[int, str]]:
    """Each run of lines that are comments as a whole, with its first line's number."""
    start, lines = 0, list[str]()
    for number, line in enumerate([*source.splitlines(), ""], 1):
        comment = line.strip()
        if comment.startswith(marker):
            if not lines:
                start = number
            lines.append(comment.lstrip(f"{marker} "))
        elif lines:
            yield start, "\n".join(lines)
            lines = []


READERS: Mapping[str, Callable[[str], Iterator[tuple[int, str]]]] = {
    ".py": prose_of_python,
    ".md": prose_of_markdown,
    ".proto": partial(prose_of_comment_lines, marker="//"),
    **dict.fromkeys([".toml", ".sh", ".service", ".socket"], partial(prose_of_comment_lines, marker="#")),
}
"""By suffix: how the prose of a file is found."""


def look_at(path: Path) -> Iterator[Finding]:
    """Everything that is wrong in one file."""
    for line, text in READERS[path.suffix](path.read_text(encoding="utf-8")):
        for offset, words in findings_in(text):
            yield Finding(path, line + text.count("\n", 0, offset), words)


def files_below(path: Path) -> Iterator[Path]:
    """The sources and documents of a directory, or the file itself; generated ones are left out."""
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.suffix in READERS and not file.stem.endswith(("_pb2", "_pb2_grpc")):
            yield file


def main(argv: Sequence[str]) -> int:
    """Print the findings in the files and directories named."""
    found = [finding for name in argv for file in files_below(Path(name)) for finding in look_at(file)]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
