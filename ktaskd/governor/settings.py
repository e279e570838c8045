"""When helpers have to give way, in numbers: the section "governor" of the configuration.

deploy/ktaskd.toml has all of them, with the source of each number.
"""

from __future__ import annotations

from dataclasses import dataclass

PAUSE = "pause"
LEADS = "leads"
ONE = "one"
RUN = "run"
ANSWERS = (PAUSE, LEADS, RUN)
"""Answers to a state of the machine: no helpers and detached jobs paused; no helpers; nothing."""

USER_ANSWERS = (PAUSE, LEADS, ONE, RUN)
"""Answers to somebody using the machine: the same, or one helper."""


@dataclass(frozen=True, slots=True)
class GovernorSettings:
    """Thresholds and times of the governor. Percentages are 0 to 100.

    Args:
        on_battery: what to do on battery, and if the charger is too weak;
            one of ANSWERS.
        power_saver: what to do in the profile "power-saver"; one of ANSWERS.
        confirm_s: a sensor is believed when two readings this far apart agree; 0 = one
            reading is enough.
        user_active: what to do while somebody uses the machine; one of USER_ANSWERS.
            With RUN this is not read at all.
        user_idle_s: the machine is not in use after this long without input.
        battery_low_percent: pause below this charge, unless external power keeps it
            from falling.
        battery_saver_percent: the same in the profile "power-saver".
        battery_resume_points: the pause ends this many points above that charge.
        battery_hold_s: and not before the charge has stayed there for this long; with
            external power not before ac_hold_s.
        ac_hold_s: external power counts when it has been there for this long.
        draining_s: a battery that discharges for this long in spite of external
            power counts as being on battery.
        heat_hold_s: heat is over when the machine has been cool for this long.
        heat_step_s: shortest time before the next helper is taken away because of heat.
        sleep_hold_s: no helpers for this long after waking up.
        pressure_window_s: pressure is measured over this long.
        pressure_hold_s: one helper comes back after this long without any pressure,
            and no sooner than that after the last step.
        trickle_percent: percent of the time that the last helper works if others wait
            even next to that one; 100 = all of it.
        cpu_fewer_percent, cpu_halve_percent, cpu_more_percent: percent of the time
            in which others wait for CPU time: above the first one helper fewer, above
            the second half of them; below the third they are calm.
        io_fewer_percent, io_more_percent: the same for disk I/O.
        memory_halve_percent: take half of the helpers away if tasks wait for memory
            for more than this percentage of the time.
        memory_stop_percent: no helpers if all tasks wait for memory for more than this.
        memory_hold_s: how long memory must be plentiful before helpers come back.
        throttled_hold_s: the same for the daemon's own CPU limit.
    """

    on_battery: str = PAUSE
    power_saver: str = PAUSE
    user_active: str = RUN
    user_idle_s: float = 180.0
    confirm_s: float = 3.0
    battery_low_percent: float = 20.0
    battery_saver_percent: float = 30.0
    battery_resume_points: float = 5.0
    battery_hold_s: float = 300.0
    ac_hold_s: float = 60.0
    draining_s: float = 60.0
    heat_hold_s: float = 300.0
    heat_step_s: float = 10.0
    sleep_hold_s: float = 60.0
    pressure_window_s: float = 2.0
    pressure_hold_s: float = 20.0
    trickle_percent: float = 2.0
    cpu_fewer_percent: float = 10.0
    cpu_halve_percent: float = 25.0
    cpu_more_percent: float = 5.0
    io_fewer_percent: float = 30.0
    io_more_percent: float = 10.0
    memory_halve_percent: float = 10.0
    memory_stop_percent: float = 5.0
    memory_hold_s: float = 60.0
    throttled_hold_s: float = 10.0


ORDERED = (
    ("cpu_more_percent", "cpu_fewer_percent"),
    ("cpu_fewer_percent", "cpu_halve_percent"),
    ("io_more_percent", "io_fewer_percent"),
    ("battery_low_percent", "battery_saver_percent"),
)
"""Pairs of thresholds; the first must not be above the second, or less pressure would ask for more."""
