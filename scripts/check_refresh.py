"""Build from scratch beside the lake, and compare every table with the build that continued."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from bought_together.cli import program
from bought_together.errors import Refused

if TYPE_CHECKING:
    import duckdb

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
    command = [sys.executable, str(PROJECT / "scripts/build.py")]
    finished = subprocess.run(
        command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, check=False
    )
    if finished.returncode:
        sys.exit(finished.returncode)  # it has said why


def compare(connection: "duckdb.DuckDBPyConnection", continued: str, scratch: str) -> int:
    """Print how many rows of each table differ between two warehouses, and return their sum."""
    names = [attach(connection, path) for path in (continued, scratch)]
    total = 0
    for table, columns in TABLES.items():
        one, other = (f"select {columns} from {name}.{table}" for name in names)
        missing, extra = f"({one} except all {other})", f"({other} except all {one})"
        rows = connection.sql(one).count("*").fetchall()[0][0]
        differ = connection.sql(f"{missing} union all {extra}").count("*").fetchall()[0][0]
        click.echo(f"{table:24} {rows:>12,} rows, {differ:,} differ")
        total += differ
    return total


def attach(connection: "duckdb.DuckDBPyConnection", path: str) -> str:
    """Attach a warehouse under its own name, which its views use, and return it, quoted."""
    from bought_together.pairs.model_sql import quoted
    from bought_together.storage.duckdb_s3 import literal

    connection.execute(f"attach {literal(path)} (read_only)")
    newest = "select database_name from duckdb_databases() order by database_oid desc limit 1"
    [[name]] = connection.execute(newest).fetchall()
    return quoted(name)


@program
def main() -> None:
    """Build twice, once continuing and once from scratch, and compare all tables, row for row.

    The build that continues is published as by `make build`. Exit status: 0 all tables are the
    same; 1 they differ, or the data was refused; 2 it could not run.
    """
    import duckdb

    with TemporaryDirectory() as folder, duckdb.connect() as connection:
        scratch = f"{folder}/built_from_scratch.duckdb"
        build(FULL_REFRESH="")
        build(LAKE_PATH=f"{folder}/lake", DUCKDB_PATH=scratch)
        continued = os.environ.get("DUCKDB_PATH") or "data/warehouse.duckdb"
        if compare(connection, continued, scratch):
            raise Refused("the build that continued is not the one from scratch")


if __name__ == "__main__":
    main()
