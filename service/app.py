"""The application: one source, the JSON API, the storefront."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from service import api, health
from service.following import follow, refresh
from service.metrics import Metrics
from service.middleware import Around
from service.sources import Source, Unavailable

STATIC = Path(__file__).parent / "static"
RETRY_AFTER = {"Retry-After": "2"}

log = logging.getLogger("bought_together")


def create_app(source: Source) -> FastAPI:
    """Return the application; it follows its source while it runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(follow(source))
        yield
        following.cancel()
        await source.close()

    app = FastAPI(
        title="Bought together",
        version="1",
        description="For every product, what is most often bought in the same basket.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.source = source
    app.state.metrics = Metrics(source)
    app.include_router(api.router, tags=["recommendations"])
    app.include_router(health.router, tags=["operations"])
    app.add_exception_handler(Unavailable, unavailable)
    app.add_exception_handler(Exception, broken)
    app.add_middleware(Around, metrics=app.state.metrics)
    return app


async def unavailable(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, RETRY_AFTER | {"Cache-Control": "no-store"})


async def broken(request: Request, error: Exception) -> JSONResponse:
    """The error itself is for the log alone."""
    return JSONResponse({"detail": "internal error"}, 500, {"Cache-Control": "no-store"})
