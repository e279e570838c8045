"""What the governor knows of the machine at one moment: facts, no judgement."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class Heat(IntEnum):
    """How hot the machine is, by its own trip points."""

    NOMINAL = 0
    LIGHT = 1
    """Within 10 K of a passive trip point."""
    MODERATE = 2
    """A passive trip point is crossed, or the processor is being slowed down."""
    SEVERE = 3
    """Within 5 K of a hot or critical trip point."""


@dataclass(frozen=True, slots=True)
class Power:
    """Where the power comes from.

    Args:
        on_battery: as systemd's on_ac_power decides; False without information.
        battery_percent: charge of the emptiest battery or UPS that powers the system;
            None = there is none, or it does not say.
        draining: not `on_battery` by that rule, and yet a battery or a UPS discharges:
            the charger is too weak, or the UPS itself has no power.
        profile: of the power profiles daemon: "power-saver", "balanced",
            "performance" or "" where there is none.
        degraded: why that daemon says that performance is degraded; "" = it is not.
    """

    on_battery: bool = False
    battery_percent: float | None = None
    draining: bool = False
    profile: str = ""
    degraded: str = ""


@dataclass(frozen=True, slots=True)
class Thermal:
    """How hot it is.

    Args:
        where: the zone or the device that says so, as in "thermal_zone3 (x86_pkg_temp)";
            at NOMINAL the zone that is nearest to one of its trip points; "" without any.
        celsius: what that zone measures; None if it was not a zone.
        trip_celsius: the trip point that counts for it.
        throttles: a count that rises whenever the processor slows itself down; each
            CPU of a package counts the same event, so only a rise means anything.
    """

    heat: Heat = Heat.NOMINAL
    where: str = ""
    celsius: float | None = None
    trip_celsius: float | None = None
    throttles: int = 0


@dataclass(frozen=True, slots=True)
class Stall:
    """Time that somebody waited for a resource, as PSI counts it.

    Args:
        some_us: microseconds in which at least one task waited, since some
            start; only differences mean anything, and it rises no faster than time.
        full_us: in which all of them waited; None where the kernel does not say.
    """

    some_us: int
    full_us: int | None = None


@dataclass(frozen=True, slots=True)
class Pressure:
    """What others suffer from; None = no signal.

    Args:
        cpu: of the other groups where there are any; our own workers do not count.
        cpu_source: which files that is from, or how it was derived; "" = no signal.
        io: of the same groups, else of the whole machine, our own workers included.
        memory: of the whole machine.
        io_source: as `cpu_source`.
    """

    cpu: Stall | None = None
    cpu_source: str = ""
    io: Stall | None = None
    memory: Stall | None = None
    io_source: str = ""


@dataclass(frozen=True, slots=True)
class OwnLimit:
    """What the daemon's own cgroups leave its helpers.

    Args:
        cpus: CPUs' worth of time, of the tightest group on the way; 0 = no limit.
        throttled: periods in which any of those groups was held up, since some start.
    """

    cpus: float = 0.0
    throttled: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything at one moment. A reader without a signal leaves the default."""

    power: Power = field(default_factory=Power)
    thermal: Thermal = field(default_factory=Thermal)
    pressure: Pressure = field(default_factory=Pressure)
    own: OwnLimit = field(default_factory=OwnLimit)
    sleeping: bool = False
    """The machine is about to sleep, or has not yet woken up."""
