"""Prices of the loop's time, and the debts that make a user wait."""

from __future__ import annotations

CALL_COST_S = 0.001
"""What gRPC does for a call, whatever becomes of it. Measured: 0.7 to 1 ms."""

CONNECTION_COST_S = 0.0007
"""What gRPC does for a connection. Measured."""

TURN_COST_S = 2e-5
"""What a turn costs at least: to be parked, and to be woken."""

PRICE = 3.0
"""Seconds to wait for each second used, where others would notice; 1 where nobody is."""

LIGHT_PRICE = 1.5
"""The same of the light users of one account."""

GRACE_S = 0.015
LIGHT_GRACE_S = 0.03
"""Debts up to this do not make anybody wait: on a machine that others use up the loop is woken
some milliseconds late, and turns that are due then come one after the other, others' callbacks between."""

TICK_S = 1e-6

MODEST_S = 0.01
"""What a light user uses at most until it is answered."""

LAG_S = 0.004
LAG_MAX_S = 0.005
"""A turn that comes later than this, while the loop was at work, shows that it is busy with what nobody
was charged for: the next one waits so much longer, at most so long."""

UNBEGUN_MAX = 8
"""Calls of an account that were let in and that no handler has begun with."""

UNBEGUN_S = 0.02
"""After this time no handler may ever begin: not all that begins like a call is one."""

THERE_S = 0.1
"""A user counts as present for this long after it used anything."""

LOOK_S = 0.005
"""The door looks up and notes the present users once in this time."""
