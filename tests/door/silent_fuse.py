"""A FUSE file system that does not answer some requests, which then hang the process that made them.

Run as: python silent_fuse.py DIRECTORY [LOG [DEVICE]], as root. Prints "mounted". "DIR/file" can
be looked up and opened, but its close (FLUSH) is never answered, and neither is the
look-up of "DIR/silent". Killing this process ends all waits.

With LOG, a file that gets the number of each request as a line, the server answers everything,
and the kernel caches nothing (attributes are valid for 0 s). With DEVICE, a block device,
the type is fuseblk.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, STATFS, RELEASE, FLUSH, INIT, INTERRUPT = 1, 2, 3, 14, 17, 18, 25, 26, 36
"""Source: linux/fuse.h."""

IN = struct.Struct("<IIQQIIII")
OUT = struct.Struct("<IiQ")
ROOT, FILE = 1, 2
LOGGED = len(sys.argv) > 2
VALID_S = 0 if LOGGED else 3600


def attributes(node: int) -> bytes:
    mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o644
    return struct.pack("<6Q10I", node, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(opcode: int, node: int, body: bytes) -> bytes | int | None:
    """Return the reply: bytes, an errno, or None for no reply."""
    if opcode == INIT:
        return struct.pack("<4I2H2I2H2I", 7, 31, 65536, 0, 12, 10, 65536, 1, 0, 0, 0, 0) + bytes(20)
    if LOGGED and opcode == FLUSH:
        return errno.ENOSYS
    if LOGGED and opcode == STATFS:
        return struct.pack("<5Q10I", *[0] * 5, 4096, 255, 4096, *[0] * 7)
    if opcode == GETATTR:
        return struct.pack("<QII", VALID_S, 0, 0) + attributes(node)
    if opcode == OPEN:
        return struct.pack("<QII", 1, 0, 0)
    if opcode == RELEASE:
        return b""
    if opcode == LOOKUP and body == b"file\0":
        return struct.pack("<4QII", FILE, 0, VALID_S, VALID_S, 0, 0) + attributes(FILE)
    if opcode in (FLUSH, FORGET, INTERRUPT) or (opcode == LOOKUP and body == b"silent\0"):
        return None
    return errno.ENOENT if opcode == LOOKUP else errno.ENOSYS


def main() -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    source, kind = (sys.argv[3], "fuseblk") if len(sys.argv) > 3 else ("silent", "fuse.silent")
    more = ",blksize=512" if kind == "fuseblk" else ""
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other{more}".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(sys.argv[1]), kind.encode(), 0, options):
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    print("mounted", flush=True)
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError:
            return  # unmounted by force
        _, opcode, unique, node, *_ = IN.unpack_from(request)
        if LOGGED:
            with open(sys.argv[2], "a") as log:
                log.write(f"{opcode}\n")
        reply = answer(opcode, node, request[IN.size :])
        if isinstance(reply, bytes):
            os.write(device, OUT.pack(OUT.size + len(reply), 0, unique) + reply)
        elif reply is not None:
            os.write(device, OUT.pack(OUT.size, -reply, unique))


if __name__ == "__main__":
    main()
