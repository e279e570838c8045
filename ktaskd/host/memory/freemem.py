"""How much memory the machine can still give.

Swap is not counted: to push other programs there is not to leave them alone.

Source: proc_meminfo(5), MemAvailable; Documentation/admin-guide/mm/hugetlbpage.rst
"""

from __future__ import annotations

from dataclasses import dataclass

from ktaskd.host.root import HostRoot, read_kernel_text, read_number


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Bytes of memory.

    Args:
        available: that can be had without swapping.
        total: of the machine.
    """

    available: int
    total: int


def read_free(root: HostRoot) -> FreeMemory | None:
    """What /proc/meminfo reports now; None where it cannot be read or does not say."""
    found: dict[str, int] = {}
    for line in (read_kernel_text(root.proc / "meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if name in ("MemAvailable", "MemTotal") and number and number[0].isdecimal():
            found[name] = int(number[0]) << 10
    if len(found) < 2:
        return None
    return FreeMemory(found["MemAvailable"], found["MemTotal"])


def read_free_huge(root: HostRoot, page_size: int) -> int | None:
    """Bytes in huge pages of this size that are free, or that the kernel may still make; None = not known."""
    pool = root.sys / "kernel/mm/hugepages" / f"hugepages-{page_size >> 10}kB"
    free = read_number(pool / "free_hugepages")
    if free is None:
        return None
    may_make = (read_number(pool / "nr_overcommit_hugepages") or 0) - (
        read_number(pool / "surplus_hugepages") or 0
    )
    return (free + max(may_make, 0)) * page_size
