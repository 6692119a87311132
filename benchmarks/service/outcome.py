"""Summarise the measurements: medians, ratios, the bars to clear, and the result files."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from tabulate import tabulate

from benchmarks.service.processes import HERE
from benchmarks.service.reloads import Reloads
from benchmarks.service.wrk import Load

RESULTS = HERE.parent / "results"
PACKAGES = ("fastapi", "hiredis", "httptools", "orjson", "pyarrow", "redis", "uvicorn", "uvloop")
SERVICES = ("in memory", "Redis")
BASKETS = "{}, baskets"  # the same service, asked for baskets
LOWEST_RATIO = 0.8
HIGHEST_P99_MS = 15.0
HIGHEST_BASKET_RATIO = 1.5  # of the p99 of baskets to that of single products
LONGEST_START_SECONDS = 3.0
MOST_MEBIBYTES = 350.0
HEADERS = (
    "contender",
    "requests/s",
    "of its bare minimum",
    "p50 ms",
    "p99 ms",
    "errors",
    "start s",
    "ready MiB",
    "peak MiB",
)


@dataclass(frozen=True)
class Run:
    """One run of a contender: seconds until it was ready, resident bytes then and at the peak."""

    start_seconds: float
    ready_bytes: int
    peak_bytes: int
    load: Load


@dataclass(frozen=True)
class Row:
    """The medians of one contender; `errors` is the sum over its runs."""

    name: str
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    start_seconds: float
    ready_bytes: int
    peak_bytes: int
    ratio: float | None  # of its requests_per_second to those of its bare minimum
    runs: list[Run]


def rows_of(measured: Mapping[str, tuple[str | None, list[Run]]]) -> list[Row]:
    """Return the medians of contenders: name -> (name of its bare minimum, runs)."""
    speeds = {
        name: median(run.load.requests_per_second for run in runs)
        for name, (_, runs) in measured.items()
    }
    return [
        Row(
            name=name,
            requests_per_second=speeds[name],
            p50_ms=median(run.load.p50_ms for run in runs),
            p99_ms=median(run.load.p99_ms for run in runs),
            errors=sum(run.load.failed_answers + run.load.socket_errors for run in runs),
            start_seconds=median(run.start_seconds for run in runs),
            ready_bytes=int(median(run.ready_bytes for run in runs)),
            peak_bytes=int(median(run.peak_bytes for run in runs)),
            ratio=speeds[name] / speeds[bare_minimum] if bare_minimum else None,
            runs=runs,
        )
        for name, (bare_minimum, runs) in measured.items()
    ]


def show(run: Run) -> str:
    return f"{run.load.requests_per_second:,.0f} requests/s, p99 {run.load.p99_ms:.1f} ms"


def bars_of(rows: Iterable[Row]) -> list[tuple[str, str, str, bool]]:
    """Return the bars that the service must clear: (what, bar, measured, cleared)."""
    bars = []
    by_name = {row.name: row for row in rows}
    for row in (row for name, row in by_name.items() if name in SERVICES):
        bars += [
            bar(f"{row.name}: of its bare minimum", row.ratio, LOWEST_RATIO, at_least=True),
            bar(f"{row.name}: seconds to start", row.start_seconds, LONGEST_START_SECONDS, ".1f"),
            bar(f"{row.name}: ready MiB", row.ready_bytes / 2**20, MOST_MEBIBYTES, ".0f"),
            bar(f"{row.name}: peak MiB", row.peak_bytes / 2**20, MOST_MEBIBYTES, ".0f"),
        ]
        if row.name == "in memory":
            bars.append(bar(f"{row.name}: p99 ms", row.p99_ms, HIGHEST_P99_MS, ".1f"))
        bars.append(bar(f"{row.name}: errors", row.errors, 1, "d"))
        if baskets := by_name.get(BASKETS.format(row.name)):
            ratio = baskets.p99_ms / row.p99_ms
            bars.append(bar(f"{baskets.name}: p99 of one product's", ratio, HIGHEST_BASKET_RATIO))
            bars.append(bar(f"{baskets.name}: errors", baskets.errors, 1, "d"))
    return bars


def bar(
    what: str, measured: float, limit: float, form: str = ".2f", at_least: bool = False
) -> tuple[str, str, str, bool]:
    cleared = measured >= limit if at_least else measured < limit
    return what, f"{'at least' if at_least else 'under'} {limit:g}", f"{measured:{form}}", cleared


def write_load(rows: list[Row], reloads: Reloads, about: dict[str, Any]) -> str:
    """Write service.json and service.md; returns the tables as they are printed."""
    about = about | machine()
    content = about | {"contenders": [asdict(row) for row in rows], "reloads": asdict(reloads)}
    caption = (
        f"{about['products']:,} products; {about['cores']} cores, {about['memory_gib']} GiB, which "
        f"wrk shares; 16 connections; medians of {about['rounds']} rounds of {about['seconds']} s"
    )
    write("service", content, f"{caption}\n\n{describe(rows, reloads, 'pipe')}")
    return f"{caption}\n\n{describe(rows, reloads, 'simple')}"


def describe(rows: list[Row], reloads: Reloads, style: str) -> str:
    """Return the measurements, the bars and the reloads, with tables in a style of tabulate."""
    figures = tabulate(map(cells_of, rows), HEADERS, style, disable_numparse=True)
    bars = [(*bar, "yes" if cleared else "no") for *bar, cleared in bars_of(rows)]
    held = tabulate(bars, ("bar", "limit", "measured", "cleared"), style, disable_numparse=True)
    return f"{figures}\n\n{held}\n\n{describe_reloads(reloads)}"


def cells_of(row: Row) -> list[str]:
    return [
        row.name,
        f"{row.requests_per_second:,.0f}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        f"{row.p50_ms:.1f}",
        f"{row.p99_ms:.1f}",
        f"{row.errors:,}",
        f"{row.start_seconds:.1f}",
        f"{row.ready_bytes / 2**20:.0f}",
        f"{row.peak_bytes / 2**20:.0f}",
    ]


def describe_reloads(reloads: Reloads) -> str:
    load = reloads.load
    after = ", ".join(f"{size / 2**20:.0f}" for size in reloads.bytes_after)
    return (
        f"In memory, while it took up {len(reloads.seconds)} versions one after another, "
        f"{median(reloads.seconds):.1f} s each:\n"
        f"{load.requests_per_second:,.0f} requests/s, p50 {load.p50_ms:.1f} ms, "
        f"p99 {load.p99_ms:.1f} ms, longest {load.max_ms:.0f} ms, "
        f"{load.failed_answers + load.socket_errors} errors;\n"
        f"{reloads.ready_bytes / 2**20:.0f} MiB before, {after} MiB after each, "
        f"{reloads.peak_bytes / 2**20:.0f} MiB at most."
    )


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
    }


def write(name: str, content: dict[str, Any], text: str, folder: Path = RESULTS) -> None:
    """Write a result as JSON and as Markdown."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / f"{name}.md").write_text(f"{text}\n")
