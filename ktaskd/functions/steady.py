"""Items that change while a job reads them."""

from __future__ import annotations

from ktaskd.functions.body import Context, Json, OpenSource
from ktaskd.functions.failures import source_changed
from ktaskd.model.source import Stamp


def with_change(context: Context, position: int, source: OpenSource, before: Stamp, result: Json) -> Json:
    """The result of an item; if the item has changed, "changed" is added and says how.

    Args:
        before: taken before the first byte was read.
    Raises:
        Failed: the item has changed, and the job's argument `changed` is "fail".
    """
    difference = before.difference(source.stamp())
    if not difference:
        return result
    if context.arg.get("changed") == "fail":
        raise source_changed(f"items[{position}]", difference)
    return {**result, "changed": difference}
