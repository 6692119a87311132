"""Put the application together: a backend, the JSON API and the storefront."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from bought_together.service import api, baskets, health, pages
from bought_together.service.backends import Backend, Unavailable
from bought_together.service.error_responses import broken, unavailable
from bought_together.service.metrics import Metrics
from bought_together.service.middleware import FastLane, RequestMiddleware
from bought_together.service.refreshing import FirstRefresh, keep_refreshing

STATIC = Path(__file__).parent / "static"
DOCS_PACKAGE = ("fastapi_offline", "static")


def create_app(backend: Backend, first_refresh: FirstRefresh | None = None) -> FastAPI:
    """Return the application, which keeps its backend up to date while it runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        refreshing = asyncio.create_task(keep_refreshing(backend, first_refresh))
        yield
        refreshing.cancel()
        await backend.close()

    app = FastAPI(
        title="Bought together",
        version="1",
        description="For every product, the products most often bought in the same basket.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.backend = backend
    app.state.metrics = Metrics(backend)
    app.include_router(api.json_api, tags=["recommendations"])
    app.include_router(baskets.basket_api, tags=["recommendations"])
    app.include_router(health.operations, tags=["operations"])
    app.include_router(pages.storefront)
    app.mount("/static/docs", pages.Assets(packages=[DOCS_PACKAGE], only=pages.DOCS_ASSETS))
    app.mount("/static", pages.Assets(directory=STATIC))
    app.add_exception_handler(Unavailable, unavailable)
    app.add_exception_handler(Exception, broken)
    app.add_middleware(FastLane)
    app.add_middleware(RequestMiddleware, metrics=app.state.metrics)
    return app
