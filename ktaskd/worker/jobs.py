"""The jobs and sources that the daemon sent to a worker, until it sends to forget them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ktaskd.functions import bodies
from ktaskd.functions.body import Body, Context, OpenSource
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.functions.declared.own import as_asked
from ktaskd.functions.plugins import plugin
from ktaskd.functions.plugins.described import from_json
from ktaskd.functions.plugins.manifests import parse_manifest
from ktaskd.functions.plugins.native import NativeBody
from ktaskd.host.root import HostRoot
from ktaskd.model.function import Declaration
from ktaskd.worker.codec import facts_from_json, facts_to_json
from ktaskd.worker.mapped import Mapped
from ktaskd.worker.memory_guard import guard_of
from ktaskd.worker.sources import Source

Json = dict[str, Any]


class JobUnusable(Exception):
    """A JOB frame was wrong, or a source that it names did not arrive; the job's chunks fail."""


class Job:
    """One job as its worker knows it."""

    __slots__ = ("body", "context", "declaration", "note", "room", "unmapped")

    def __init__(
        self,
        declaration: Declaration,
        body: Body,
        context: Context,
        note: Json,
        *,
        unmapped: bool = False,
    ) -> None:
        """Keep them.

        Args:
            note: body of the JOB frame.
            unmapped: read the sources without a mapping.
        """
        self.unmapped = unmapped
        self.note = note if declaration.own else {}
        self.declaration = declaration
        self.body = body
        self.context = context
        self.room = guard_of(declaration, context.sources, HostRoot())


class Known:
    """All jobs and sources that the daemon sent; owns the sources."""

    def __init__(self) -> None:
        """Begin empty."""
        self.jobs: dict[int, Job] = {}
        self._broken: dict[int, str] = {}
        self._sources: dict[int, Source] = {}
        self.mapped = Mapped(HostRoot())

    def add_source(self, sid: int, source: Source) -> None:
        """Keep a source; it replaces one of the same number."""
        self.forget_source(sid)
        self._sources[sid] = source

    def forget_source(self, sid: int) -> None:
        """Unmap and close a source; an unknown number is ignored."""
        source = self._sources.pop(sid, None)
        if source is not None:
            self.mapped.forget(source)
            source.close()

    def add_job(self, jno: int, note: Json) -> None:
        """Take the body of a JOB frame."""
        with self._breaking(jno):
            self._broken.pop(jno, None)
            self.jobs[jno] = self._made(note)

    def set_items(self, jno: int, start: int, sids: Sequence[int]) -> None:
        """Take the items of a known job's next chunk, which begins at `start`."""
        with self._breaking(jno):
            job = self.jobs.get(jno)
            if job is not None:
                sources = (self._source(sid, unmapped=job.unmapped) for sid in sids)
                job.context.items = dict(enumerate(sources, start))

    @contextlib.contextmanager
    def _breaking(self, jno: int) -> Iterator[None]:
        """Drop the job if its frame was wrong: its chunks fail with the reason."""
        try:
            yield
        except (JobUnusable, LookupError, TypeError, ValueError) as error:
            self.jobs.pop(jno, None)
            self._broken[jno] = f"{type(error).__name__}: {error}"

    def forget_job(self, jno: int) -> None:
        """Drop a job; an unknown number is ignored."""
        self.jobs.pop(jno, None)
        self._broken.pop(jno, None)
        if self.mapped:
            self.mapped.trim(self._in_use())

    def rest(self) -> None:
        """Keep nothing mapped while there is nothing to do. Call it while no chunk runs."""
        self.mapped.rest(self._in_use())

    def _in_use(self) -> set[OpenSource]:
        return {source for job in self.jobs.values() for source in job.context.sources.values()}

    def job(self, jno: int) -> Job:
        """The job of a number; raises JobUnusable with the reason."""
        job = self.jobs.get(jno)
        if job is None:
            raise JobUnusable(self._broken.get(jno, f"job number {jno}: was not sent to this worker"))
        return job

    def to_json(self) -> tuple[Json, list[int]]:
        """The jobs that run their caller's code and their sources, for `restore`; and the descriptors."""
        jobs = {jno: job.note for jno, job in self.jobs.items() if job.note}
        wanted = {sid for note in jobs.values() for sid in note.get("sources", {}).values()}
        sources = {sid: source for sid, source in self._sources.items() if sid in wanted}
        held = {sid: [source.fd, facts_to_json(source.facts)] for sid, source in sources.items()}
        return {"jobs": jobs, "sources": held}, [source.fd for source in sources.values()]

    def restore(self, known: Json) -> None:
        """Take over what `to_json` returned, and own the descriptors."""
        for sid, (fd, facts) in known["sources"].items():
            self.add_source(int(sid), Source(fd, facts_from_json(facts)))
        for jno, note in known["jobs"].items():
            self.add_job(int(jno), note)

    def forget_all(self) -> None:
        """Drop all jobs and close all sources."""
        self.jobs.clear()
        self._broken.clear()
        self.close()

    def close(self) -> None:
        """Close all sources."""
        for sid in list(self._sources):
            self.forget_source(sid)

    def _made(self, note: Json) -> Job:
        """A job from a whole JOB frame."""
        library = self._source(note["library"]).fd if "native" in note else -1
        declaration, body = _function_of(note, library)
        defaults = {item.name: item.default for item in declaration.arguments if item.default is not None}
        unmapped = bool(note.get("unmapped"))
        sources: Mapping[str, Source] = {
            role: self._source(sid, unmapped=unmapped) for role, sid in note.get("sources", {}).items()
        }
        for source in sources.values():
            source.begin_job()
            if not unmapped:
                self.mapped.use(source)
        start, end = note["span"]
        context = Context({**defaults, **note["arg"]}, sources, {}, (start, end), bool(note["whole"]))
        return Job(declaration, body, context, note, unmapped=unmapped)

    def _source(self, sid: int, *, unmapped: bool = False) -> Source:
        """A source that was sent before; raises JobUnusable."""
        source = self._sources.get(sid)
        if source is None:
            raise JobUnusable(f"source number {sid}: its file descriptor did not arrive in the worker")
        return source.unmapped() if unmapped else source


def _function_of(note: Json, library: int) -> tuple[Declaration, Body]:
    """Find a built-in function by name, one of a library by manifest, one of a package by entry point."""
    if "native" in note:
        declaration = parse_manifest(note["native"])
        return declaration, NativeBody(declaration, library)
    if "plugin" in note:
        declaration = from_json(note["plugin"])
        return declaration, plugin.load(declaration.name)
    name = note["function"]
    declaration = CATALOGUE[name]
    if declaration.own:
        declaration = as_asked(declaration, note["arg"], note["sources"])
    return declaration, bodies.find(name)
