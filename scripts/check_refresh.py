"""Build from scratch beside the lake, and compare every table with the build that continued."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bought_together.cli import CANNOT_RUN, program, stop
from bought_together.errors import Refused
from bought_together.storage.duckdb_s3 import literal

PROJECT = Path(__file__).resolve().parent.parent
TABLES = {
    "product_recommendations": "*",
    "products": "*",
    "product_pairs": "*",
    # File numbers, and with them order ids, are each lake's own.
    "oversized_baskets": "source_file, byte_offset, product_count",
}


def build(**settings: str) -> None:
    """Run the whole job; ends this program with its exit status if it fails."""
    finished = subprocess.run(
        [sys.executable, PROJECT / "scripts/build.py"],
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if finished.returncode:
        stop("one of the two builds failed", max(finished.returncode, CANNOT_RUN))


def compare(continued: str, scratch: str) -> int:
    """Print how many rows of each table differ between two warehouses, and return their sum."""
    import duckdb

    total = 0
    with duckdb.connect() as connection:
        for name, path in (("continued", continued), ("scratch", scratch)):
            connection.execute(f"attach {literal(path)} as {name} (read_only)")
        for table, columns in TABLES.items():
            one, other = (
                f"select {columns} from {name}.{table}" for name in ("continued", "scratch")
            )
            missing, extra = f"({one} except all {other})", f"({other} except all {one})"
            rows = connection.sql(one).count("*").fetchall()[0][0]
            differ = connection.sql(f"{missing} union all {extra}").count("*").fetchall()[0][0]
            click.echo(f"{table:24} {rows:>12,} rows, {differ:,} differ")
            total += differ
    return total


@program
def main() -> None:
    """Build twice, once continuing and once from scratch, and compare all tables, row for row.

    The build that continues is published as by `make build`. Exit status: 0 all tables are the
    same; 1 they differ; 2 it could not run.
    """
    with TemporaryDirectory() as folder:
        scratch = f"{folder}/scratch.duckdb"
        build(FULL_REFRESH="")
        build(LAKE_PATH=f"{folder}/lake", DUCKDB_PATH=scratch)
        if compare(os.environ.get("DUCKDB_PATH") or "data/warehouse.duckdb", scratch):
            raise Refused("the build that continued is not the one from scratch")


if __name__ == "__main__":
    main()
