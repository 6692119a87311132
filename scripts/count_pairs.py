"""Count which products are bought together with Dask, on all cores of this machine or a cluster."""

import time
from pathlib import Path

import click

from bought_together.cli import (
    full_refresh_option,
    lake_path_option,
    program,
    scheduler_option,
    workers_option,
)

PROJECT = Path(__file__).resolve().parent.parent


@program
@lake_path_option
@scheduler_option
@workers_option
@click.option(
    "--largest-chunk",
    type=click.IntRange(min=1),
    help="Items (products in baskets) to count at once. Unset: as many as the memory allows.",
)
@full_refresh_option
def main(
    lake_path: str,
    scheduler: str | None,
    workers: int,
    largest_chunk: int | None,
    full_refresh: bool,
) -> None:
    """Count the pairs of products in the lake's current run, for PAIR_ENGINE=dask.

    Exit status: 0 counted; 2 it could not run.
    """
    from bought_together.ingest.report import count, orders_line
    from bought_together.pairs.run import count_pairs
    from bought_together.storage.filesystem import cannot

    began = time.monotonic()
    with cannot(f"read or write the lake {lake_path}"):
        totals = count_pairs(lake_path, scheduler, largest_chunk, workers, PROJECT, full_refresh)
    click.echo(f"counts     {totals['summary']}")
    if "orders" in totals:
        click.echo(orders_line(totals["orders"], totals["cancelled"], totals["superseded"]))
    click.echo(
        f"pairs      {totals['pairs']:,} of {totals['products']:,} products,"
        f" {totals['pair_occurrences']:,} occurrences"
    )
    click.echo(
        f"counted    {time.monotonic() - began:.1f} s, {count(totals['threads'], 'thread')},"
        f" {count(totals['chunks'], 'chunk')} of baskets"
    )


if __name__ == "__main__":
    main()
