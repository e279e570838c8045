"""The part of HTTP/1.1 that a scraper needs: one request, one answer, then the connection ends. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

HEAD_BYTES_MAX = 8192
"""Longest head of a request."""

END = b"\r\n\r\n"

_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,2048}) HTTP/1\.[01]")
_PATH = re.compile(rb"(?:http://[^/?]*)?/metrics(?:\?.*)?")
_NAMES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
}
_HINTS = {
    400: "this is no HTTP/1.1 request; send GET /metrics",
    404: "there is only /metrics here",
    405: "send GET or HEAD",
    431: f"the request's head has more than {HEAD_BYTES_MAX} bytes",
}


def is_whole(head: bytes) -> bool:
    """Whether nothing more needs to be read to answer."""
    return END in head or len(head) > HEAD_BYTES_MAX


def answer(head: bytes, text: Callable[[], bytes], content_type: str) -> tuple[bytes, bytes]:
    """Return head and body of the answer to a request.

    Args:
        head: bytes that were read, whole or as far as the client has sent them.
        text: makes the body; called only if the request is for it.
        content_type: of the body.
    """
    status, method = _judge(head)
    if status == 200:
        body = text()
    else:
        body, content_type = f"{_HINTS[status]}\n".encode(), "text/plain; charset=utf-8"
    lines = [
        f"HTTP/1.1 {status} {_NAMES[status]}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if status == 405:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode(), b"" if method == b"HEAD" else body


def _judge(head: bytes) -> tuple[int, bytes]:
    """Return the status of the answer, and the method."""
    if END not in head:
        return (431 if len(head) > HEAD_BYTES_MAX else 400), b""
    line = _LINE.fullmatch(head.partition(b"\r\n")[0])
    if line is None:
        return 400, b""
    if not _PATH.fullmatch(line[2]):
        return 404, line[1]
    return (200 if line[1] in (b"GET", b"HEAD") else 405), line[1]
