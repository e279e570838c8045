"""From a request to an accepted job: open, check, plan, accept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ktaskd.door.handoff.handles import HandleTable, HeldSource
from ktaskd.door.handoff.keepers import Keepers
from ktaskd.functions.declared.own import as_asked
from ktaskd.host.caller import Caller
from ktaskd.host.files.descriptors import refreshed
from ktaskd.host.files.trusted import Untrusted, check_file
from ktaskd.intake.arguments import check_arguments
from ktaskd.intake.check import (
    as_items,
    check_items,
    check_job,
    check_limits,
    check_roles,
    find_function,
)
from ktaskd.intake.disk_limits import DiskOf
from ktaskd.intake.memory_limit import LimitFor, as_allocating
from ktaskd.jobs.callers import Callers
from ktaskd.jobs.engine import Engine
from ktaskd.jobs.feed import ITEMS_PER_CHUNK
from ktaskd.jobs.job import Job, caller_cpus
from ktaskd.jobs.registry import Digest
from ktaskd.jobs.room import MemoryRoom, needs_of
from ktaskd.jobs.slices import breathe, for_each, slices
from ktaskd.model.checked import CheckedJob
from ktaskd.model.errors import Code, Draining, FunctionUnavailable, KtaskError, NotAllowed, SourceInvalid
from ktaskd.model.function import Access, Declaration, Native
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, SourceRef
from ktaskd.model.limits import POSITION_MAX
from ktaskd.model.source import SourceFacts, SourceKind
from ktaskd.model.topology import Topology
from ktaskd.planner.plan import Boundary, Plan, Request, make_plan
from ktaskd.planner.threads import round_up


@dataclass(slots=True)
class Rights:
    """Who may do what.

    Args:
        admin_uids: may name paths, and see and steer everything.
        only_admins_submit: nobody else may run anything, with the reason why.
        code_uid: whose own code is run here; None = nobody's.
    """

    admin_uids: frozenset[int]
    only_admins_submit: str = ""
    code_uid: int | None = None


class Intake:
    """Turns requests into accepted jobs, and refuses what cannot be run."""

    def __init__(
        self,
        engine: Engine,
        functions: Mapping[str, Declaration],
        handles: HandleTable,
        keepers: Keepers,
        topology: Topology,
        rights: Rights,
        memory: LimitFor | None = None,
        callers: Callers | None = None,
        disk_of: DiskOf | None = None,
        room: MemoryRoom | None = None,
    ) -> None:
        """Hold what a job is made from.

        Args:
            memory: None = nobody's memory is limited.
            callers: None = limits stay what they were when a caller connected.
            disk_of: None = no disk has a limit.
            room: None = there is memory for everything.
        """
        self._room = room
        self._memory = memory
        self._callers = callers
        self._disk_of = disk_of
        self.functions = functions
        self.draining = False
        self._engine = engine
        self._handles = handles
        self._keepers = keepers
        self._topology = topology
        self._rights = rights

    async def submit(self, spec: JobSpec, who: Identity, *, guarded: bool) -> tuple[Job, bool]:
        """Accept a job, or find the first one of the same request_id.

        Args:
            guarded: the caller waits for it, and its going cancels it.
        Returns:
            The job, and whether the caller guards it (and must `unguard`).
        Raises:
            KtaskError: the job is refused, and nothing is left of it.
        """
        check_limits(spec)
        digest = await _digest(spec) if spec.request_id else b""
        known = self._engine.registry.same_request(spec, who, digest)
        if known is None:
            self._check_may_submit(who)
            declaration = self._find(spec, who)
            check_roles(as_items(spec, declaration), declaration)
            check_arguments(spec.arg, declaration)  # before anything is opened
            taken: dict[HeldSource, None] = {}
            try:
                opened = await self._open_all(spec, declaration, who, taken)
                # Another call with the same request_id may have won meanwhile.
                known = self._engine.registry.same_request(spec, who, digest)
                if known is None:
                    self._check_may_submit(who)  # to open them took a while
                    return self._accept(spec, digest, declaration, who, opened, taken, guarded), guarded
            finally:
                for_each(taken, HeldSource.release)
        guards = guarded and not known.detached and not known.state.ended
        if guards:
            self._engine.guard(known)
        return known, guards

    def _check_may_submit(self, who: Identity) -> None:
        if self.draining:
            raise Draining("the daemon takes no new jobs now, wanted one that is not draining")
        if self._rights.only_admins_submit and who.uid not in self._rights.admin_uids:
            raise NotAllowed(f"uid {who.uid} may not run jobs: {self._rights.only_admins_submit}")

    def _find(self, spec: JobSpec, who: Identity) -> Declaration:
        """The declaration of the function; one that runs the caller's code only for our own user."""
        known = self.functions.get(spec.function)
        if known is not None and known.own and who.uid != self._rights.code_uid:
            raise NotAllowed(
                f'spec.function: "{known.name}" runs code of its caller, which only a daemon does that '
                f"is its caller's own and that nobody else reaches; got uid {who.uid}, "
                f"this daemon is uid {os.geteuid()} and serves others; wanted the per-user one "
                "(systemctl --user start ktaskd) or an embedded one: ktask.connect(own=True)",
                field="spec.function",
            )
        declaration = find_function(spec.function, self.functions)
        if declaration.native is not None:
            _check_library(declaration.name, declaration.native)
        if not declaration.own:
            return declaration
        return as_asked(declaration, check_arguments(spec.arg, declaration), spec.sources)

    async def _open_all(
        self, spec: JobSpec, declaration: Declaration, who: Identity, taken: dict[HeldSource, None]
    ) -> tuple[dict[str, HeldSource], tuple[HeldSource, ...]]:
        """The sources by role, and the items; each distinct one has one reference in `taken`."""
        sources: dict[str, HeldSource] = {}
        spec = as_items(spec, declaration)
        for role in declaration.sources:
            if role.role in spec.sources:
                field = f'spec.sources["{role.role}"]'
                sources[role.role] = await self._open(spec.sources[role.role], role.access, who, field, taken)
        return sources, await self._open_items(spec.items, declaration, who, taken)

    async def _open_items(
        self,
        refs: Sequence[SourceRef],
        declaration: Declaration,
        who: Identity,
        taken: dict[HeldSource, None],
    ) -> tuple[HeldSource, ...]:
        items: list[HeldSource] = []
        seen: set[HeldSource] = set()
        for batch in slices(refs):
            for i, ref in enumerate(batch, len(items)):
                item = await self._open(ref, declaration.sources[0].access, who, f"spec.items[{i}]", taken)
                if item not in seen:
                    check_items(declaration, [item.facts], i)
                    seen.add(item)
                items.append(item)
            await breathe()
        return tuple(items)

    async def _open(
        self, ref: SourceRef, access: Access, who: Identity, field: str, taken: dict[HeldSource, None]
    ) -> HeldSource:
        try:
            source = await self._open_named(ref, access, who, field)
        except KtaskError as error:
            # The door does not know what the request calls it.
            if error.code is not Code.UNAVAILABLE and not error.field:
                error.field = field
            raise
        if source not in taken:
            if ref.handle:
                source.acquire()
            taken[source] = None
        return source

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

    def _accept(
        self,
        spec: JobSpec,
        digest: bytes,
        declaration: Declaration,
        who: Identity,
        opened: tuple[dict[str, HeldSource], tuple[HeldSource, ...]],
        taken: dict[HeldSource, None],
        guarded: bool,
    ) -> Job:
        sources, items = opened
        facts = {role: facts_now(source) for role, source in sources.items()}
        checked = check_job(as_items(spec, declaration), declaration, facts, len(items), self._topology)
        everything = [one.facts for one in taken]
        memory, unpaid = None, False
        if self._memory is not None:
            memory = self._memory.limit_for(as_allocating(declaration, everything), who)
            mapped = memory is None and any(facts.mappable for facts in everything)
            unpaid = mapped and self._memory.reads_unpaid(who)
        # A worker in the caller's memory cgroup is the only one of its job.
        bounded = spec if memory is None else replace(spec, max_threads=1)
        needs = needs_of(checked, sources) if self._room is not None else []
        if self._room is not None:
            self._room.check(needs)
        plan = self._plan(bounded, checked, who, guarded)
        owned = tuple(taken)
        job = self._engine.accept(spec, checked, who, sources, items, plan, owned=owned, digest=digest)
        taken.clear()  # the references are the job's from here on
        if self._room is not None:
            self._room.hold(job, needs)
        job.guest.limit, job.guest.unpaid = memory, unpaid
        if self._disk_of is not None:
            devices = {facts.device for facts in everything if facts.kind is SourceKind.FILE}
            job.disks = self._disk_of.limits(devices)
        if guarded:
            self._engine.guard(job)
        self._engine.launch(job)
        if self._callers is not None and not job.state.ended:
            self._callers.add(job)
        return job

    def _plan(self, spec: JobSpec, checked: CheckedJob, who: Identity, waited: bool) -> Plan:
        declaration, by_item = checked.declaration, checked.has_item_results
        request = Request(
            ranges=checked.ranges,
            # The results of one chunk's items must fit into one frame, and positions into 64 bits:
            # rounding up must not leave either.
            min_chunk=min(spec.min_chunk, ITEMS_PER_CHUNK if by_item else POSITION_MAX),
            max_threads=spec.max_threads,
            # A position of a job over items is one file, and one of records is one of them.
            default_min_chunk=1 if by_item else declaration.min_chunk,
            align=1 if by_item else declaration.align,
            probe=1 if by_item else declaration.probe,
            boundary=_boundary(checked),
            anywhere=checked.anywhere,
            caller_nid=who.nid,
            caller_cpus=caller_cpus(Caller(who.cpus, who.nid, who.cpu_quota)),
            waited=waited,
        )
        # For all the helpers that there are: a job that comes while they are paused must not
        # stay narrow for ever.
        return make_plan(request, self._topology, self._engine.dispatch.capacity)


async def _digest(spec: JobSpec) -> bytes:
    digest = Digest()
    digest.add_head(spec)
    for batch in (*slices(spec.items), *slices(spec.ranges)):
        digest.add(batch)
        await breathe()
    return digest.value


def _boundary(checked: CheckedJob) -> Boundary | None:
    record = checked.arg.get(checked.declaration.boundary, 0) if checked.declaration.boundary else 0
    if not isinstance(record, int) or record <= 1:
        return None
    return lambda position: round_up(position, record)


def _check_library(name: str, native: Native) -> None:
    """Refuse a library that others may write by now; it was looked at when the daemon started."""
    try:
        check_file(native.fd)
    except Untrusted as error:
        words = f'spec.function: "{name}" cannot be run here: {native.library}: {error}'
        raise FunctionUnavailable(words, field="spec.function", function=name) from error


def facts_now(source: HeldSource) -> SourceFacts:
    """The facts as they are now: its owner may have changed length, flags and seals since it was vetted."""
    return refreshed(source.fd, source.facts)
