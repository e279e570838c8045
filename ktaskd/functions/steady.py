"""Items that change while they are read."""

from __future__ import annotations

from ktaskd.functions.body import Context, Json, OpenSource
from ktaskd.functions.failures import source_changed
from ktaskd.model.source import Stamp


def with_change(context: Context, position: int, source: OpenSource, before: Stamp, result: Json) -> Json:
    """The result of an item; with "changed", what of it, where that is not as it was.

    Args:
        before: taken before the first byte was read.
    Raises:
        Failed: it has changed, and the job asked to fail then.
    """
    difference = before.difference(source.stamp())
    if not difference:
        return result
    if context.arg.get("changed") == "fail":
        raise source_changed(f"items[{position}]", difference)
    return {**result, "changed": difference}
