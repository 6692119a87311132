"""Measure nights: of a year of daily files, one is new and the oldest is gone, or none changed."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import click
import psutil
from tabulate import tabulate

from benchmarks.agreement import TopCounts, disagreement, read_top_counts
from benchmarks.lineup import FROM_HERE, HERE, OURS, our_build
from benchmarks.measure import Measurement, measure
from benchmarks.prepare import BASKETS, PRODUCTS, PROJECT_PYTHON, ROOT, Data, prepare
from benchmarks.rounds import empty

DAYS = 365
BASELINE = "implicit, loaded with DuckDB, all files"
TIMEOUT_SECONDS = 3600
HEADERS = ["contender", "wall s", "CPU s", "peak memory MiB", "ratio of wall time"]


@dataclass
class Job:
    """One thing to do in a night; `lake` is where it publishes, None where it writes a table."""

    name: str
    command: list[str]
    environment: dict[str, str]
    folder: Path
    lake: Path | None = None
    starts_anew: bool = False
    runs: list[Measurement] = field(default_factory=list)

    def answer(self) -> TopCounts:
        if self.lake is None:
            return read_top_counts(self.folder / "recommendations.parquet")
        build = json.loads((self.lake / "published.json").read_text())["build"]
        return read_top_counts(self.lake / "published" / build / "product_recommendations.parquet")


def jobs(data: Data, window: Path, folder: Path) -> list[Job]:
    """Return what each night does, in turn; `window` holds its input files."""
    transactions = f"{window}/*.txt"

    def build(engine: str, what: str, lake: str, starts_anew: bool = False) -> Job:
        scratch = folder / lake
        settings = our_build(engine, data, scratch) | {"TRANSACTIONS": transactions}
        command = [str(PROJECT_PYTHON), str(ROOT / "scripts" / "build.py")]
        name = f"{OURS}, {engine_name(engine)} engine, {what}"
        return Job(name, command, settings, scratch, scratch / "lake", starts_anew)

    peer = [sys.executable, "-m", "benchmarks.contenders.implicit_duckdb"]
    peer += [transactions, str(data.products), "recommendations.parquet"]
    return [
        Job(BASELINE, peer, FROM_HERE, folder / "implicit", starts_anew=True),
        build("dask", "refresh", "dask"),
        build("dask", "nothing changed", "dask"),
        build("dask", "full build", "dask-full", starts_anew=True),
        build("duckdb", "refresh", "duckdb"),
        build("duckdb", "nothing changed", "duckdb"),
        build("duckdb", "full build", "duckdb-full", starts_anew=True),
    ]


def engine_name(engine: str) -> str:
    return "Dask" if engine == "dask" else "SQL"


def split(transactions: Path, folder: Path, files: int) -> list[Path]:
    """Write the records to so many files of about the same size, once, and return their paths."""
    paths = [folder / f"day-{number:04}.txt" for number in range(files)]
    if not all(path.exists() for path in paths):
        empty(folder)
        each = transactions.stat().st_size // files + 1
        with transactions.open("rb") as source:
            for path in paths:
                path.write_bytes(source.read(each) + source.readline())
    return paths


def nights(paths: list[Path], window: Path) -> Iterator[None]:
    """Yield each night with a year of files in the window."""
    for first in range(len(paths) - DAYS + 1):
        window.mkdir(parents=True, exist_ok=True)
        wanted = {path.name: path for path in paths[first : first + DAYS]}
        for there in list(window.iterdir()):
            if there.name not in wanted:
                there.unlink()
        for name, path in wanted.items():
            if not (window / name).exists():
                os.link(path, window / name)
        yield


def run_night(todo: list[Job], memory_limit: float) -> None:
    """Run each job once and keep its measurement; raises ClickException when one fails."""
    expected: TopCounts | None = None
    for job in todo:
        if job.starts_anew:
            empty(job.folder)
        job.folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"TMPDIR": str(job.folder)} | job.environment
        run = measure(job.command, environment, job.folder, TIMEOUT_SECONDS, memory_limit)
        if run.failure:
            raise click.ClickException(f"{job.name} {run.failure}")
        job.runs.append(run)
        found = job.answer()
        expected = expected or found
        if problem := disagreement(expected, found):
            raise click.ClickException(f"{job.name} {problem}")
        click.echo(f"  {job.name}: {run.seconds:.1f} s", err=True)


def table_of(todo: list[Job], style: str) -> str:
    """Return the medians as a table."""
    baseline = median_of(todo[0], "seconds")
    rows = []
    for job in todo:
        seconds, mebibytes = median_of(job, "seconds"), median_of(job, "peak_bytes") / 2**20
        cells = f"{seconds:.1f}", f"{median_of(job, 'cpu_seconds'):.1f}", f"{mebibytes:,.0f}"
        rows.append([job.name, *cells, f"{seconds / baseline:.2f}"])
    colalign = ("left", "right", "right", "right", "right")
    return tabulate(rows, HEADERS, style, disable_numparse=True, colalign=colalign)


def median_of(job: Job, figure: str) -> float:
    return median(getattr(run, figure) for run in job.runs)


@click.command(context_settings={"show_default": True})
@click.argument("size", type=click.Choice(tuple(BASKETS)))
@click.option("--repeat", type=click.IntRange(min=1), default=3, help="Nights to measure.")
def main(size: str, repeat: int) -> None:
    """Run refreshes and full builds in turn on a shop of SIZE lines, and compare their answers.

    The night before the first has built all files, and is not measured.
    """
    data = Data(HERE / "data" / size)
    prepare(data, BASKETS[size], PRODUCTS)
    folder = data.folder / "refresh"
    window = folder / "window"
    paths = split(data.transactions, folder / "days", DAYS + repeat)
    todo = jobs(data, window, folder)
    memory_bytes = psutil.virtual_memory().total
    for scratch in {job.folder for job in todo} | {window}:
        shutil.rmtree(scratch, ignore_errors=True)
    for number, _ in enumerate(nights(paths, window)):
        click.echo(f"night {number} of {repeat}", err=True)
        tonight = [job for job in todo if number or job.name.endswith("refresh")]
        run_night(tonight, 0.85 * memory_bytes)
        if number == 0:
            for job in todo:
                job.runs.clear()
            continue
        about = {
            "size": size,
            "files": DAYS,
            "repeat": number,
            "cores": os.cpu_count(),
            "memory_bytes": memory_bytes,
        }
        rows = [{"name": job.name, "runs": [asdict(run) for run in job.runs]} for job in todo]
        results = HERE / "results" / f"{size}-refresh"
        results.with_suffix(".json").write_text(
            json.dumps({**about, "contenders": rows}, indent=2) + "\n"
        )
        caption = (
            f"{BASKETS[size]:,} baskets in {DAYS} files, one new and the oldest gone; "
            f"{os.cpu_count()} cores; medians of {number}"
        )
        results.with_suffix(".md").write_text(f"{caption}\n\n{table_of(todo, 'pipe')}\n")
    click.echo(f"\n{table_of(todo, 'simple')}")


if __name__ == "__main__":
    main()
