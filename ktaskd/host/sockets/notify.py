"""Tell the service manager how we are, without its library.

Source: sd_notify(3), which describes the protocol as stable.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

SEND_TIMEOUT_S = 0.05
"""A manager that does not read must not hold up our loop."""


def notify(*lines: str, environment: Mapping[str, str] | None = None) -> bool:
    """Send assignments such as "READY=1" and "STATUS=text" in one message.

    Args:
        lines: without newlines; one in a value would start another line, so
            it becomes a blank.
        environment: where NOTIFY_SOCKET is looked up; None = our own.
    Returns:
        Whether it was sent: False without a manager, or when it does not
        listen. Never an exception: a daemon works on without being watched.
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
            # One datagram, so that two messages can never mix.
            sender.sendto(message, address)
    except OSError:
        return False
    return True
