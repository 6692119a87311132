"""Error responses in JSON."""

from starlette.requests import Request
from starlette.responses import JSONResponse

from bought_together.service.security_headers import SECURITY_HEADERS

HEADERS = {"Cache-Control": "no-store"}
RETRY_AFTER_SECONDS = 2


async def unavailable(request: Request, error: Exception) -> JSONResponse:
    """Return 503: there is no data to answer from now, but there may be soon."""
    headers = HEADERS | {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse({"detail": str(error)}, 503, headers)


async def broken(request: Request, error: Exception) -> JSONResponse:
    """Return 500; only the log gets the error itself.

    Starlette sends this response outside all middleware, so it needs its own headers.
    """
    response = JSONResponse({"detail": "internal error"}, 500, HEADERS)
    response.raw_headers.extend(SECURITY_HEADERS)
    return response
