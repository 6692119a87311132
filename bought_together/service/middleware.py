"""What goes around every request: security headers, HEAD, measurements, and the fast lane."""

import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bought_together.service.api import RECOMMENDATIONS_PATH, recommendations
from bought_together.service.backends import Unavailable
from bought_together.service.error_responses import unavailable
from bought_together.service.metrics import Metrics
from bought_together.service.security_headers import SECURITY_HEADERS


class RequestMiddleware:
    """Plain ASGI, since this is run for every request."""

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
            await send(message)

        # The server leaves out the body of an answer to HEAD.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            await self.app(inner, receive, send_with_headers)
        finally:
            route = inner.get("route_path") or getattr(inner.get("route"), "path", "unmatched")
            self.metrics.observe(str(route), status, time.perf_counter() - began)


class FastLane:
    """Answers the question that a shop asks most, for one product and without options, directly.

    Routing and checking parameters takes FastAPI longer than everything else about this request.
    The endpoint is the same one, called without them; requests that have options, and all others,
    go on to the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.before, self.after = RECOMMENDATIONS_PATH.split("{product_id:path}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
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
