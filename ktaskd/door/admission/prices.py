"""Prices of the loop's time, and the debts at which users have to wait."""

from __future__ import annotations

CALL_COST_S = 0.001
"""Cost to gRPC of a call, whatever its outcome. Measured: 0.7 to 1 ms."""

CALL_ALONE_S = 0.0003
"""The same while no other user would notice. The estimate above is for the worst calls, and as long as
nobody waits, it would only keep the loop idle. Measured for calls that are answered: 0.2 to 0.3 ms."""

CONNECTION_COST_S = 0.0007
"""Cost to gRPC of a connection. Measured."""

TURN_COST_S = 2e-5
"""Least cost of a turn in the queue: to park the user, and to wake it."""

PRICE = 3.0
"""Seconds of waiting for each second used while others would notice the use; otherwise 1."""

LIGHT_PRICE = 1.5
"""The same for the light users of one account."""

GRACE_S = 0.015
LIGHT_GRACE_S = 0.03
"""Nobody waits for debts up to this. On a machine that others use up the loop wakes up some milliseconds
late, and then runs the turns that are due one after the other, with other callbacks in between."""

TICK_S = 1e-6

MODEST_S = 0.01
"""Most that a light user uses until it is answered."""

LAG_S = 0.004
LAG_MAX_S = 0.005
"""A turn that comes later than LAG_S while the loop was at work shows that the loop does work that nobody
was charged for. The next turn then waits as much longer, at most LAG_MAX_S."""

UNBEGUN_MAX = 8
"""Most admitted calls of an account that no handler has begun with."""

UNBEGUN_S = 0.02
"""After this time without the begin of a handler there may never be one: not everything that looks like
a call is one."""

THERE_S = 0.1
"""A user counts as present for this long after it used anything."""

LOOK_S = 0.005
"""Shortest time between two updates of which users are present."""
