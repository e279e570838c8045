"""From a request to an accepted job: open, check, plan, accept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.functions.declared.own import as_asked
from ktaskd.host.caller import Caller
from ktaskd.host.files.descriptors import refreshed
from ktaskd.host.files.trusted import Untrusted, check_file
from ktaskd.intake.arguments import check_arguments
from ktaskd.intake.check import (
    as_items,
    check_job,
    check_limits,
    check_roles,
    find_function,
    is_for_one,
)
from ktaskd.intake.disk_limits import DiskOf
from ktaskd.intake.memory_limit import LimitFor, as_allocating
from ktaskd.intake.opening import Opened, Opener, Rights
from ktaskd.jobs.accepted import Sources
from ktaskd.jobs.callers import Callers
from ktaskd.jobs.engine import Engine
from ktaskd.jobs.feed import ITEMS_PER_CHUNK
from ktaskd.jobs.job import Job, caller_cpus
from ktaskd.jobs.registry import Digest
from ktaskd.jobs.room import MemoryRoom, needs_of
from ktaskd.jobs.slices import SLICE, breathe, slices
from ktaskd.model.checked import CheckedJob
from ktaskd.model.errors import Draining, FunctionUnavailable, NotAllowed
from ktaskd.model.function import Declaration, Native
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec
from ktaskd.model.limits import POSITION_MAX
from ktaskd.model.memory import MemoryLimit
from ktaskd.model.source import SourceFacts, SourceKind
from ktaskd.model.topology import Topology
from ktaskd.planner.plan import Boundary, Plan, Request, make_plan
from ktaskd.planner.threads import round_up


@dataclass(slots=True)
class Conditions:
    """The parts of the machine and of a caller that decide about a job.

    Args:
        memory: in whose memory cgroup a job must run; None = nobody's memory is limited.
        callers: reads the limits of callers again; None = they stay what they were at the connection.
        disk_of: the limits of disks; None = none has one.
        room: whether there is memory for a job; None = there always is.
    """

    memory: LimitFor | None = None
    callers: Callers | None = None
    disk_of: DiskOf | None = None
    room: MemoryRoom | None = None


class Intake:
    """Turns requests into accepted jobs, and refuses what cannot be run.

    Args:
        rights: who may do what; the opener has them as well.
    """

    def __init__(
        self,
        engine: Engine,
        functions: Mapping[str, Declaration],
        opener: Opener,
        topology: Topology,
        rights: Rights,
        conditions: Conditions,
    ) -> None:
        """Hold what a job is made from."""
        self.functions = functions
        self.draining = False
        self.conditions = conditions
        self._engine = engine
        self._opener = opener
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
        # For a few items and ranges the digest is made when it is needed.
        parts = len(spec.items) + len(spec.ranges)
        digest = await _digest(spec) if spec.request_id and parts > SLICE else b""
        known = self._engine.registry.same_request(spec, who, digest)
        if known is None:
            self._check_may_submit(who)
            declaration = self._find(spec, who)
            check_roles(as_items(spec, declaration), declaration)
            check_arguments(spec.arg, declaration)  # before anything is opened
            opened = Opened()
            try:
                await self._opener.open_all(spec, declaration, who, opened)
                # Another call with the same request_id may have won meanwhile.
                known = self._engine.registry.same_request(spec, who, digest)
                if known is None:
                    self._check_may_submit(who)  # opening them took a while
                    return self._accept(spec, digest, declaration, who, opened, guarded), guarded
            finally:
                opened.release()
        guards = guarded and not known.detached and not known.state.ended
        if guards:
            self._engine.guard(known)
        return known, guards

    def _check_may_submit(self, who: Identity) -> None:
        if self.draining:
            raise Draining(
                "the daemon is draining and accepts no new jobs; "
                "submit again after `ktask status` shows draining: no"
            )
        if self._rights.only_admins_submit and who.uid not in self._rights.admin_uids:
            raise NotAllowed(f"uid {who.uid} may not run jobs: {self._rights.only_admins_submit}")

    def _find(self, spec: JobSpec, who: Identity) -> Declaration:
        """The declaration of the function; one that runs the caller's code only for our own user."""
        known = self.functions.get(spec.function)
        if known is not None and known.own and who.uid != self._rights.code_uid:
            raise NotAllowed(
                f'spec.function: "{known.name}" runs code of its caller, which only a daemon does that '
                f"is its caller's own and that nobody else reaches; got uid {who.uid}, "
                f"this daemon is uid {os.geteuid()} and serves others; use the per-user one "
                "(systemctl --user start ktaskd) or an embedded one: ktask.connect(own=True)",
                field="spec.function",
            )
        declaration = find_function(spec.function, self.functions)
        if declaration.native is not None:
            _check_library(declaration.name, declaration.native)
        if not declaration.own:
            return declaration
        return as_asked(declaration, check_arguments(spec.arg, declaration), spec.sources)

    def _accept(
        self,
        spec: JobSpec,
        digest: bytes,
        declaration: Declaration,
        who: Identity,
        opened: Opened,
        guarded: bool,
    ) -> Job:
        conditions = self.conditions
        facts = {role: facts_now(source) for role, source in opened.sources.items()}
        count = len(opened.items)
        checked = check_job(as_items(spec, declaration), declaration, facts, count, self._topology)
        everything = [one.facts for one in opened.references]
        memory, unpaid = self._memory_of(declaration, everything, who)
        # A worker in the caller's memory cgroup is the only one of its job.
        alone = memory is not None or is_for_one(declaration, facts)
        bounded = replace(spec, max_threads=1) if alone else spec
        needs = needs_of(checked, opened.sources) if conditions.room is not None else []
        if conditions.room is not None:
            conditions.room.check(needs)
        plan = self._plan(bounded, checked, who, guarded)
        sources = Sources(opened.sources, opened.items, tuple(opened.references))
        job = self._engine.accept(spec, checked, who, sources, plan, digest)
        opened.hand_over()
        if conditions.room is not None:
            conditions.room.hold(job, needs)
        job.guest.limit, job.guest.unpaid = memory, unpaid
        if conditions.disk_of is not None:
            devices = {facts.device for facts in everything if facts.kind is SourceKind.FILE}
            job.disks = conditions.disk_of.limits(devices)
        self._launch(job, guarded)
        return job

    def _launch(self, job: Job, guarded: bool) -> None:
        if guarded:
            self._engine.guard(job)
        self._engine.launch(job)
        if self.conditions.callers is not None and not job.state.ended:
            self.conditions.callers.add(job)

    def _memory_of(
        self, declaration: Declaration, everything: Sequence[SourceFacts], who: Identity
    ) -> tuple[MemoryLimit | None, bool]:
        """The limit whose group the job must run in, and whether ordinary workers must not allocate."""
        memory = self.conditions.memory
        if memory is None:
            return None, False
        limit = memory.limit_for(as_allocating(declaration, everything), who)
        mapped = limit is None and any(facts.mappable for facts in everything)
        return limit, mapped and memory.reads_unpaid(who)

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
        # stay narrow forever.
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
    """Refuse a library that others may write by now; it was checked when the daemon started."""
    try:
        check_file(native.fd)
    except Untrusted as error:
        words = f'spec.function: "{name}" cannot be run here: {native.library}: {error}'
        raise FunctionUnavailable(words, field="spec.function", function=name) from error


def facts_now(source: HeldSource) -> SourceFacts:
    """The facts as they are now: its owner may have changed length, flags and seals since it was vetted."""
    return refreshed(source.fd, source.facts)
