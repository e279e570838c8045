"""The jobs that a command line names: by options of `ktask jobs`, or by a shortened id."""

from __future__ import annotations

import argparse
import pwd
import re
import time
from collections.abc import Iterator, Sequence

from ktask.cli.arguments import UsageError, labels
from ktask.errors import KtaskError
from ktask.link.session import Session
from ktask.v1 import jobs_pb2 as pb

LAST = "last"
"""The word that names the newest job."""

_PAGE = 1000
_UID_MAX = 2**32 - 1
_SHORTENED = re.compile(r"[0-9a-zA-Z]+", re.ASCII)
_WHOLE = re.compile("[0-9a-f]{32}", re.ASCII)
_NAMED = 4
"""Ids that a message names at most."""


def chosen(
    session: Session, options: argparse.Namespace, *, states: Sequence[str] = (), page_size: int = _PAGE
) -> Iterator[pb.Job]:
    """Yield the jobs that the options of `ktask jobs` choose, newest first; raises UsageError.

    Args:
        states: in the place of those of the options; empty = as in the options.
        page_size: jobs that are asked for at a time.
    """
    uid = _uid_of(options.user) if options.user else None
    begin_s = time.time() - options.since if options.since else 0.0
    request = pb.ListRequest(
        page_size=page_size,
        labels=labels(options.label),
        function=options.function,
        states=[pb.JobState.Value(f"JOB_STATE_{state.upper()}") for state in states or options.state],
    )
    for page in session.pages(request):
        for job in page.jobs:
            if job.create_time.ToNanoseconds() < begin_s * 1e9:
                return
            if uid in (None, job.owner.uid):
                yield job


def _uid_of(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        pass
    if re.fullmatch("[0-9]+", user, re.ASCII) and int(user) <= _UID_MAX:
        return int(user)
    raise UsageError(f'--user: got "{user}", wanted the name or the number of a user')


def id_of(session: Session, word: str) -> str:
    """The whole id of the job that this word names: an id, its beginning, or "last".

    Raises:
        UsageError: several jobs match.
        KtaskError: no job matches.
    """
    if word == LAST:
        return _newest(session)
    if _WHOLE.fullmatch(word):
        return word
    try:
        return session.get(id=word).id
    except KtaskError as error:
        if error.reason != "JOB_UNKNOWN" or not _SHORTENED.fullmatch(word):
            raise
        return _only(_beginning_with(session, word), word, error)


def _newest(session: Session) -> str:
    # A page may be empty before the last one.
    for page in session.pages(pb.ListRequest(page_size=1)):
        if page.jobs:
            return page.jobs[0].id
    raise KtaskError(
        f'job "{LAST}": the daemon knows none of your jobs', code="NOT_FOUND", reason="JOB_UNKNOWN"
    )


def _beginning_with(session: Session, word: str) -> list[str]:
    pages = session.pages(pb.ListRequest(page_size=_PAGE))
    return [job.id for page in pages for job in page.jobs if job.id.startswith(word.lower())]


def _only(ids: list[str], word: str, unknown: KtaskError) -> str:
    if not ids:
        raise unknown
    if len(ids) > 1:
        more = ", ..." if len(ids) > _NAMED else ""
        raise UsageError(
            f'job "{word}": {len(ids)} ids begin with it ({", ".join(ids[:_NAMED])}{more}); type more of it'
        )
    return ids[0]
