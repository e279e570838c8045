"""From a request to an accepted job: open, check, plan, accept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ktaskd.door.handles import HandleTable, HeldSource
from ktaskd.door.keepers import Keepers
from ktaskd.functions.declared.own import as_asked
from ktaskd.host.caller import Caller
from ktaskd.jobs.arguments import check_arguments
from ktaskd.jobs.callers import Callers
from ktaskd.jobs.check import CheckedJob, as_items, check_job, check_limits, check_roles, find_function
from ktaskd.jobs.disks import DiskOf
from ktaskd.jobs.engine import Engine
from ktaskd.jobs.feed import ITEMS_PER_CHUNK
from ktaskd.jobs.job import Job, caller_cpus
from ktaskd.jobs.memory import LimitFor
from ktaskd.model.errors import Code, Draining, KtaskError, NotAllowed, SourceInvalid
from ktaskd.model.function import Access, Declaration
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
    ) -> None:
        """Hold what a job is made from.

        Args:
            memory: None = nobody's memory is limited.
            callers: None = limits stay what they were when a caller connected.
            disk_of: None = no disk has a limit.
        """
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
        known = self._engine.registry.same_request(spec, who)
        if known is None:
            self._check_may_submit(who)
            declaration = self._find(spec, who)
            check_roles(as_items(spec, declaration), declaration)
            check_arguments(spec.arg, declaration)  # before anything is opened
            taken: list[HeldSource] = []
            try:
                sources, items = await self._open_all(spec, declaration, who, taken)
                # Another call with the same request_id may have won meanwhile.
                known = self._engine.registry.same_request(spec, who)
                if known is None:
                    self._check_may_submit(who)  # to open them took a while
                    return self._accept(spec, declaration, who, sources, items, guarded), guarded
            finally:
                for source in taken:
                    source.release()
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
        if not declaration.own:
            return declaration
        return as_asked(declaration, check_arguments(spec.arg, declaration), spec.sources)

    async def _open_all(
        self, spec: JobSpec, declaration: Declaration, who: Identity, taken: list[HeldSource]
    ) -> tuple[dict[str, HeldSource], tuple[HeldSource, ...]]:
        """The sources by role, and the items; each reference is put into `taken` at once."""
        sources: dict[str, HeldSource] = {}
        spec = as_items(spec, declaration)
        for role in declaration.sources:
            if role.role in spec.sources:
                field = f'spec.sources["{role.role}"]'
                source = await self._open(spec.sources[role.role], role.access, who, field)
                taken.append(source)
                sources[role.role] = source
        for i, item in enumerate(spec.items):
            access = declaration.sources[0].access
            taken.append(await self._open(item, access, who, f"spec.items[{i}]"))
        return sources, tuple(taken[len(sources) :])

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
            source = self._handles.resolve(ref.handle, who.uid)
            source.acquire()
            return source
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
        declaration: Declaration,
        who: Identity,
        sources: dict[str, HeldSource],
        items: tuple[HeldSource, ...],
        guarded: bool,
    ) -> Job:
        facts = {role: facts_now(source) for role, source in sources.items()}
        checked = check_job(
            as_items(spec, declaration), declaration, facts, [item.facts for item in items], self._topology
        )
        memory = self._memory.limit_for(declaration, who) if self._memory is not None else None
        # A worker in the caller's memory cgroup is the only one of its job.
        bounded = spec if memory is None else replace(spec, max_threads=1)
        plan = self._plan(bounded, checked, who, guarded)
        job = self._engine.accept(spec, checked, who, sources, items, plan)
        job.guest.limit = memory
        if self._disk_of is not None:
            files = (one.facts for one in (*sources.values(), *items) if one.facts.kind is SourceKind.FILE)
            job.disks = self._disk_of.limits({facts.device for facts in files})
        for source in (*sources.values(), *items):
            source.acquire()
        if guarded:
            self._engine.guard(job)
        self._engine.launch(job)
        if self._callers is not None and not job.state.ended:
            self._callers.add(job)
        return job

    def _plan(self, spec: JobSpec, checked: CheckedJob, who: Identity, waited: bool) -> Plan:
        declaration, told = checked.declaration, checked.told
        request = Request(
            ranges=checked.ranges,
            # What is told of the items of one chunk has to fit into one frame, and what is
            # told of a plan into 64 bits: rounding up must not leave them.
            min_chunk=min(spec.min_chunk, ITEMS_PER_CHUNK if told else POSITION_MAX),
            max_threads=spec.max_threads,
            # A position of a job over items is one file, and one of records is one of them.
            default_min_chunk=1 if told else declaration.min_chunk,
            align=1 if told else declaration.align,
            probe=1 if told else declaration.probe,
            boundary=_boundary(checked),
            anywhere=checked.anywhere,
            caller_nid=who.nid,
            caller_cpus=caller_cpus(Caller(who.cpus, who.nid, who.cpu_quota)),
            waited=waited,
        )
        # For all the helpers that there are: a job that comes while they are paused must not
        # stay narrow for ever.
        return make_plan(request, self._topology, self._engine.dispatch.capacity)


def _boundary(checked: CheckedJob) -> Boundary | None:
    record = checked.arg.get(checked.declaration.boundary, 0) if checked.declaration.boundary else 0
    if not isinstance(record, int) or record <= 1:
        return None
    return lambda position: round_up(position, record)


def facts_now(source: HeldSource) -> SourceFacts:
    """The facts with the size that the file has now; it was vetted, so this cannot hang."""
    size = os.fstat(source.fd).st_size
    return source.facts if size == source.facts.size else replace(source.facts, size=size)
