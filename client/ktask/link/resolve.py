"""The sources of a draft, opened and handed over for the duration of one call."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ktask.core import NUMA_NO_NODE, Draft, make_spec
from ktask.errors import KtaskError
from ktask.link.checked import check_arg
from ktask.link.handover import Handover
from ktask.link.made import MadeFiles, mode_for
from ktask.link.naming import name_of
from ktask.source import File, Handle, HasFileno, Memory, check_source, file, is_memory
from ktask.v1 import handoff as wire
from ktask.v1 import jobs_pb2 as pb

NAMES_SENT = 16
"""Names of items that are sent; a daemon keeps no more."""

FunctionOf = Callable[[str], pb.Function]

_UNSUCCESSFUL = frozenset({pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED, pb.JOB_STATE_DIRTY})


class Opened:
    """The sources of one draft: open here, handed over by `spec`."""

    def __init__(self, draft: Draft, handover: Handover, function_of: FunctionOf) -> None:
        """Check the draft, and open the sources that it names by path. `close` it afterwards.

        Raises:
            TypeError, ValueError: the draft is invalid.
            OSError: a path cannot be opened with the access that the function needs.
            KtaskError: there is no such function or role.
        """
        self._handover = handover
        self._function_of = function_of
        self._name = draft.function
        self._items: list[Any] = list(draft.items or ())
        for role, source in draft.sources.items():
            _check(f'source "{role}"', source)
        for i, item in enumerate(self._items):
            _check(f"items[{i}]", item)
        self._spec = make_spec(draft, _default_nid([*draft.sources.values(), *self._items]))
        self._names = {role: name_of(source) for role, source in draft.sources.items()}
        self._item_names = [name_of(item) for item in self._items[:NAMES_SENT]]
        self._handles: list[str] = []
        self._files = contextlib.ExitStack()
        self._made = MadeFiles()
        self.generation = handover.generation
        try:
            self._sources = self._open_roles(draft)
        except BaseException:
            self.close()
            raise

    def spec(self) -> pb.JobSpec:
        """The message with a handle for each source; each call hands them over again."""
        spec = pb.JobSpec()
        spec.CopyFrom(self._spec)
        self.generation = self._handover.generation
        for role, source in self._sources.items():
            try:
                spec.sources[role].handle = self._handle_of(source)
                spec.sources[role].name = self._names[role]
            except KtaskError as error:
                raise _naming(error, f'source "{role}"', f'spec.sources["{role}"]') from None
        for i in range(0, len(self._items), wire.FDS_MAX):
            try:
                handles = self._batch(self._items[i : i + wire.FDS_MAX])
            except KtaskError as error:
                number = i + int(error.metadata.get("index", 0))
                raise _naming(error, f"items[{number}]", f"spec.items[{number}]") from None
            for handle in handles:
                spec.items.add(handle=handle)
        for named, name in zip(spec.items, self._item_names, strict=False):
            named.name = name
        return spec

    def keep(self, job: pb.Job) -> None:
        """Let the created files stay if `job` has succeeded, or goes on without this client."""
        if job.state not in _UNSUCCESSFUL:
            self._made.keep()

    def close(self) -> None:
        """Close what was opened here, and give back what was handed over for this call.

        Files that were created for the job are removed, unless `keep` was called for them.
        """
        self._made.remove()
        self._files.close()
        handles, self._handles = self._handles, []
        self._handover.discard(handles)

    def _open_roles(self, draft: Draft) -> dict[str, Any]:
        """The sources with all paths opened; arguments are checked before.

        Sources that are only read are opened first. So no target is created when one of
        them is missing, and the mode for the target is known.
        """
        accesses = {role: self._access(role) for role, source in draft.sources.items() if _is_path(source)}
        if accesses:
            check_arg(self._spec.arg, self._function_of(self._name))
        opened = dict(draft.sources)
        for role in sorted(accesses, key=lambda role: accesses[role] != pb.ACCESS_READ):
            path, access = opened.pop(role), accesses[role]
            if access == pb.ACCESS_READ:
                source = file(path, "r")
            else:
                self._require_content(role, path)
                others = [one for name, one in opened.items() if accesses.get(name) != pb.ACCESS_WRITE]
                source = self._made.open(path, access, mode_for([*others, *self._items]))
            opened[role] = self._files.enter_context(source)
        return opened

    def _require_content(self, role: str, path: Any) -> None:
        """Refuse to create the file whose bytes are the job's positions: it would have none.

        With ranges it may be created: they may reach beyond its end, if the function extends it.
        """
        first = self._function_of(self._name).sources[0].role
        if role == first and not self._spec.ranges and not os.path.exists(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))

    def _access(self, role: str | None) -> pb.Access.ValueType:
        """How the function accesses a role; None = its items."""
        function = self._function_of(self._name)
        for source in function.sources:
            if role in (None, source.role):
                return source.access
        wanted = ", ".join(source.role for source in function.sources) or "no sources"
        raise KtaskError(
            f'source "{role or "items"}": function "{self._name}" has no such source, wanted {wanted}',
            code="INVALID_ARGUMENT",
            reason="SOURCE_INVALID",
            field=f'spec.sources["{role}"]' if role else "spec.items",
        )

    def _handle_of(self, source: Any) -> str:
        if isinstance(source, Memory | File):
            return self._handover.handle_of(source)
        if isinstance(source, HasFileno) and not _is_path(source):
            kept = self._handover.handle_of_object(source, _flushed_fileno(source))
            if kept is not None:
                return kept
        return self._batch([source])[0]

    def _open_item(self, path: Any) -> File:
        """Open an item; a missing one is not created, since it would be empty."""
        if self._access(None) == pb.ACCESS_READ:
            return file(path, "r")
        os.stat(path)
        return file(path, "rw")

    def _batch(self, sources: Sequence[Any]) -> list[str]:
        """Handles of a few sources; what is opened for this is closed again at once."""
        handles: dict[int, str] = {}
        fds: list[tuple[int, int, int]] = []
        with contextlib.ExitStack() as files:
            for i, source in enumerate(sources):
                if isinstance(source, Handle):
                    handles[i] = source.handle
                elif isinstance(source, Memory | File):
                    handles[i] = self._handover.handle_of(source)
                elif _is_path(source):
                    opened = files.enter_context(self._open_item(source))
                    fds.append((i, opened.fileno(), wire.OWN_OFFSET))
                else:
                    fds.append((i, _flushed_fileno(source), 0))
            try:
                new = self._handover.hand_over([(fd, flags) for _, fd, flags in fds])
            except KtaskError as error:
                if "index" in error.metadata:
                    error.metadata["index"] = str(fds[int(error.metadata["index"])][0])
                raise
        self._handles += new
        handles.update((i, handle) for (i, _, _), handle in zip(fds, new, strict=True))
        return [handles[i] for i in range(len(sources))]


@contextlib.contextmanager
def opened(draft: Draft, handover: Handover, function_of: FunctionOf) -> Iterator[Opened]:
    """The sources of a draft, closed at the end; raises as `Opened` does."""
    sources = Opened(draft, handover, function_of)
    try:
        yield sources
    finally:
        sources.close()


def _default_nid(sources: Sequence[Any]) -> int | None:
    """The node of ranges that name none: the caller's for memory, any for files."""
    on_nodes = all(isinstance(source, Handle) or is_memory(source) for source in sources)
    return None if on_nodes else NUMA_NO_NODE


def _naming(error: KtaskError, what: str, field: str) -> KtaskError:
    """The same error, naming the source whose descriptor the daemon refused."""
    if "index" not in error.metadata:
        return error
    message = re.sub(r"^descriptor \d+", what, error.message)
    return KtaskError(message, code=error.code, reason=error.reason, field=field, metadata=error.metadata)


def _check(what: str, source: Any) -> None:
    """Refuse what is no source, and also "-", which means a stream to other tools."""
    check_source(what, source)
    if _is_path(source) and os.fsdecode(source) == "-":
        raise ValueError(f'{what}: got "-", wanted a path; "./-" is the file of that name')


def _is_path(source: Any) -> bool:
    return isinstance(source, str | bytes | os.PathLike)


def _flushed_fileno(source: Any) -> int:
    """The descriptor of an open object, after flushing it."""
    flush = getattr(source, "flush", None)
    if callable(flush):
        flush()
    fd = source.fileno()
    if isinstance(fd, bool) or not isinstance(fd, int) or fd < 0:
        raise ValueError(f"source {source!r}: fileno() gives {fd!r}, wanted an open descriptor")
    return fd
