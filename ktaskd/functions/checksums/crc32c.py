"""file.crc32c: Castagnoli's polynomial, as iSCSI, ext4 and btrfs use it."""

from __future__ import annotations

from anycrc import Model
from crc32c import crc32c

from ktaskd.functions.checksums.checksum import Crc


class Crc32c(Crc):
    """file.crc32c."""

    def __init__(self) -> None:
        """Computed by the CPU's own instruction; only putting together is done by another library."""
        super().__init__("crc32c", crc32c, Model("CRC32-ISCSI").combine)
