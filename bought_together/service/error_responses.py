"""Answers to what went wrong, in JSON."""

from starlette.requests import Request
from starlette.responses import JSONResponse

from bought_together.service.security_headers import SECURITY_HEADERS

HEADERS = {"Cache-Control": "no-store"}
RETRY_AFTER_SECONDS = 2


async def unavailable(request: Request, error: Exception) -> JSONResponse:
    """Return 503: there is nothing to answer from, and there may be soon."""
    headers = HEADERS | {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse({"detail": str(error)}, 503, headers)


async def broken(request: Request, error: Exception) -> JSONResponse:
    """Return 500; the error itself is for the log alone.

    Starlette makes this answer outside of all middleware, so that it brings its own headers.
    """
    response = JSONResponse({"detail": "internal error"}, 500, HEADERS)
    response.raw_headers.extend(SECURITY_HEADERS)
    return response
