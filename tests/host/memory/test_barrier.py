"""Accesses of several processes are ordered, or the caller learns that they are not."""

from __future__ import annotations

import errno

import pytest

from ktaskd.host.memory import barrier
from tests.host.ownprocess import in_own_process

LACKING = """
import errno, os
from ktaskd.host import libc
from ktaskd.host.memory import barrier

def refuse(name, *arguments):
    assert name == "membarrier"
    raise OSError(errno.{error}, os.strerror(errno.{error}))

barrier.syscall = refuse
"""

ASKED = """
print(barrier.register())
try:
    barrier.order_all()
    print("ordered")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_accesses_when_registered_then_ordered() -> None:
    """Each for itself: the daemon orders, and only workers register."""
    assert in_own_process("import errno\nfrom ktaskd.host.memory import barrier\n" + ASKED) == [
        "True",
        "ordered",
    ]
    barrier.order_all()


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EINVAL"])
def test_accesses_when_the_kernel_or_a_filter_refuses_then_said(error: str) -> None:
    """ENOSYS: no such call; EINVAL: not this command; EPERM: a filter of system calls."""
    assert in_own_process(LACKING.format(error=error) + ASKED) == ["False", error]


def test_accesses_when_a_command_is_unknown_then_the_kernel_itself_refuses() -> None:
    """So the number of the call is right."""
    with pytest.raises(OSError, match=r".") as caught:
        barrier._call(1 << 20)
    assert caught.value.errno == errno.EINVAL
