"""Messages of the fake daemon: its functions, a refusal and a status."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb


def _source(role: str, access: pb.Access.ValueType) -> pb.FunctionSource:
    return pb.FunctionSource(role=role, access=access, summary=f"The {role}.")


def _argument(name: str, kind: str, default: Any = None) -> pb.FunctionArgument:
    argument = pb.FunctionArgument(name=name, type=kind, summary=f"The {name}.")
    if isinstance(default, bool):
        argument.default.bool_value = default
    elif isinstance(default, int | float):
        argument.default.number_value = default
    elif isinstance(default, str):
        argument.default.string_value = default
    return argument


FUNCTIONS = [
    pb.Function(
        name="mem.fill",
        summary="Sets every byte.",
        sources=[_source("data", pb.ACCESS_WRITE)],
        unit="byte",
        arguments=[_argument("value", "int", 0)],
        partial=pb.PARTIAL_POLICY_RERUN_SAFE,
    ),
    pb.Function(
        name="file.crc32",
        summary="Checksum.",
        sources=[_source("data", pb.ACCESS_READ)],
        unit="byte",
        partial=pb.PARTIAL_POLICY_RERUN_SAFE,
        combine=True,
        items=True,
    ),
    pb.Function(
        name="file.copy",
        summary="Copies.",
        sources=[_source("src", pb.ACCESS_READ), _source("dst", pb.ACCESS_WRITE)],
        unit="byte",
        partial=pb.PARTIAL_POLICY_RERUN_SAFE,
        undo=True,
        undo_summary="Holes come back.",
    ),
    *(
        pb.Function(
            name=f"fake.{name}",
            summary="For tests.",
            unit="unit",
            arguments=[
                _argument("count", "int"),
                _argument("ratio", "float", 0.5),
                _argument("on", "bool", False),
                _argument("text", "string", "a"),
            ],
            partial=pb.PARTIAL_POLICY_NONE,
        )
        for name in ("block", "fail", "steps", "items", "warn")
    ),
]


def refusal(code: str, reason: str, message: str, field: str = "") -> grpc.Status:
    """A failed call as the daemon sends it."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="ktask", metadata={"got": "x"})
    details = [info]
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    number = code_pb2.Code.Value(code)
    return rpc_status.to_status(status_pb2.Status(code=number, message=message, details=packed))


def a_status(directory: Path) -> control_pb2.Status:
    """A status with every part filled in."""
    worker = control_pb2.Worker(
        id=1,
        pid=77,
        state=control_pb2.WORKER_STATE_IDLE,
        cpulist="0",
        policy="idle",
        nice=19,
        ioprio="idle",
        oom_score_adj=500,
        autogroup_nice=19,
        mempolicy="prefer:0",
        missing=["cpu.idle: no cgroup may be made, start it by systemd"],
        chunks=5,
        private_bytes=5 << 20,
        gives_way_by="idle cgroup",
        raised=True,
    )
    return control_pb2.Status(
        version="0.1.0",
        pid=os.getpid(),
        mode=control_pb2.MODE_AUTO,
        topology=control_pb2.Topology(nodes=[control_pb2.Node(nid=0, cpulist="0-1", memory_bytes=1 << 33)]),
        pools=[
            control_pb2.Pool(name="node0", worker_class=control_pb2.WORKER_CLASS_HELPER, workers=[worker])
        ],
        allowance=control_pb2.Allowance(
            nodes=[control_pb2.NodeAllowance(nid=0, helpers=2, busy=1)],
            leads=2,
            leads_per_uid=1,
            reasons=[pb.Reason(code="ON_BATTERY", message="on battery", value="30 %")],
            level=control_pb2.LEVEL_FEWER,
        ),
        readings=[control_pb2.Reading(name="battery", value="30 %", source="/sys/class/power_supply")],
        raising=["autogroup nice 0"],
        limits=[control_pb2.Limit(name="jobs_queued", value=100)],
        counters=[control_pb2.Counter(name="jobs_done", value=4)],
        missing=["systemd-python: not installed"],
        runtime_dir=str(directory),
    )
