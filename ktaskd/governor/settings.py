"""When helpers have to give way, in numbers: the configuration's section "governor".

Where a number comes from is said in deploy/ktaskd.toml, which has them all.
"""

from __future__ import annotations

from dataclasses import dataclass

PAUSE = "pause"
LEADS = "leads"
ONE = "one"
RUN = "run"
ANSWERS = (PAUSE, LEADS, RUN)
"""To a state of the machine: no helpers and detached jobs paused, no helpers, or nothing."""

USER_ANSWERS = (PAUSE, LEADS, ONE, RUN)
"""To somebody at the machine: the same, or one helper."""


@dataclass(frozen=True, slots=True)
class GovernorSettings:
    """Thresholds and times of the governor. Percents are 0 to 100.

    Args:
        on_battery: what to do on battery, and where the charger is too weak;
            one of ANSWERS.
        power_saver: what to do in the profile "power-saver"; one of ANSWERS.
        confirm_s: a sensor is believed when two readings so far apart agree; 0 = one
            reading is enough.
        user_active: what to do while somebody is at the machine; one of USER_ANSWERS.
            RUN = nobody looks.
        user_idle_s: nobody is there when there was no input for so long.
        battery_low_percent: pause below that charge, unless external power keeps it
            from falling.
        battery_saver_percent: the same in the profile "power-saver".
        battery_resume_points: so much more than that ends it.
        battery_hold_s: and only when it has stayed so for so long; external power ends
            it after ac_hold_s.
        ac_hold_s: external power counts when it has been there for so long.
        draining_s: a battery that discharges for so long in spite of external
            power counts as being on battery.
        heat_hold_s: it is cool when it has been for so long.
        heat_step_s: shortest time between two helpers fewer because it gets hot.
        sleep_hold_s: no helpers for so long after waking up.
        pressure_window_s: pressure is measured over so long.
        pressure_hold_s: one helper more after so long without any pressure,
            and no sooner than that after the last step.
        trickle_percent: of the time that the last helper works where others wait
            even beside that one; 100 = all of it.
        cpu_fewer_percent, cpu_halve_percent, cpu_more_percent: share of the time
            in which somebody else waits for a CPU: one helper fewer above the
            first, half of them above the second, calm below the third.
        io_fewer_percent, io_more_percent: the same for input and output.
        memory_halve_percent: half of the helpers where somebody waits for memory
            for more than that share of the time.
        memory_stop_percent: no helpers where everybody does.
        memory_hold_s: how long memory must have been plenty before helpers come back.
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
"""Pairs of which the first is not above the second, or less would ask for more."""
