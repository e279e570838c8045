"""The sources of a request: found by their handles, or opened by their paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ktaskd.door.handoff.handles import HandleTable, HeldSource
from ktaskd.door.handoff.keepers import Keepers
from ktaskd.intake.check import as_items, check_items
from ktaskd.jobs.slices import breathe, for_each, slices
from ktaskd.model.errors import Code, KtaskError, NotAllowed, SourceInvalid
from ktaskd.model.function import Access, Declaration
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, SourceRef


@dataclass(slots=True)
class Rights:
    """Permissions of callers.

    Args:
        admin_uids: may name paths, and see and steer everything.
        only_admins_submit: nobody else may run anything, with the reason why.
        code_uid: whose own code is run here; None = nobody's.
    """

    admin_uids: frozenset[int]
    only_admins_submit: str = ""
    code_uid: int | None = None


@dataclass(slots=True)
class Opened:
    """The sources of one request.

    Attributes:
        sources: by role.
        items: in the order of the request; a source may occur several times.
        references: each source once, with one reference to it.
    """

    sources: dict[str, HeldSource] = field(default_factory=dict)
    items: tuple[HeldSource, ...] = ()
    references: dict[HeldSource, None] = field(default_factory=dict)

    def hand_over(self) -> None:
        """Note that a job has the references; `release` gives none of them back after that."""
        self.references.clear()

    def release(self) -> None:
        """Give the references back."""
        for_each(self.references, HeldSource.release)


class Opener:
    """Finds and opens the sources of requests."""

    def __init__(self, handles: HandleTable, keepers: Keepers, rights: Rights) -> None:
        """Hold where sources come from, and which caller may name which source."""
        self._handles = handles
        self._keepers = keepers
        self._rights = rights

    async def open_all(self, spec: JobSpec, declaration: Declaration, who: Identity, opened: Opened) -> None:
        """Put all sources of a request into `opened`, one after the other.

        Raises:
            KtaskError: one cannot be used; those before it are in `opened`, for the caller to release.
        """
        spec = as_items(spec, declaration)
        for role in declaration.sources:
            if role.role in spec.sources:
                field = f'spec.sources["{role.role}"]'
                source = await self._open(spec.sources[role.role], role.access, who, field)
                opened.sources[role.role] = _taken(source, spec.sources[role.role], opened)
        await self._open_items(spec.items, declaration, who, opened)

    async def _open_items(
        self, refs: Sequence[SourceRef], declaration: Declaration, who: Identity, opened: Opened
    ) -> None:
        items: list[HeldSource] = []
        seen: set[HeldSource] = set()
        for batch in slices(refs):
            for i, ref in enumerate(batch, len(items)):
                found = await self._open(ref, declaration.sources[0].access, who, f"spec.items[{i}]")
                item = _taken(found, ref, opened)
                if item not in seen:
                    check_items(declaration, [item.facts], i)
                    seen.add(item)
                items.append(item)
            await breathe()
        opened.items = tuple(items)

    async def _open(self, ref: SourceRef, access: Access, who: Identity, field: str) -> HeldSource:
        try:
            return await self._open_named(ref, access, who, field)
        except KtaskError as error:
            # The door does not know what the request calls it.
            if error.code is not Code.UNAVAILABLE and not error.field:
                error.field = field
            raise

    async def _open_named(self, ref: SourceRef, access: Access, who: Identity, field: str) -> HeldSource:
        if ref.handle:
            return self._handles.resolve(ref.handle, who.uid)
        if not ref.path:
            raise SourceInvalid(f"{field}: got neither a handle nor a path, wanted one of them", field=field)
        if who.uid not in self._rights.admin_uids:
            raise NotAllowed(
                f"{field}: paths are for admins only, got uid {who.uid}; hand the open file over on the "
                "handoff socket (as `ktask hold` does) and name its handle",
                field=field,
            )
        return await self._keepers.open_path(ref.path, access)


def _taken(source: HeldSource, ref: SourceRef, opened: Opened) -> HeldSource:
    """The source, of which `opened` has one reference from here on."""
    if source not in opened.references:
        if ref.handle:
            source.acquire()
        opened.references[source] = None
    return source
