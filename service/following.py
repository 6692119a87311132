"""Follow a source: take up each new version within seconds, and say once what is wrong."""

import asyncio
import logging

from errors import CannotRun
from service.sources import Source, Unavailable

POLL_SECONDS = 1.0

log = logging.getLogger("bought_together")


async def follow(source: Source) -> None:
    """Refresh the source again and again, until cancelled."""
    problem: str | None = None
    while True:
        problem = await refresh(source, problem)
        await asyncio.sleep(POLL_SECONDS)


async def refresh(source: Source, last_problem: str | None) -> str | None:
    """Refresh once; returns what is wrong, and logs it where that is news."""
    before = source.current
    try:
        await source.refresh()
        problem = None
    except (CannotRun, Unavailable) as error:
        problem = " ".join(str(error).split())
    except Exception as error:  # whatever it is, the version that there is goes on
        problem = " ".join(f"{type(error).__name__}: {error}".split())
    if problem and problem != last_problem:
        serving = f"still serving {before.name}" if before else "nothing to serve yet"
        log.error("%s; %s", problem, serving)
    version = source.current
    if version and (version is not before or (last_problem and not problem)):
        log.info(
            "serving %s: %s products, built %s",
            version.name,
            f"{len(version.catalogue):,}",
            f"{version.built_at:%Y-%m-%d %H:%M:%S} UTC",
        )
    return problem
