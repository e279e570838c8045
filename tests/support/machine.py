"""A directory of files that stands for a whole machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ktaskd.host.root import HostRoot


def make_machine(top: Path, files: Mapping[str, str]) -> HostRoot:
    """Write the files, named by their absolute paths on that machine.

    A call may write only a part, and another call the rest.
    """
    for name, text in files.items():
        path = top / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode(errors="surrogateescape"))
    return HostRoot(top)


def cpu_files(online: str, nodes: Mapping[int, str]) -> dict[str, str]:
    """Files of sysfs about CPUs and nodes; `online` and the nodes' CPUs are cpulists.

    Node N has N + 1 GiB of memory.
    """
    files = {"/sys/devices/system/cpu/online": f"{online}\n"}
    if nodes:
        files["/sys/devices/system/node/online"] = ",".join(map(str, nodes)) + "\n"
    for nid, cpulist in nodes.items():
        directory = f"/sys/devices/system/node/node{nid}"
        files[f"{directory}/cpulist"] = f"{cpulist}\n"
        kib = (nid + 1) << 20
        files[f"{directory}/meminfo"] = f"Node {nid} MemTotal:       {kib} kB\nNode {nid} MemFree: 7 kB\n"
    return files
