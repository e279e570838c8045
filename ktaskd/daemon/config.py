"""Reads the configuration file strictly: TOML text to typed sections. An unknown key is an error."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ktaskd.daemon.settings import Config as Config
from ktaskd.daemon.settings import MetricsSettings
from ktaskd.daemon.settings import SocketSettings as SocketSettings
from ktaskd.daemon.settings import WorkerSettings as WorkerSettings
from ktaskd.daemon.settings import flatten as flatten
from ktaskd.governor.settings import ANSWERS, ORDERED, USER_ANSWERS, GovernorSettings
from ktaskd.host.sockets.unixsock import PATH_BYTES_MAX
from ktaskd.intake.disk_limits import NamedDisksInvalid, parse_named

SectionT = TypeVar("SectionT")

LOG_LEVELS = ("debug", "info", "warning", "error")
IDLE_GROUPS = ("auto", "never")

NUMBER_MAX = 10**9
"""Largest value of any number: seconds, connections, jobs."""

WORKERS_MAX = 4096
"""Limit of each number of workers. Each takes a page of shared memory before it starts."""

_WORKERS = frozenset({"workers.helpers_per_node", "workers.warm", "workers.leads", "workers.leads_per_uid"})
_NOT_ZERO = frozenset(
    {
        "sockets.connections",
        "sockets.connections_per_uid",
        "sockets.handoffs",
        "sockets.handoffs_per_uid",
        "sockets.streams",
        "sockets.calls_per_uid",
        "sockets.handles_per_uid",
        # Nothing can be measured over no time at all.
        "governor.pressure_window_s",
        "metrics.interval_s",
    }
)
"""Keys that must not be 0: nobody could use the daemon, not even to change them."""


class ConfigError(Exception):
    """The configuration is wrong; the message names the file and the key's path."""


