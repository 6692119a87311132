"""Middleware for every request: security headers, HEAD, metrics, and a fast lane."""

import time
from urllib.parse import quote

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bought_together.service.api import RECOMMENDATIONS_PATH, recommendations
from bought_together.service.backends import Unavailable
from bought_together.service.error_responses import unavailable
from bought_together.service.metrics import Metrics
from bought_together.service.security_headers import SECURITY_HEADERS

Headers = list[tuple[bytes, bytes]]
TEMPORARY_REDIRECT = 307  # the only one that the router sends


class RequestMiddleware:
    """Adds security headers, answers HEAD, and measures; plain ASGI for speed."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *SECURITY_HEADERS]
                if status == TEMPORARY_REDIRECT:
                    message["headers"] = without_host(message["headers"], scope)
            await send(message)

        # The server omits the body of an answer to HEAD.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            await self.app(inner, receive, send_with_headers)
        finally:
            route = inner.get("route_path") or getattr(inner.get("route"), "path", "unmatched")
            self.metrics.observe(str(route), status, time.perf_counter() - began)


def without_host(headers: Headers, scope: Scope) -> Headers:
    """Return the headers of a redirect to the same path with or without its last slash.

    The router's own Location takes the host from the request, and decodes the path.
    """
    path = scope["path"]
    target = path.rstrip("/") if path.endswith("/") else f"{path}/"
    location = quote("/" + target.lstrip("/")).encode()
    if scope["query_string"]:
        location += b"?" + scope["query_string"]
    return [(name, location if name == b"location" else value) for name, value in headers]


class FastLane:
    """Answers the most frequent request, one product without options, without FastAPI's routing.

    For this request, FastAPI's routing and parameter checks take longer than all the rest. The
    fast lane calls the same endpoint directly. All other requests go to the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.before, self.after = RECOMMENDATIONS_PATH.split("{product_id:path}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        is_plain = (
            path.startswith(self.before)
            and path.endswith(self.after, len(self.before))
            and scope.get("method") == "GET"
            and not scope["query_string"]
        )
        if not is_plain:
            await self.app(scope, receive, send)
            return
        scope["route_path"] = RECOMMENDATIONS_PATH
        request = Request(scope)
        product_id = path[len(self.before) : -len(self.after)]
        try:
            response = await recommendations(request, product_id)
        except Unavailable as error:
            response = await unavailable(request, error)
        await response(scope, receive, send)
