"""Flatten raw transactions into the lake: validate, write Parquet, set bad records aside."""

import time

import click

from bought_together.cli import (
    full_refresh_option,
    lake_path_option,
    program,
    refuse_nan,
    scheduler_option,
    workers_option,
)
from bought_together.errors import Refused


@program
@click.option(
    "--transactions",
    envvar="TRANSACTIONS",
    default="data/transactions*.txt",
    show_envvar=True,
    help="Files and globs, comma-separated: JSON lines or one JSON array, plain, .gz or .zst.",
)
@click.option(
    "--products",
    envvar="PRODUCTS",
    default="data/products.txt",
    show_envvar=True,
    help="Product list: tab-separated product id, category code and name.",
)
@lake_path_option
@scheduler_option
@workers_option
@click.option(
    "--max-reject-fraction",
    envvar="MAX_REJECT_FRACTION",
    default=0.01,
    type=click.FloatRange(0, 1),
    callback=refuse_nan,
    show_envvar=True,
    help="Refuse the data when more than this share of records is rejected or holds a"
    " rejected line.",
)
@full_refresh_option
@click.option(
    "--input-mapping",
    envvar="INPUT_MAPPING",
    show_envvar=True,
    help="A mapping (input.yml), for files that are not in the project's own form.",
)
@click.option(
    "--block-size",
    type=click.IntRange(min=1),
    help="Bytes of text that one task reads at a time. Unset: 32 MiB.",
)
def main(
    transactions: str,
    products: str,
    lake_path: str,
    scheduler: str | None,
    workers: int,
    max_reject_fraction: float,
    full_refresh: bool,
    input_mapping: str | None,
    block_size: int | None,
) -> None:
    """Flatten raw transactions and products into a new run of the lake.

    The run takes over what the current run holds of files that have not changed. The lake's current
    run stays current until the new one is whole. Exit status: 0 the new run is current; 1 too many
    records were bad; 2 it could not run.
    """
    from bought_together.ingest.report import report
    from bought_together.ingest.run import BLOCK_SIZE, flatten
    from bought_together.storage.filesystem import cannot

    began = time.monotonic()
    try:
        with cannot(f"write the lake {lake_path}"):
            manifest = flatten(
                transactions,
                products,
                lake_path,
                scheduler,
                max_reject_fraction,
                block_size or BLOCK_SIZE,
                workers=workers,
                full_refresh=full_refresh,
                input_mapping=input_mapping or None,
            )
    except Refused as refusal:
        if refusal.manifest:
            click.echo(report(refusal.manifest))
        raise
    click.echo(report(manifest))
    click.echo(f"flatten    {time.monotonic() - began:.1f} s, into {lake_path}")


if __name__ == "__main__":
    main()
