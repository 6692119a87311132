"""HTTP/1.1 by uvicorn and httptools, with JSON responses to invalid requests."""

import errno
import logging
import re
import socket
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bought_together.errors import CannotRun, describe
from bought_together.service.security_headers import SECURITY_HEADERS

MAX_HEAD_BYTES = 64 * 1024
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # such as ::1 without IPv6
INVALID = 400, "not a valid HTTP request"
TOO_LARGE = 431, "more than 64 KiB of address and headers"
# Path segments without special characters; not only dots, which a browser would resolve.
ROOT_PATH = re.compile(r"(/(?!\.+(/|$))[A-Za-z0-9._~-]+)*")


class JsonRefusals(HttpToolsProtocol):
    """Answers in JSON to bytes that are not HTTP, and to an address and headers above 64 KiB.

    Such requests never reach the application. They have no line in the log, which anyone could fill
    with them; the metrics count them. A request to change to another protocol (h2c) is answered
    in HTTP/1.1.
    """

    head_bytes = 0  # of the address and headers of a request, until these are complete
    is_head_open = False
    is_too_large = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.head_bytes, self.is_head_open = 0, True

    def on_headers_complete(self) -> None:
        self.is_head_open = False
        lines = (len(name) + len(value) + 4 for name, value in self.headers)
        head_bytes = len(self.url) + sum(lines)
        if head_bytes > MAX_HEAD_BYTES:
            self.is_too_large = True
            raise ValueError  # ends the parser, and then in send_400_response
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.is_head_open and not self.transport.is_closing():
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES:
                self.is_too_large = True
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        status, detail = TOO_LARGE if self.is_too_large else INVALID
        body = orjson.dumps({"detail": detail})
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
            *SECURITY_HEADERS,
        ]
        lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers)]
        self.transport.write(b"".join([*lines, b"\r\n", body]))
        self.transport.close()
        app: Any = self.config.app
        app.state.metrics.count("invalid", status)

    def _unsupported_upgrade_warning(self) -> None:
        """Close the connection after the answer: its parser waits for the other protocol."""
        self.cycle.keep_alive = False


def leave_out_invalid_requests() -> None:
    """Keep the server's line per invalid request out of the log."""
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: record.msg != "Invalid HTTP request received."
    )


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a socket bound to each address of the host that this machine has; raises CannotRun.

    Nobody can connect yet: the server listens when the application is complete.
    """
    sockets: list[socket.socket] = []
    error: Exception | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                sockets.append(bound(family, address))
            except OSError as failed:
                error = failed
                if failed.errno not in NOT_HERE:
                    raise
    except (OSError, ValueError) as failed:  # ValueError: not even a name
        error = failed
        for one in sockets:
            one.close()
        sockets = []
    if not sockets:
        reason = describe(error) if error else "it has no address"
        raise CannotRun(
            f"cannot listen on HOST {host}, PORT {port}: {reason}; choose others"
        ) from error
    listening = sockets[0].getsockname()[1]
    logging.getLogger("bought_together").info("listening on %s, port %d", host, listening)
    return sockets


def bound(family: int, address: Any) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one


def checked_root_path(root_path: str) -> str:
    """Return the path without its last slash; raises CannotRun for no path of a URL."""
    root_path = root_path.rstrip("/")
    if not ROOT_PATH.fullmatch(root_path):
        raise CannotRun("ROOT_PATH is not a path like /shop, of letters, digits and . _ ~ -")
    return root_path
