"""How much memory the machine has available.

Swap is not counted, since pushing other programs into swap would disturb them.

Source: proc_meminfo(5), MemAvailable; Documentation/admin-guide/mm/hugetlbpage.rst
"""

from __future__ import annotations

from dataclasses import dataclass

from ktaskd.host.root import HostRoot, read_kernel_text, read_number


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Bytes of memory.

    Args:
        available: memory that is available without swapping.
        total: memory of the machine.
    """

    available: int
    total: int


def read_free(root: HostRoot) -> FreeMemory | None:
    """Read /proc/meminfo; None if it cannot be read or lacks these values."""
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
    """Bytes of huge pages of this size that are free or may still be made; None = not known."""
    pool = root.sys / "kernel/mm/hugepages" / f"hugepages-{page_size >> 10}kB"
    free = read_number(pool / "free_hugepages")
    if free is None:
        return None
    may_make = (read_number(pool / "nr_overcommit_hugepages") or 0) - (
        read_number(pool / "surplus_hugepages") or 0
    )
    return (free + max(may_make, 0)) * page_size
