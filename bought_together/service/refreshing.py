"""Refresh a backend: load each new version within seconds, and log each problem once."""

import asyncio
import logging
import threading

from bought_together.errors import CannotRun
from bought_together.export.read import data_age_in_words
from bought_together.service.backends import Backend

REFRESH_SECONDS = 1.0

log = logging.getLogger("bought_together")


class FirstRefresh(threading.Thread):
    """Loads the first version while the program imports the rest."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(daemon=True)
        self.backend = backend
        self.problem: str | None = None
        self.start()

    def run(self) -> None:
        self.problem = asyncio.run(refresh(self.backend, None))


async def keep_refreshing(backend: Backend, first_refresh: FirstRefresh | None = None) -> None:
    """Refresh the backend once per REFRESH_SECONDS until cancelled, after the first refresh."""
    problem: str | None = None
    if first_refresh:
        await asyncio.to_thread(first_refresh.join)
        problem = first_refresh.problem
    while True:
        problem = await refresh(backend, problem)
        await asyncio.sleep(REFRESH_SECONDS)


async def refresh(backend: Backend, last_problem: str | None) -> str | None:
    """Refresh once; return the problem, if any, and log it unless it is the last one."""
    before = backend.current.name if backend.current else None
    try:
        await backend.refresh()
        problem = None
    except CannotRun as error:
        problem = " ".join(str(error).split())
    except Exception as error:  # the current version keeps serving, whatever the error
        problem = " ".join(f"{type(error).__name__}: {error}".split())
    if problem and problem != last_problem:
        serving = f"the version is still {before}" if before else "nothing to serve yet"
        log.error("%s; %s", problem, serving)
    version = backend.current
    if version and (version.name != before or (last_problem and not problem)):
        log.info(
            "serving %s: %s products, built %s, %s",
            version.name,
            f"{len(version.catalogue):,}",
            f"{version.built_at:%Y-%m-%d %H:%M:%S} UTC",
            data_age_in_words(version.newest_ordered_at),
        )
    return problem
