"""Measure how loading a new version affects the in-memory service's answers and memory."""

import json
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from benchmarks.service import wrk
from benchmarks.service.processes import CannotRun, Server, fetch, serve
from benchmarks.service.simulated import replace_export, version_of_name, write_version

SECONDS_TO_RELOAD = 60.0
SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Reloads:
    """The result of loading one version after another without a pause, under load."""

    seconds: list[float]  # from each new export to the first answer from it
    ready_bytes: int  # resident
    bytes_after: list[int]  # the same, after each
    peak_bytes: int
    load: wrk.Load


def measure_reloads(lake: Path, seconds: int, products: int) -> Reloads:
    """Replace the export again and again while wrk asks for `seconds`; raises CannotRun."""
    exports = {number: write_version(lake, products, number) for number in (2, 3)}
    taken, bytes_after = [], []
    with serve(lake) as server:
        ready_bytes = server.look()
        process = wrk.start(server.url, wrk.ONE, seconds, products)
        try:
            for number, export in cycle(exports.items()):
                began = time.monotonic()
                replace_export(lake, export)
                wait_for(server, number)
                taken.append(time.monotonic() - began)
                bytes_after.append(server.look())
                if process.poll() is not None:
                    break
            load = wrk.finish(process, seconds)
        finally:
            process.kill()
    return Reloads(taken, ready_bytes, bytes_after, server.peak_bytes, load)


def wait_for(server: Server, version: int) -> None:
    """Wait until the service serves a version; raises CannotRun."""
    deadline = time.monotonic() + SECONDS_TO_RELOAD
    while version_of_name(json.loads(fetch(f"{server.url}/readyz"))["version"]) != version:
        if time.monotonic() > deadline:
            raise CannotRun(f"version {version} was not taken up in {SECONDS_TO_RELOAD:.0f} s")
        server.look()
        time.sleep(SECONDS_BETWEEN_LOOKS)
