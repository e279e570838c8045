"""Hooks of mkdocs: documents at the top of the repository are pages too, and links to sources are text."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[1]
TOP_PAGES = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_LINK = re.compile(r"\[([^\]\[]+)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the documents at the top; mkdocs calls this."""
    from mkdocs.structure.files import File

    for name in TOP_PAGES:
        files.append(File.generated(config, name, content=(TOP / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """Lead links to pages, and turn links to sources into text; mkdocs calls this."""
    source = page.file.src_uri
    # In the repository, pages are below docs/ and the documents of TOP_PAGES are not.
    origin = source if source in TOP_PAGES else f"docs/{source}"
    pages = {one.src_uri for one in files}
    return _LINK.sub(lambda match: _link(match, origin, source, pages), markdown)


def _link(match: re.Match[str], origin: str, source: str, pages: set[str]) -> str:
    """The link as the site needs it; one that leads nowhere stays, and fails the build."""
    text, target, anchor = match[1], match[2], match[3] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    name = path.removeprefix("docs/")
    if name in pages:
        return f"[{text}]({posixpath.relpath(name, posixpath.dirname(source) or '.')}{anchor})"
    return text if (TOP / path).exists() else match[0]