def load_config(
    path: Path | None,
    *,
    idle_exit_s: float | None = None,
    helpers_socket: str | None = None,
    own_user: bool = False,
    private: bool = False,
) -> Config:
    """Load the configuration of a file; without a file, the defaults.

    Args:
        idle_exit_s: replaces daemon.idle_exit_s; None = does not.
        helpers_socket: replaces workers.helpers_socket; None = does not.
        own_user: workers.user counts as "", and sockets.mode "auto" as 0600 even if the group exists.
        private: the sockets are 0600, whatever the file says.
    Raises:
        ConfigError: the file cannot be read, is no TOML, has an unknown key or a
            value of a wrong type or out of bounds.
    """
    config = Config() if path is None else _read_config(path)
    if own_user:
        config = replace(config, workers=replace(config.workers, user=""))
    if private or (own_user and config.sockets.mode == "auto"):
        config = replace(config, sockets=replace(config.sockets, mode="0600", group=""))
    if helpers_socket is not None:
        _check_path("--helpers-socket", helpers_socket)
        config = replace(config, workers=replace(config.workers, helpers_socket=helpers_socket))
    if idle_exit_s is None:
        return config
    _check_number("--idle-exit", idle_exit_s)
    return replace(config, daemon=replace(config.daemon, idle_exit_s=idle_exit_s))


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of `load_config`, as the command line gives them.

    Args:
        path: of the file; None = there is none.
    """

    path: Path | None = None
    idle_exit_s: float | None = None
    helpers_socket: str | None = None
    own_user: bool = False
    private: bool = False

    def load(self) -> Config:
        """Load the configuration; raises ConfigError."""
        return load_config(
            self.path,
            idle_exit_s=self.idle_exit_s,
            helpers_socket=self.helpers_socket,
            own_user=self.own_user,
            private=self.private,
        )


def _read_config(path: Path) -> Config:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    # A number with too many digits raises a bare ValueError, and so does a text that is not UTF-8.
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        return parse_config(raw)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_config(raw: Mapping[str, Any]) -> Config:
    """Turn parsed TOML into the configuration; raises ConfigError."""
    types = get_type_hints(Config)
    _check_known(raw, list(types), "")
    sections = {name: _load_section(types[name], raw.get(name, {}), name) for name in types}
    config = Config(**sections)
    _check_values(config)
    return config


def _check_known(raw: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in raw:
        if key not in known:
            raise ConfigError(f"{where}{key}: unknown key (known: {', '.join(known)})")


def _load_section(section: type[SectionT], raw: object, where: str) -> SectionT:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: got {type(raw).__name__}, wanted a table")
    types = get_type_hints(section)
    _check_known(raw, list(types), f"{where}.")
    return section(**{key: _typed(value, types[key], f"{where}.{key}") for key, value in raw.items()})


def _typed(value: object, wanted: type, where: str) -> object:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        _check_number(where, value)  # before float(), which fails for a number that is too large
        value = float(value)
    if type(value) is not wanted:
        raise ConfigError(f"{where}: got {value!r}, wanted {wanted.__name__}")
    return value


def _check_values(config: Config) -> None:
    for path, value in flatten(config).items():
        if isinstance(value, int | float):
            _check_number(path, value)
        elif "\0" in str(value):
            raise ConfigError(f"{path}: got {value!r}, wanted a text without NUL")
    _check_mode("sockets.mode", config.sockets.mode)
    if config.daemon.log_level not in LOG_LEVELS:
        raise ConfigError(f'daemon.log_level: got "{config.daemon.log_level}", wanted one of {LOG_LEVELS}')
    _check_path("workers.helpers_socket", config.workers.helpers_socket)
    if config.functions.dir and not config.functions.dir.startswith("/"):
        raise ConfigError(f'functions.dir: got "{config.functions.dir}", wanted "" or an absolute path')
    if config.workers.idle_group not in IDLE_GROUPS:
        got = config.workers.idle_group
        raise ConfigError(f'workers.idle_group: got "{got}", wanted one of {IDLE_GROUPS}')
    try:
        parse_named(config.disks.named)
    except NamedDisksInvalid as error:
        raise ConfigError(f"disks.named: {error}") from None
    _check_metrics(config.metrics)
    _check_governor(config.governor)


def _check_mode(path: str, mode: str) -> None:
    if mode != "auto" and not re.fullmatch("0?[0-7]{3}", mode):
        raise ConfigError(f'{path}: got "{mode}", wanted "auto" or octal digits such as "0660"')


def _check_metrics(settings: MetricsSettings) -> None:
    _check_path("metrics.socket", settings.socket)
    _check_mode("metrics.socket_mode", settings.socket_mode)
    name = settings.textfile
    # The collector ignores files with other names.
    if name and not (name.startswith("/") and name.endswith(".prom")):
        raise ConfigError(
            f'metrics.textfile: got "{name}", wanted "" or an absolute path that ends with .prom'
        )


def _check_path(path: str, value: str) -> None:
    if value and not value.startswith("/"):
        raise ConfigError(f'{path}: got "{value}", wanted "" or an absolute path')
    size = len(os.fsencode(value))
    if size > PATH_BYTES_MAX:
        raise ConfigError(f"{path}: got {size} bytes, wanted at most {PATH_BYTES_MAX}")


def _check_governor(settings: GovernorSettings) -> None:
    for key, answers in (("on_battery", ANSWERS), ("power_saver", ANSWERS), ("user_active", USER_ANSWERS)):
        if getattr(settings, key) not in answers:
            raise ConfigError(f'governor.{key}: got "{getattr(settings, key)}", wanted one of {answers}')
    for low, high in ORDERED:
        least, most = getattr(settings, low), getattr(settings, high)
        if least > most:
            raise ConfigError(f"governor.{low}: got {least}, wanted at most governor.{high}, which is {most}")


def _check_number(path: str, value: float) -> None:
    least = 1 if path in _NOT_ZERO else 0
    most = WORKERS_MAX if path in _WORKERS else 100 if path.endswith("_percent") else NUMBER_MAX
    if not least <= value <= most:  # NaN is never within bounds
        raise ConfigError(f"{path}: got {value}, wanted {least} to {most}")
