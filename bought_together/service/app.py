"""The application: one source, the JSON API, the storefront."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from bought_together.service import api, health, pages
from bought_together.service.backends import Source, Unavailable
from bought_together.service.error_responses import broken, unavailable
from bought_together.service.metrics import Metrics
from bought_together.service.middleware import Around, FastLane
from bought_together.service.refreshing import FirstLook, follow

STATIC = Path(__file__).parent / "static"
DOCS_PACKAGE = ("fastapi_offline", "static")


def create_app(source: Source, first_look: FirstLook | None = None) -> FastAPI:
    """Return the application; it follows its source while it runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(follow(source, first_look))
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
    app.include_router(pages.router)
    app.mount("/static/docs", pages.Assets(packages=[DOCS_PACKAGE], only=pages.DOCS_ASSETS))
    app.mount("/static", pages.Assets(directory=STATIC))
    app.add_exception_handler(Unavailable, unavailable)
    app.add_exception_handler(Exception, broken)
    app.add_middleware(FastLane)
    app.add_middleware(Around, metrics=app.state.metrics)
    return app
