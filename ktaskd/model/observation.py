"""The governor's readings of the machine at one moment: facts without a judgement."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class Heat(IntEnum):
    """Heat of the machine, judged by its own trip points."""

    NOMINAL = 0
    LIGHT = 1
    """Within 10 K of a passive trip point."""
    MODERATE = 2
    """A passive trip point is crossed, or the processor is throttled."""
    SEVERE = 3
    """Within 5 K of a hot or critical trip point."""


@dataclass(frozen=True, slots=True)
class Events:
    """Kernel events about one kind of sensor.

    Args:
        count: events since an arbitrary start; only changes are meaningful.
        recent: an event came right before this reading, which therefore reflects it.
    """

    count: int = 0
    recent: bool = False


@dataclass(frozen=True, slots=True)
class Power:
    """The machine's power supply.

    Args:
        on_battery: as systemd's on_ac_power decides; False without information.
        battery_percent: joint charge of all usable batteries and UPSes that power the system,
            weighted by the energy that each holds when full; None = none reports a charge.
        draining: not `on_battery` by that rule, but a battery or a UPS discharges: the charger is
            too weak, or the UPS itself has no power.
        profile: profile of the power profiles daemon: "power-saver", "balanced" or "performance";
            "" = no daemon.
        degraded: why that daemon reports degraded performance; "" = it does not.
        events: events of power supplies and USB-C ports.
        doubted: ignored supplies, each with the reason, in words.
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
    """The machine's temperatures.

    Args:
        where: the zone or device that determines `heat`, such as "thermal_zone3 (x86_pkg_temp)";
            at NOMINAL the zone nearest to one of its trip points; "" = none.
        celsius: temperature of that zone; None if `where` is no zone.
        trip_celsius: the trip point that counts for it.
        throttles: counter that rises whenever the processor throttles itself. Each CPU of a
            package counts the same event, so only a rise is meaningful.
        critical: a zone is at or above its critical trip point.
        events: events of thermal zones and cooling devices.
        doubted: ignored zones and trip points, each with the reason, in words.
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
    """Time that tasks waited for a resource, as PSI counts it.

    Args:
        some_us: microseconds in which at least one task waited, since an arbitrary start; only
            differences are meaningful. It rises no faster than time.
        full_us: microseconds in which all tasks waited; None if the kernel does not report it.
    """

    some_us: int
    full_us: int | None = None


@dataclass(frozen=True, slots=True)
class Pressure:
    """The pressure that others are under; None = no signal.

    Args:
        cpu: pressure of the other cgroups, if there are any; the daemon's workers do not count.
        cpu_source: the files that `cpu` is from, or how it was derived; "" = no signal.
        io: pressure of the same groups, or of the whole machine including the daemon's workers.
        memory: pressure of the whole machine, including the daemon's workers.
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
    """The CPU limit of the daemon's own cgroups.

    Args:
        cpus: CPU time that the tightest group allows, in CPUs; 0 = no limit.
        throttled: periods in which any of those groups was throttled, since an arbitrary start.
    """

    cpus: float = 0.0
    throttled: int = 0


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether somebody uses the machine; read only if the configuration asks for it.

    Args:
        idle_s: seconds since the last input in any session, 0 while a session is in use; None = no
            signal.
        source: origin of `idle_s`; "" = it was not read.
    """

    idle_s: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """All readings at one moment. A reader without a signal leaves the default."""

    power: Power = field(default_factory=Power)
    thermal: Thermal = field(default_factory=Thermal)
    pressure: Pressure = field(default_factory=Pressure)
    own: OwnLimit = field(default_factory=OwnLimit)
    sleeping: bool = False
    """The machine is about to sleep, or has not woken up yet."""
    user: Presence = field(default_factory=Presence)

    @property
    def doubted(self) -> tuple[str, ...]:
        """All ignored sensors, each with the reason, in words."""
        return self.power.doubted + self.thermal.doubted
