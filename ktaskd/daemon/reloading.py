"""Applies a changed configuration file to a running daemon. Pure."""

from __future__ import annotations

from dataclasses import fields, replace

from ktaskd.api.state import Reloaded
from ktaskd.daemon.config import Config, flatten
from ktaskd.governor.settings import GovernorSettings

RELOADABLE = frozenset(
    {
        *("jobs.queued", "jobs.queued_per_uid", "jobs.kept", "jobs.keep_s", "daemon.log_level"),
        *(f"governor.{key.name}" for key in fields(GovernorSettings)),
    }
)
"""Keys that change without a restart."""


def reloaded(old: Config, new: Config) -> tuple[Config, Reloaded]:
    """Return the configuration in force from now on, and the keys that changed.

    Args:
        old: the configuration in force until now.
        new: that of the file as it is now.
    """
    before, after = flatten(old), flatten(new)
    changed = [path for path in after if before[path] != after[path]]
    config = replace(
        old,
        jobs=new.jobs,
        governor=new.governor,
        daemon=replace(old.daemon, log_level=new.daemon.log_level),
    )
    return config, Reloaded(
        tuple(path for path in changed if path in RELOADABLE),
        tuple(path for path in changed if path not in RELOADABLE),
    )
