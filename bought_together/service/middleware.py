"""Middleware for every request: security headers, HEAD, metrics, and a fast lane."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bought_together.service.api import RECOMMENDATIONS_PATH, recommendations
from bought_together.service.backends import Unavailable
from bought_together.service.baskets import BASKET_PATH, basket, plain_basket
from bought_together.service.error_responses import unavailable
from bought_together.service.metrics import Metrics
from bought_together.service.security_headers import SECURITY_HEADERS

Headers = list[tuple[bytes, bytes]]
Endpoint = Callable[[Request], Awaitable[Response]]
BEFORE, AFTER = RECOMMENDATIONS_PATH.split("{product_id:path}")
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
    """Answers the most frequent requests without FastAPI's routing: one product, and a basket.

    For these requests, FastAPI's routing and parameter checks take longer than all the rest. The
    fast lane calls the same endpoints directly. All other requests go to the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = plain_request(scope)
        if found is None:
            await self.app(scope, receive, send)
            return
        scope["route_path"], answering = found
        request = Request(scope)
        try:
            response = await answering(request)
        except Unavailable as error:
            response = await unavailable(request, error)
        await response(scope, receive, send)


def plain_request(scope: Scope) -> tuple[str, Endpoint] | None:
    """Return the route and the endpoint, with its parameters, of a frequent request; or None."""
    path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
    if scope.get("method") != "GET":
        return None
    if path.startswith(BEFORE) and path.endswith(AFTER, len(BEFORE)) and not scope["query_string"]:
        product_id = path[len(BEFORE) : -len(AFTER)]
        return RECOMMENDATIONS_PATH, partial(recommendations, product_id=product_id)
    if path == BASKET_PATH and (asked := plain_basket(scope["query_string"])):
        product_ids, limit = asked
        return BASKET_PATH, partial(basket, product_id=product_ids, limit=limit)
    return None
