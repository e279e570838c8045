"""A user's program that works on its own files; run as `python work.py DIRECTORY [FILE ...]`.

It makes DIRECTORY, works on new files in it, and removes them. It prints the CRC-32 of a file that it
made there, then those of the FILEs, which it only reads.
"""

import os
import sys
from pathlib import Path

import ktask

CONTENT = b"".join(b"line %07d\n" % i for i in range(230_000))


def work(client: ktask.Client, place: Path) -> int:
    """Checksum, copy, compress, decompress, allocate and punch files; returns the checksum."""
    data, copy, packed, back = (place / name for name in ("data", "copy", "packed", "back"))
    data.write_bytes(CONTENT)
    checksum = crc32(client, data)
    client.run("file.copy", src=data, dst=copy)
    client.run("file.compress", src=data, dst=packed)
    client.run("file.decompress", src=packed, dst=back)
    for path in (copy, back):
        assert path.read_bytes() == CONTENT, f"{path} differs"
    with (place / "storage").open("w+b") as file:
        file.truncate(8 << 20)
        client.run("file.allocate", data=file)
        assert os.fstat(file.fileno()).st_blocks * 512 >= 8 << 20, "nothing was allocated"
        client.run("file.punch", data=file)
        assert os.fstat(file.fileno()).st_blocks * 512 < 1 << 20, "nothing was punched"
    return checksum


def crc32(client: ktask.Client, path: Path) -> int:
    """The CRC-32 from a job."""
    result = client.run("file.crc32", data=path).result
    assert result is not None
    return int(result["crc32"])


def main() -> None:
    """Print the checksums, or raise."""
    os.umask(0o077)
    place = Path(sys.argv[1])
    place.mkdir()
    with ktask.connect("/run/ktaskd") as client:
        print(f"{work(client, place):08x}")
        for name in sys.argv[2:]:
            print(f"{crc32(client, Path(name)):08x}")
    for path in place.iterdir():
        path.unlink()
    place.rmdir()


if __name__ == "__main__":
    main()
