"""The load generator wrk: 16 connections, each of which asks again as soon as it has an answer."""

import json
import shutil
import subprocess
from dataclasses import dataclass

from benchmarks.service.processes import HERE, CannotRun
from benchmarks.service.simulated import product_ids

CONNECTIONS = 16
SEED = 7
ONE = "/v1/products/{id}/recommendations"
BASKET = "/v1/basket?product_id={id}&product_id={id}&product_id={id}&limit=5"


@dataclass(frozen=True)
class Load:
    """The counts of one run of wrk."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    failed_answers: int  # status 400 and above
    socket_errors: int


def require() -> None:
    """Raise CannotRun when wrk is not installed."""
    if not shutil.which("wrk"):
        raise CannotRun("wrk is not installed (on Debian and Ubuntu: apt-get install wrk)")


def load(url: str, path: str, seconds: int, products: int) -> Load:
    """Ask a server for a path for `seconds`, each `{id}` of it a random product.

    Raises CannotRun.
    """
    process = start(url, path, seconds, products)
    try:
        return finish(process, seconds)
    finally:
        process.kill()


def start(url: str, path: str, seconds: int, products: int) -> subprocess.Popen:
    """Start wrk, which ends by itself."""
    ids = product_ids(products)
    arguments = [SEED, ids.start, len(ids), path]
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "-s", str(HERE / "ids.lua")]
    return subprocess.Popen(
        ["wrk", *options, url, "--", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, seconds: int) -> Load:
    """Wait for the wrk that `start` started; raises CannotRun."""
    try:
        output, errors = process.communicate(timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        raise CannotRun("wrk does not end") from None
    if process.returncode:
        raise CannotRun(f"wrk failed: {(errors or output).strip()}")
    counted = json.loads(output.splitlines()[-1])
    return Load(
        requests_per_second=counted["requests"] / counted["microseconds"] * 1e6,
        p50_ms=counted["p50"] / 1000,
        p99_ms=counted["p99"] / 1000,
        max_ms=counted["max"] / 1000,
        failed_answers=counted["status"],
        socket_errors=counted["socket"],
    )
