"""The views behind source('lake', …): through them DuckDB reads one run of the lake.

    lake.mounted_run              the run's id, and the start of the newest build before this one;
                                  without a run, reading it raises a one-line error
    lake.line_items, products, rejects
    lake.mounted_count            the folder of the run's counted pairs; an error without them
    lake.product_keys, basket_sizes, product_pairs

Paths are absolute, so that the warehouse can be queried from any working directory.
"""

import glob

import duckdb

from bought_together.storage.builds import newest_build
from bought_together.storage.duckdb_s3 import literal
from bought_together.storage.filesystem import full_path, is_object_store
from bought_together.storage.lake import COUNT_POINTER, read_current, run_path
from bought_together.storage.pointers import read_json

RUN_TABLES = ("line_items", "products", "rejects")
COUNT_TABLES = ("product_keys", "basket_sizes", "product_pairs")


def mount_lake(connection: duckdb.DuckDBPyConnection, lake_path: str) -> None:
    """Point the views to the lake's current run and the newest count of its pairs."""
    connection.execute(f"create schema if not exists {schema(connection)}")
    current = read_current(lake_path)
    if current is None:
        missing = f"no lake at {lake_path}: run `python scripts/flatten.py` or `make build` first"
        create_view(connection, "mounted_run", f"select error({literal(missing)})::varchar as run")
        return
    newest = newest_build(lake_path)
    newest_built_at = literal(newest["built_at"]) if newest else "null"
    run = run_path(full_path(lake_path), current["run"])
    create_view(
        connection,
        "mounted_run",
        f"select {literal(current['run'])} as run, {newest_built_at} as newest_built_at",
    )
    mount_tables(connection, run, RUN_TABLES)
    counted = read_json(f"{run}/{COUNT_POINTER}")
    if counted is None:
        missing = (
            f"no pairs counted in {run}: run `python scripts/count_pairs.py` or `make build` first"
        )
        select = f"select error({literal(missing)})::varchar as folder"
    else:
        select = f"select {literal(counted['folder'])} as folder"
        mount_tables(connection, f"{run}/{counted['folder']}", COUNT_TABLES)
    create_view(connection, "mounted_count", select)


def is_mounted(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether the views point to a run of the lake that still exists."""
    try:
        for table in RUN_TABLES:
            connection.execute(f"select 1 from {schema(connection)}.{table} limit 0")
    except duckdb.Error:
        return False
    return True


def mount_tables(
    connection: duckdb.DuckDBPyConnection, folder: str, tables: tuple[str, ...]
) -> None:
    for table in tables:
        parts = literal(parquet_glob(f"{folder}/{table}") + "/*.parquet")
        create_view(connection, table, f"select * from read_parquet({parts})")


def create_view(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
    connection.execute(f"create or replace view {schema(connection)}.{name} as {select}")


def schema(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the views' schema, qualified: the database itself may be called lake."""
    database = connection.execute("select current_database()").fetchall()[0][0]
    quoted = database.replace('"', '""')
    return f'"{quoted}".lake'


def parquet_glob(path: str) -> str:
    """Return a glob that matches only this path in DuckDB."""
    if is_object_store(path):
        return glob.escape(path)
    # A glob treats a backslash as a separator; only ? matches one.
    return glob.escape(full_path(path)).replace("\\", "?")
