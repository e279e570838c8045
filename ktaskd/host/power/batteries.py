"""The charge of all batteries and UPSes together, and whether they run empty. Pure.

Charge is summed by energy: a laptop with a full and an empty battery is half full, and a small
battery weighs little. A battery that cannot be used does not count, since a worn-out one stays
at 0 % for as long as it is in the machine.

Source: Documentation/ABI/testing/sysfs-class-power, Documentation/power/power_supply_class.rst
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CHARGING = "Charging"
DISCHARGING = "Discharging"
FULL = "Full"

_FULL_PERCENT_MIN = 20
"""A battery that reports "Full" below this charge contradicts itself: charge limits start at 40 %."""

_DEAD = frozenset({"Dead", "No battery"})
"""Values of `health`."""


@dataclass(frozen=True, slots=True)
class Store:
    """One battery or UPS that powers the system, as its driver shows it.

    Args:
        battery: whether it is a battery; otherwise it is a UPS.
        status: "Charging", "Discharging" ...; None if it cannot be read.
        percent: 0 to 100; None if not reported.
        energy: when full, in Wh; 0 = it holds none; None if not reported.
        flow: power or current into or out of it, in any unit; None if not reported.
        health: "Good", "Dead" ...; "" if not reported.
        forced: it is discharged on purpose, for example to calibrate it.
        strange: why the reported charge cannot be right, in words; "" if it can.
    """

    name: str
    battery: bool
    status: str | None
    percent: float | None
    energy: float | None = None
    flow: int | None = None
    health: str = ""
    forced: bool = False
    strange: str = ""

    @property
    def discharges(self) -> bool:
        """Whether it reports that it discharges."""
        return self.status == DISCHARGING


def charge(stores: Sequence[Store], *, fed: bool) -> float | None:
    """The charge of all usable stores together, in percent from 0 to 100; None if none reports it.

    A store whose energy is not known weighs as much as the others do on average.
    """
    counted = [store for store in stores if store.percent is not None and not doubt(store, fed=fed)]
    known = [store.energy for store in counted if store.energy]
    usual = sum(known) / len(known) if known else 1.0
    parts = [(store.energy or usual, store.percent) for store in counted if store.percent is not None]
    total = sum(weight for weight, _ in parts)
    return sum(weight * percent for weight, percent in parts) / total if total else None


def is_draining(stores: Sequence[Store], *, fed: bool) -> bool:
    """Whether the stores get emptier in total.

    One battery may discharge while another is charged; the charger is strong enough then. On
    external power a battery that reports "Discharging" without any flow does not count, since
    some report a charge limit like that, nor one that is discharged on purpose
    (`charge_behaviour`).
    """
    if any(store.discharges for store in stores if not store.battery):
        return True
    batteries = [store for store in stores if store.battery]
    meant = [store for store in batteries if fed and (store.flow == 0 or store.forced)]
    empties = any(store.discharges for store in batteries if store not in meant)
    return empties and not any(store.status == CHARGING for store in batteries)


def doubt(store: Store, *, fed: bool) -> str:
    """Why the store's charge is not counted, in words; "" if it is counted."""
    if store.health in _DEAD:
        return f'its health is "{store.health}"'
    if store.strange:
        return store.strange
    if store.energy == 0 and not store.percent:
        return "it holds no energy when full"
    if store.status == FULL and store.percent is not None and store.percent < _FULL_PERCENT_MIN:
        return f'it reports "Full" at {store.percent:g} %'
    if fed and store.battery and store.percent == 0 and store.status not in (CHARGING, DISCHARGING):
        return f'it stays at 0 % on external power ("{store.status or "no status"}")'
    return ""
