"""HTTP/1.1 by uvicorn and httptools, with JSON responses to invalid requests."""

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class JsonRefusals(HttpToolsProtocol):
    """Answers in JSON to bytes that are not HTTP, or requests of more than 64 KiB.

    Such requests never reach the application.
    """

    def send_400_response(self, msg: str) -> None:
        body = orjson.dumps({"detail": "not a valid HTTP request, or one of more than 64 KiB"})
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"x-content-type-options: nosniff\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
