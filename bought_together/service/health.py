"""For those who run the service: is it alive, has it data, how does it do?"""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bought_together.service.api import UNAVAILABLE, current_version

operations = APIRouter()


@operations.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    """Always 200; says nothing about the data."""
    return {"status": "alive"}


@operations.get("/readyz", responses=UNAVAILABLE, summary="Can it answer?")
async def readyz(request: Request) -> dict[str, str | int | float]:
    """200 with what is served, 503 while there is nothing or while the store is away."""
    backend = request.app.state.backend
    version = current_version(request)
    await backend.check()
    return {
        "version": version.name,
        "built_at": version.built_at.isoformat(),
        "age_seconds": round((datetime.now(UTC) - version.built_at).total_seconds()),
        "products": len(version.catalogue),
    }


@operations.get("/metrics", summary="Prometheus metrics", response_class=Response)
def metrics(request: Request) -> Response:
    registry = request.app.state.metrics.registry
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
