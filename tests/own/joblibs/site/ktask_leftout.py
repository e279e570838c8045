"""A plugin of pytest that leaves out the tests that KTASK_JOBLIB_LEFT_OUT lists, one on each line.

With `--deselect` a test would need its whole id, and ids of files outside of
pytest's root directory do not have their directory in them.
"""

import os
from pathlib import Path
from typing import Any


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Take out the tests, by the name of their file and their own; list them for the report."""
    names = set(os.environ["KTASK_JOBLIB_LEFT_OUT"].splitlines())
    by_name = {f"{item.path.name}::{item.name}": item for item in items}
    left_out = {name: item for name, item in by_name.items() if name in names}
    items[:] = [item for item in items if item not in left_out.values()]
    config.hook.pytest_deselected(items=list(left_out.values()))
    Path("left_out").write_text("\n".join(left_out))
