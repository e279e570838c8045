"""Errors of a job in the words of its caller, who knows files and not roles. Pure.

The daemon has descriptors, and so its messages name roles: `source "dst": no space left`.
Whoever gave a path finds it behind the role: `source "dst" ("/srv/copy"): no space left`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ktask.source import File, Memory
from ktask.v1 import jobs_pb2 as pb

_ROLE = re.compile(r'\b(source|item) "?([^"\s:]+)"?(?=:)')


def names_of(sources: Mapping[str, Any], items: list[Any] | None = None) -> dict[str, str]:
    """Paths as the caller gave them, by role, and those of items by their number as text."""
    named: dict[str, str] = {}
    for key, source in [*sources.items(), *((str(i), item) for i, item in enumerate(items or ()))]:
        if isinstance(source, Memory):
            continue
        path = source.path if isinstance(source, File) else source
        if isinstance(path, str | bytes | os.PathLike):
            named[key] = os.fsencode(path).decode(errors="backslashreplace")
    return named


def with_names(text: str, names: Mapping[str, str]) -> str:
    """A message with the caller's name behind each role or number of an item."""

    def name(match: re.Match[str]) -> str:
        known = names.get(match[2])
        return f'{match[0]} ("{known}")' if known is not None else match[0]

    return _ROLE.sub(name, text) if names else text


def name_in_job(job: pb.Job, names: Mapping[str, str], function: pb.Function | None) -> None:
    """Name the sources in a job's error, and the one that its ranges are of."""
    if not job.HasField("error") or not names:
        return
    message = with_names(job.error.message, names)
    if (job.error.dirty or job.error.undone) and function is not None:
        written = [one.role for one in function.sources if one.access != pb.ACCESS_READ and one.role in names]
        if written and not job.spec.items:
            places = " and ".join(f'"{names[role]}"' for role in written)
            message += f"; the ranges are {function.unit}s of {places}"
    # It has to be text that UTF-8 can hold, as any other of protobuf's.
    job.error.message = message.encode(errors="backslashreplace").decode()
