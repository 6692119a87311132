"""Run the whole job: flatten the inputs, `dbt build`, publish, and show one recommendation."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from bought_together.cli import (
    CANNOT_RUN,
    DEFAULT_LAKE,
    INTERRUPTED,
    TERMINATED,
    Terminated,
    full_refresh_option,
    program,
    stop,
)

PROJECT = Path(__file__).resolve().parent.parent


# Programs run one after the other in one process, which imports what they share once.
IN_TURN = """
import runpy, sys
for program in sys.argv[1:]:
    sys.argv = [program]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""


@contextmanager
def running(*programs: str) -> Iterator[None]:
    """Run other programs in the meantime; ends this one with their exit status if one fails.

    The other programs end with this one.
    """
    paths = [PROJECT / "scripts" / f"{program}.py" for program in programs]
    process = subprocess.Popen([sys.executable, "-P", "-c", IN_TURN, *paths])
    try:
        try:
            yield
        except Exception:
            check_status(programs, process.wait())  # the first error is the one to mend
            raise
        check_status(programs, process.wait())
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Terminated):
            process.terminate()  # after Ctrl-C, the terminal has interrupted it
        if (status := process.wait()) in (INTERRUPTED, TERMINATED):
            sys.exit(status)  # it has said so
        raise


def check_status(programs: tuple[str, ...], status: int) -> None:
    """End this program if others, whose process has ended with this status, failed."""
    if status < 0:
        killed, name = " or ".join(programs), signal.Signals(-status).name
        stop(f"{killed} was killed by {name}; the kernel kills when memory is short", CANNOT_RUN)
    if status:
        sys.exit(status)


def show_result(lake_path: str, duckdb_path: str) -> None:
    """Print where the result is, and the recommendations of one product that sells well."""
    from bought_together.export.lookup import (
        answer_text,
        best_seller,
        names_of,
        recommendations_of,
    )
    from bought_together.export.read import read_export

    click.echo(f"warehouse  {duckdb_path}: product_recommendations, products, product_pairs")
    if (product_id := best_seller(lake_path)) is not None:
        export = read_export(lake_path, (product_id,))
        rows = recommendations_of(export)[product_id]
        name = names_of(export).get(product_id)
        click.echo()
        click.echo(answer_text(product_id, name, rows, as_json=False))


@program
@click.option(
    "--skip-flatten",
    is_flag=True,
    help="Build from the lake as it is; where PAIR_ENGINE is dask its pairs must be counted.",
)
@full_refresh_option
def main(skip_flatten: bool, full_refresh: bool) -> None:
    """Flatten, run `dbt build`, publish; settings come from the environment (see README.md).

    Exit status: 0 published; 1 the data was refused; 2 it could not run.
    """
    from bought_together import dbt_build
    from bought_together.storage.warehouse import check_path, duckdb_limits

    began = time.monotonic()
    if full_refresh:
        os.environ["FULL_REFRESH"] = "1"  # for the programs that it starts
    lake_path = os.environ.get("LAKE_PATH") or DEFAULT_LAKE
    duckdb_path = os.environ.get("DUCKDB_PATH") or "data/warehouse.duckdb"
    check_path(duckdb_path)
    duckdb_limits(os.environ)  # before the work begins, not after flatten
    dbt_build.check_seeds(PROJECT)
    if skip_flatten:
        manifest = dbt_build.parse_project(PROJECT)
    else:
        counts = ("count_pairs",) if os.environ.get("PAIR_ENGINE") == "dask" else ()
        with running("flatten", *counts):
            manifest = dbt_build.parse_project(PROJECT)
    dbt_build.remove_empty_warehouse(duckdb_path)
    dbt_build.run_dbt_build(PROJECT, manifest, full_refresh)
    click.echo(f"whole job  {time.monotonic() - began:.1f} s")
    show_result(lake_path, duckdb_path)


if __name__ == "__main__":
    main()
