"""How much memory the page tables of this process take.

Source: proc_pid_status(5), VmPTE
"""

from __future__ import annotations

from ktaskd.host.root import HostRoot, read_kernel_text


def read_page_tables(root: HostRoot | None = None) -> int:
    """Bytes of this process's page tables; 0 if the kernel does not report them."""
    text = read_kernel_text((root or HostRoot()).proc / "self/status") or ""
    for line in text.splitlines():
        if line.startswith("VmPTE:"):
            return int(line.split()[1]) << 10
    return 0
