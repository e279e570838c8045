"""Send our state to the service manager, without its library.

Source: sd_notify(3), which describes the protocol as stable.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

SEND_TIMEOUT_S = 0.05
"""Seconds. A manager that does not read must not block our event loop."""


def notify(*lines: str, environment: Mapping[str, str] | None = None) -> bool:
    """Send assignments such as "READY=1" and "STATUS=text" in one message.

    Args:
        lines: assignments; a newline in one would start another line, so it is
            replaced by a blank.
        environment: has NOTIFY_SOCKET; None = our own environment.
    Returns:
        Whether the message was sent: False without a manager, or if it does not listen.
        Never raises, since a daemon can work without being watched.
    """
    address = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(line.replace("\n", " ") for line in lines).encode(errors="replace")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SEND_TIMEOUT_S)
            # A single datagram, so that two messages never mix.
            sender.sendto(message, address)
    except OSError:
        return False
    return True
