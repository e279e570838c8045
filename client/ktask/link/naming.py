"""Adds the caller's paths to error messages of a job. Pure.

The daemon knows descriptors and no paths, so its messages name roles: `source "dst": no space left`.
The client adds the path that the caller gave: `source "dst" ("/srv/copy"): no space left`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ktask.source import File, Handle, Memory
from ktask.v1 import jobs_pb2 as pb

_ROLE = re.compile(r'\b(source|item) "?([^"\s:]+)"?(?=:)')


def names_of(sources: Mapping[str, Any], items: list[Any] | None = None) -> dict[str, str]:
    """The paths that the caller gave, by role; those of items by their number as text."""
    named: dict[str, str] = {}
    for key, source in [*sources.items(), *((str(i), item) for i, item in enumerate(items or ()))]:
        if isinstance(source, Memory):
            continue
        path = source.path if isinstance(source, File) else source
        if isinstance(path, str | bytes | os.PathLike):
            named[key] = os.fsencode(path).decode(errors="backslashreplace")
    return named


def name_of(source: Any) -> str:
    """The caller's own name for a source: a path, or that of an open file; "" = it has none."""
    if isinstance(source, Memory | Handle):
        return ""
    named = source if isinstance(source, str | bytes | os.PathLike) else getattr(source, "path", None)
    if named is None:
        named = getattr(source, "name", None)  # a number for a file without a name
    if not isinstance(named, str | bytes | os.PathLike):
        return ""
    return os.fsencode(named).decode(errors="backslashreplace")


def with_names(text: str, names: Mapping[str, str]) -> str:
    """A message with the caller's path after each role or number of an item."""

    def name(match: re.Match[str]) -> str:
        known = names.get(match[2])
        return f'{match[0]} ("{known}")' if known is not None else match[0]

    return _ROLE.sub(name, text) if names else text


def name_in_job(job: pb.Job, names: Mapping[str, str], function: pb.Function | None) -> None:
    """Add the paths to a job's error, and name the files that its ranges refer to."""
    if not job.HasField("error") or not names:
        return
    message = with_names(job.error.message, names)
    if (job.error.dirty or job.error.undone) and function is not None:
        written = [one.role for one in function.sources if one.access != pb.ACCESS_READ and one.role in names]
        if written and not job.spec.items:
            places = " and ".join(f'"{names[role]}"' for role in written)
            message += f"; the ranges are {function.unit}s of {places}"
    # protobuf takes only text that UTF-8 can hold.
    job.error.message = message.encode(errors="backslashreplace").decode()
