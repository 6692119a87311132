"""Health checks and metrics for operators."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bought_together.export.read import data_age
from bought_together.service.api import UNAVAILABLE, current_version

operations = APIRouter()


@operations.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    """Always 200, whatever the state of the data."""
    return {"status": "alive"}


@operations.get("/readyz", responses=UNAVAILABLE, summary="Can it answer?")
async def readyz(request: Request) -> dict[str, str | int | None]:
    """200 with the current version and its age, 503 while there is none or Redis is unavailable.

    The newest date of the data and its age are null for data without dates.
    """
    backend = request.app.state.backend
    version = current_version(request)
    await backend.check()
    newest = version.newest_ordered_at
    return {
        "version": version.name,
        "built_at": version.built_at.isoformat(),
        "age_seconds": round((datetime.now(UTC) - version.built_at).total_seconds()),
        "newest_ordered_at": newest.isoformat() if newest else None,
        "data_age_seconds": data_age(newest),
        "products": len(version.catalogue),
    }


@operations.get("/metrics", summary="Prometheus metrics", response_class=Response)
def metrics(request: Request) -> Response:
    registry = request.app.state.metrics.registry
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
