"""Measure this project against other libraries, and write benchmarks/results."""

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import psutil

from benchmarks.lineup import COUNTING, END_TO_END, HERE, SUITES, Contender, lineup
from benchmarks.prepare import BASKETS, PRODUCTS, Data, prepare
from benchmarks.results import Row, rows_of, to_json, to_table
from benchmarks.rounds import Entry, Expected, Limits, run_round

DEFAULT_TIMEOUTS = {"1m": 300, "8m": 900, "32m": 3600}
PACKAGES = ("dask", "duckdb", "implicit", "mlxtend", "numpy", "polars", "rusket", "scipy")
TITLES = {
    END_TO_END: "From raw JSON to the top five of every product",
    COUNTING: "Counting the pairs alone",
}
TIME_LABELS = {END_TO_END: "wall time, seconds", COUNTING: "time, seconds"}


def select(
    contenders: Iterable[Contender], size: str, suites: Iterable[str], only: Iterable[str]
) -> list[Contender]:
    """Return the contenders of a size and of suites whose name contains a part in `only`."""
    return [
        contender
        for contender in contenders
        if size in contender.sizes
        and not set(suites).isdisjoint(contender.suites)
        and (not only or any(part.lower() in contender.name.lower() for part in only))
    ]


def describe_run(entry: Entry) -> str:
    seconds = f"{entry.runs[-1].seconds:.1f} s" if entry.runs else ""
    return f"{entry.contender.name}: {entry.failure or seconds}"


def versions() -> dict[str, str]:
    """Return the versions of the measured packages that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_results(
    rows: list[Row], entries: list[Entry], suite: str, about: dict, folder: Path
) -> None:
    """Write a suite's results as JSON, Markdown and SVG, named after the size and the suite."""
    from benchmarks.chart import draw  # imports matplotlib, which only drawing needs

    folder.mkdir(exist_ok=True)
    name = about["size"] if suite == END_TO_END else f"{about['size']}-{suite}"
    caption = (
        f"{about['baskets']:,} baskets, {about['products']:,} products; {about['cores']} cores, "
        f"{about['memory_bytes'] / 2**30:.0f} GiB; medians of {about['repeat']}"
    )
    (folder / f"{name}.json").write_text(to_json(rows, entries, suite, about))
    (folder / f"{name}.md").write_text(f"{caption}\n\n{to_table(rows, suite, 'pipe')}\n")
    draw(rows, TITLES[suite], caption, TIME_LABELS[suite], folder / f"{name}.svg")


@click.command(context_settings={"show_default": True})
@click.argument("size", type=click.Choice(tuple(BASKETS)))
@click.option("--repeat", type=click.IntRange(min=1), default=3, help="Rounds; medians are shown.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds that a contender may take.  [default: 300, 900 or 3600, by size]",
)
@click.option(
    "--memory",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.85,
    help="Share of the machine's memory that a contender may take.",
)
@click.option("--only", multiple=True, help="A part of a contender's name; nothing is written.")
@click.option("--suite", type=click.Choice((*SUITES, "all")), default=END_TO_END)
def main(
    size: str, repeat: int, timeout: float | None, memory: float, only: tuple[str, ...], suite: str
) -> None:
    """Run every contender in turn on a shop of SIZE lines, and compare time, memory and answers.

    Results are written after every round, unless --only leaves contenders out.
    """
    suites = SUITES if suite == "all" else (suite,)
    data = Data(HERE / "data" / size)
    scratch = data.folder / "scratch"
    contenders = select(lineup(data, scratch), size, suites, only)
    if not contenders:
        raise click.UsageError(f"no contender of this size and suite is called {' or '.join(only)}")
    try:
        prepare(data, BASKETS[size], PRODUCTS)
    except (OSError, subprocess.CalledProcessError) as error:
        raise click.ClickException(f"cannot make the data: {error}") from None
    memory_bytes = psutil.virtual_memory().total
    limits = Limits(timeout or DEFAULT_TIMEOUTS[size], memory * memory_bytes)
    about = {
        "size": size,
        "baskets": BASKETS[size],
        "products": PRODUCTS,
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes,
        "timeout_seconds": limits.seconds,
        "memory_limit_bytes": int(limits.bytes),
        "python": platform.python_version(),
        "packages": versions(),
    }
    entries, expected = [Entry(contender) for contender in contenders], Expected()
    for number in range(1, repeat + 1):
        click.echo(f"round {number} of {repeat}", err=True)
        run_round(
            entries,
            scratch,
            limits,
            expected,
            lambda entry: click.echo(f"  {describe_run(entry)}", err=True),
        )
        for each in suites if not only else ():
            write_results(
                rows_of(entries, each), entries, each, about | {"repeat": number}, HERE / "results"
            )
    for each in suites:
        click.echo(f"\n{to_table(rows_of(entries, each), each, 'simple')}")


if __name__ == "__main__":
    main()
