"""Checks a job's arguments against the function's declaration, before any file is opened or made. Pure.

The daemon checks them again and more thoroughly. Checking here as well finds mistakes before a
target file is made.
"""

from __future__ import annotations

from google.protobuf.struct_pb2 import Struct, Value

from ktask.errors import KtaskError
from ktask.v1 import jobs_pb2 as pb

_KINDS = {
    "bool": ("bool_value",),
    "string": ("string_value",),
    "float": ("number_value",),
    "int": ("number_value", "string_value"),
}
_WANTED = {"bool": "true or false", "string": "a string", "float": "a number", "int": "an integer"}


def check_arg(arg: Struct, function: pb.Function) -> None:
    """Raise KtaskError (INVALID_ARGUMENT) unless `arg` is what the function declares.

    Finds unknown and missing arguments, wrong types, and values beyond bounds and choices.
    """
    known = {one.name: one for one in function.arguments}
    for name in arg.fields:
        if name not in known:
            wanted = ", ".join(f'"{other}"' for other in known) or "no arguments"
            raise _invalid(name, f'function "{function.name}" has no such argument, wanted {wanted}')
    for name, one in known.items():
        if name in arg.fields:
            _check_value(one, arg.fields[name])
        elif not one.HasField("default"):
            raise _invalid(name, f'got none, function "{function.name}" needs it')


def _check_value(argument: pb.FunctionArgument, value: Value) -> None:
    kind = value.WhichOneof("kind") or ""
    # A type that only a later daemon knows is left to the daemon.
    if kind not in _KINDS.get(argument.type, (kind,)):
        raise _invalid(argument.name, f"got {_shown(value)}, wanted {_WANTED[argument.type]}")
    if argument.choices and value.string_value not in argument.choices:
        *others, last = argument.choices
        wanted = f"{', '.join(others)} or {last}" if others else last
        raise _invalid(argument.name, f"got {_shown(value)}, wanted {wanted}")
    if argument.type in ("int", "float"):
        _check_bounds(argument, value)


def _check_bounds(argument: pb.FunctionArgument, value: Value) -> None:
    number = _number(value)
    if number is None:
        raise _invalid(argument.name, f"got {_shown(value)}, wanted {_WANTED[argument.type]}")
    least = _number(argument.minimum) if argument.HasField("minimum") else None
    most = _number(argument.maximum) if argument.HasField("maximum") else None
    if least is not None and number < least:
        raise _invalid(argument.name, f"got {_shown(value)}, wanted at least {least:.15g}")
    if most is not None and number > most:
        raise _invalid(argument.name, f"got {_shown(value)}, wanted at most {most:.15g}")


def _number(value: Value) -> int | float | None:
    if value.WhichOneof("kind") == "number_value":
        return value.number_value
    try:
        return int(value.string_value)
    except ValueError:
        return None


def _shown(value: Value) -> str:
    kind = value.WhichOneof("kind")
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    return f"{value.number_value:.15g}" if kind == "number_value" else f'"{value.string_value[:64]}"'


def _invalid(name: str, problem: str) -> KtaskError:
    return KtaskError(
        f'argument "{name}": {problem}',
        code="INVALID_ARGUMENT",
        reason="ARGUMENT_INVALID",
        field=f"spec.arg.{name}",
        metadata={"argument": name},
    )
