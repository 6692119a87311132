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
    program,
    stop,
)

PROJECT = Path(__file__).resolve().parent.parent


@contextmanager
def running(script: str) -> Iterator[None]:
    """Run another program in the meantime; ends this one with its exit status if it fails.

    The other program ends with this one.
    """
    process = subprocess.Popen([sys.executable, PROJECT / "scripts" / f"{script}.py"])
    try:
        try:
            yield
        except Exception:
            check_status(script, process.wait())  # the first error is the one to mend
            raise
        check_status(script, process.wait())
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Terminated):
            process.terminate()  # after Ctrl-C, the terminal has interrupted it
        if (status := process.wait()) in (INTERRUPTED, TERMINATED):
            sys.exit(status)  # it has said so
        raise


def check_status(script: str, status: int) -> None:
    """End this program if another one, which has ended with this status, failed."""
    if status < 0:
        name = signal.Signals(-status).name
        stop(f"{script} was killed by {name}; the kernel kills when memory is short", CANNOT_RUN)
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
def main(skip_flatten: bool) -> None:
    """Flatten, run `dbt build`, publish; settings come from the environment (see README.md).

    Exit status: 0 published; 1 the data was refused; 2 it could not run.
    """
    from bought_together import dbt_build
    from bought_together.storage.warehouse import check_path, duckdb_limits

    began = time.monotonic()
    lake_path = os.environ.get("LAKE_PATH") or DEFAULT_LAKE
    duckdb_path = os.environ.get("DUCKDB_PATH") or "data/warehouse.duckdb"
    check_path(duckdb_path)
    duckdb_limits(os.environ)  # before the work begins, not after flatten
    dbt_build.check_seeds(PROJECT)
    if skip_flatten:
        manifest = dbt_build.parse_project(PROJECT)
    else:
        with running("flatten"):
            manifest = dbt_build.parse_project(PROJECT)
        if os.environ.get("PAIR_ENGINE") == "dask":
            with running("count_pairs"):
                pass
    dbt_build.remove_empty_warehouse(duckdb_path)
    dbt_build.run_dbt_build(PROJECT, manifest)
    click.echo(f"whole job  {time.monotonic() - began:.1f} s")
    show_result(lake_path, duckdb_path)


if __name__ == "__main__":
    main()
