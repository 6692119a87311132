"""Follow a source: take up each new version within seconds, and say once what is wrong."""

import asyncio
import logging
import threading

from bought_together.errors import CannotRun
from bought_together.service.backends import Source, Unavailable

POLL_SECONDS = 1.0

log = logging.getLogger("bought_together")


class FirstLook(threading.Thread):
    """Takes up the first version while the rest of the program is still being imported."""

    def __init__(self, source: Source) -> None:
        super().__init__(daemon=True)
        self.source = source
        self.problem: str | None = None
        self.start()

    def run(self) -> None:
        self.problem = asyncio.run(refresh(self.source, None))


async def follow(source: Source, first_look: FirstLook | None = None) -> None:
    """Refresh the source again and again, until cancelled; not before the first look ended."""
    problem: str | None = None
    if first_look:
        await asyncio.to_thread(first_look.join)
        problem = first_look.problem
    while True:
        problem = await refresh(source, problem)
        await asyncio.sleep(POLL_SECONDS)


async def refresh(source: Source, last_problem: str | None) -> str | None:
    """Refresh once; returns what is wrong, and logs it where that is news."""
    before = source.current.name if source.current else None
    try:
        await source.refresh()
        problem = None
    except (CannotRun, Unavailable) as error:
        problem = " ".join(str(error).split())
    except Exception as error:  # whatever it is, the version that there is goes on
        problem = " ".join(f"{type(error).__name__}: {error}".split())
    if problem and problem != last_problem:
        serving = f"still serving {before}" if before else "nothing to serve yet"
        log.error("%s; %s", problem, serving)
    version = source.current
    if version and (version.name != before or (last_problem and not problem)):
        log.info(
            "serving %s: %s products, built %s",
            version.name,
            f"{len(version.catalogue):,}",
            f"{version.built_at:%Y-%m-%d %H:%M:%S} UTC",
        )
    return problem
