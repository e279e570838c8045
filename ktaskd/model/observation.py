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
class Events:
    """What the kernel announced about one kind of sensor.

    Args:
        count: events since some start; only a change means anything.
        recent: an event came so shortly before this reading that the reading is of it.
    """

    count: int = 0
    recent: bool = False


@dataclass(frozen=True, slots=True)
class Power:
    """Where the power comes from.

    Args:
        on_battery: as systemd's on_ac_power decides; False without information.
        battery_percent: charge of all batteries and UPSes together that power the system and
            can be used, weighed by the energy that each holds when full; None = there is
            none, or none says.
        draining: not `on_battery` by that rule, and yet a battery or a UPS discharges:
            the charger is too weak, or the UPS itself has no power.
        profile: of the power profiles daemon: "power-saver", "balanced",
            "performance" or "" where there is none.
        degraded: why that daemon says that performance is degraded; "" = it is not.
        events: of power supplies and USB-C ports.
        doubted: supplies that are not counted and why, in words.
    """

    on_battery: bool = False
    battery_percent: float | None = None
    draining: bool = False
    profile: str = ""
    degraded: str = ""
    events: Events = field(default_factory=Events)
    doubted: tuple[str, ...] = ()


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
        critical: a zone is at or above its critical trip point.
        events: of thermal zones and cooling devices.
        doubted: zones and trip points that are not counted and why, in words.
        retracted: a zone that counted until now turned out to be wrong.
    """

    heat: Heat = Heat.NOMINAL
    where: str = ""
    celsius: float | None = None
    trip_celsius: float | None = None
    throttles: int = 0
    critical: bool = False
    events: Events = field(default_factory=Events)
    doubted: tuple[str, ...] = ()
    retracted: bool = False


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
        memory: of the whole machine, our own workers included.
        io_source, memory_source: as `cpu_source`.
    """

    cpu: Stall | None = None
    cpu_source: str = ""
    io: Stall | None = None
    memory: Stall | None = None
    io_source: str = ""
    memory_source: str = ""


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
class Presence:
    """Whether somebody is at the machine; only looked at where the configuration asks for it.

    Args:
        idle_s: seconds since the last input of any session, 0 while a session is in use;
            None = no signal.
        source: where that is from; "" = nobody looked.
    """

    idle_s: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything at one moment. A reader without a signal leaves the default."""

    power: Power = field(default_factory=Power)
    thermal: Thermal = field(default_factory=Thermal)
    pressure: Pressure = field(default_factory=Pressure)
    own: OwnLimit = field(default_factory=OwnLimit)
    sleeping: bool = False
    """The machine is about to sleep, or has not yet woken up."""
    user: Presence = field(default_factory=Presence)

    @property
    def doubted(self) -> tuple[str, ...]:
        """Every sensor that is not counted and why, in words."""
        return self.power.doubted + self.thermal.doubted
