"""file.crc32c: Castagnoli's polynomial, as in iSCSI, ext4 and btrfs."""

from __future__ import annotations

from anycrc import Model
from crc32c import crc32c

from ktaskd.functions.checksums.checksum import Crc


class Crc32c(Crc):
    """file.crc32c."""

    def __init__(self) -> None:
        """Compute with the CPU's own instruction; another library only combines the parts."""
        super().__init__("crc32c", crc32c, Model("CRC32-ISCSI").combine)
