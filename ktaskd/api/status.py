"""Makes the contract's message of the daemon's status."""

from __future__ import annotations

import os

from ktask.v1 import control_pb2 as pb

from ktaskd.api.convert import reason_out, time_out
from ktaskd.api.state import Daemon
from ktaskd.model.allowance import Level, Mode
from ktaskd.model.identity import Identity
from ktaskd.model.topology import format_cpulist
from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.pool.link import Worker
from ktaskd.pool.pool import Pool, Slot

_CLASS = {WorkerClass.HELPER: pb.WORKER_CLASS_HELPER, WorkerClass.LEAD: pb.WORKER_CLASS_LEAD}
_MODE = {mode: pb.Mode.Value(f"MODE_{mode.name}") for mode in Mode}
_LEVEL = {level: pb.Level.Value(f"LEVEL_{level.name}") for level in Level}
_STATE = {state: pb.WorkerState.Value(f"WORKER_STATE_{state.name}") for state in WorkerState}


def status_out(daemon: Daemon, who: Identity) -> pb.Status:
    """Return the status as `who` may see it, without the ids of other users' jobs."""
    nodes = [
        pb.Node(nid=node.nid, cpulist=format_cpulist(node.cpus), memory_bytes=node.memory_bytes)
        for node in daemon.topology.nodes
    ]
    governor = daemon.governor
    return pb.Status(
        version=daemon.version,
        pid=os.getpid(),
        start_time=time_out(daemon.start_s),
        mode=_MODE[governor.mode],
        mode_until=time_out(governor.mode_until_s),
        draining=daemon.intake.draining,
        topology=pb.Topology(nodes=nodes, cpulist=format_cpulist(daemon.topology.cpus)),
        # A pool that was never needed has nothing to show.
        pools=[_pool_out(daemon, pool, who) for pool in daemon.pools if pool.host_pid or pool.workers],
        allowance=_allowance_out(daemon),
        limits=[pb.Limit(name=name, value=value) for name, value in sorted(daemon.limits().items())],
        counters=[pb.Counter(name=name, value=value) for name, value in sorted(_counts(daemon).items())],
        missing=daemon.missing(),
        raising=daemon.raiser.methods,
        runtime_dir=daemon.runtime_dir,
        selftest=daemon.selftest,
        readings=[
            pb.Reading(name=one.name, value=one.value, source=one.source) for one in governor.readings()
        ],
    )


def _counts(daemon: Daemon) -> dict[str, int]:
    registry = daemon.engine.registry
    return {
        **daemon.engine.counters,
        **daemon.counts(),
        "jobs_unended": registry.unended,
        "jobs_kept": registry.kept,
    }


def _allowance_out(daemon: Daemon) -> pb.Allowance:
    dispatch = daemon.engine.dispatch
    allowance = dispatch.allowance
    return pb.Allowance(
        nodes=[
            pb.NodeAllowance(nid=nid, helpers=helpers, busy=dispatch.roster.busy_helpers(nid))
            for nid, helpers in sorted(allowance.helpers.items())
        ],
        leads=allowance.leads,
        leads_per_uid=allowance.leads_per_uid,
        reasons=[reason_out(reason) for reason in allowance.reasons],
        level=_LEVEL[allowance.level],
        share=allowance.duty,
    )


def _pool_out(daemon: Daemon, pool: Pool, who: Identity) -> pb.Pool:
    return pb.Pool(
        name=pool.spec.name,
        worker_class=_CLASS[pool.spec.worker_class],
        nid=pool.spec.nid,
        host_pid=pool.host_pid,
        host_respawns=pool.host_respawns,
        workers=[_worker_out(daemon, slot, who) for slot in pool.slots if slot.wanted],
    )


def _worker_out(daemon: Daemon, slot: Slot, who: Identity) -> pb.Worker:
    worker = slot.worker
    if worker is None:
        return pb.Worker(state=pb.WORKER_STATE_BACKOFF, respawns=slot.respawns)
    applied, record = worker.applied, daemon.engine.dispatch.roster.find(worker)
    return pb.Worker(
        id=worker.id,
        pid=worker.pid,
        state=_STATE[worker.state],
        cpulist=format_cpulist(record.cpus if record is not None else applied.cpus),
        policy=applied.policy,
        nice=applied.nice,
        ioprio=applied.ioprio,
        oom_score_adj=applied.oom_score_adj,
        autogroup_nice=applied.autogroup_nice,
        cgroup=applied.cgroup,
        mempolicy=applied.mempolicy,
        missing=applied.missing,
        job_id=_job_of(daemon, worker, who),
        chunks=record.chunks if record is not None else 0,
        respawns=slot.respawns,
        private_bytes=daemon.memory.of(worker.pid),
        uid=applied.uid,
        raised=record is not None and record.raised,
        gives_way_by=applied.gives_way_by,
        gave_up=applied.gave_up,
    )


def _job_of(daemon: Daemon, worker: Worker, who: Identity) -> str:
    job = daemon.engine.dispatch.job_of.get(worker)
    return job.id if job is not None and daemon.engine.registry.may_see(job, who) else ""
