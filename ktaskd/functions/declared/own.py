"""Functions that run the caller's own code, in a daemon of the caller's own user."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

from ktaskd.functions.declared.common import KIB
from ktaskd.model.function import Access, ArgType, Argument, ArgValue, Declaration, SourceRole

_CODE = SourceRole("code", Access.READ, "The function, as ktask.Client.run pickles it.", memory_only=True)
_DATA = SourceRole("data", Access.READ, "The data to work on; left out if the code only needs ranges.")
_WRITTEN = replace(_DATA, access=Access.READ_WRITE)

_UNDO = "Calls the caller's own undo, if there is one."

_RUN = Declaration(
    name="python.run",
    summary="Runs a Python function of the caller's own on each chunk; for ktask.Client.run.",
    sources=(_DATA, _CODE),
    min_chunk=64 * KIB,
    probe=64 * KIB,
    arguments=(
        Argument("align", ArgType.INT, 1, "Chunks are cut only at multiples of this.", 1, 1 << 40),
        Argument("writes", ArgType.BOOL, False, "Whether the code writes data."),
        Argument("undo", ArgType.BOOL, False, "Whether the code has an undo."),
        Argument("line", ArgType.STRING, "", "Path of the caller's socket, for the output of the code."),
    ),
    undo=True,
    undo_summary=_UNDO,
    combine=True,
    own=True,
)

_CALLS = Declaration(
    name="python.calls",
    summary="Serves calls of the caller's own functions; for ktask.Executor.",
    unit="turn",
    bytes_per_position=0,
    arguments=(Argument("line", ArgType.STRING, None, "Path of the socket from which calls come."),),
    own=True,
    open_ended=True,
)

DECLARATIONS = (_RUN, _CALLS)


def as_asked(declaration: Declaration, arg: Mapping[str, ArgValue], given: Container[str]) -> Declaration:
    """The declaration of the caller's own function, completed by what only the caller knows.

    Args:
        arg: the checked arguments.
        given: roles of the sources that the job has.
    """
    if declaration.name != _RUN.name:
        return declaration
    writes, align = bool(arg["writes"]), int(arg["align"])
    has_data = _DATA.role in given
    smallest = -(-declaration.min_chunk // align) * align if has_data else align
    return replace(
        declaration,
        unit="byte" if has_data else "position",
        bytes_per_position=int(has_data),
        sources=((_WRITTEN if writes else _DATA), _CODE) if has_data else (_CODE,),
        ranges_only=not has_data,
        align=align,
        min_chunk=smallest,
        probe=smallest,
        writes_bytes=writes,
        allocates=writes,
        undo=bool(arg["undo"]),
        undo_summary=_UNDO if arg["undo"] else "",
    )
