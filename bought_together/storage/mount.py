"""The views behind source('lake', …): through them DuckDB reads one run of the lake.

    lake.mounted_run              the run's id, and the start of the newest build before this one;
                                  without a run, reading it raises a one-line error
    lake.line_items, products, rejects
    lake.input_files              number and path of the files that the run was read from, and of
                                  files that are gone
    lake.line_item_changes        the line items, and those of files that are gone: change is 1 for
                                  what the state lacks, -1 for what is gone, 0 for the rest
    lake.state_*                  the state that the build continues from; empty without one
    lake.mounted_count            folder and rules of the run's counted pairs; an error without them
    lake.published_build          size and newest date of the published build; no row before one is
    lake.published_recommendations

Paths are absolute, so that the warehouse can be queried from any working directory.
"""

import glob
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import duckdb

from bought_together.errors import CannotRun
from bought_together.storage.builds import build_path, newest_build, read_pointer
from bought_together.storage.duckdb_s3 import literal
from bought_together.storage.filesystem import file_sizes, full_path, is_object_store
from bought_together.storage.lake import (
    COUNT_POINTER,
    RUN_TABLES,
    read_current,
    run_path,
    table_parts,
)
from bought_together.storage.pointers import read_json

# In the folder of a count of the Dask engine: what the lines of mapped orders come down to.
ORDER_LINES_COUNTED = "order_lines"
PUBLISHED_VIEWS = ("published_build", "published_recommendations", "published_products")
# What a count leaves, with the types in DuckDB. A published build keeps all but the shortlist.
STATE_TABLES = {
    "products": {"product_id": "varchar", "product_number": "integer", "basket_count": "bigint"},
    "basket_sizes": {
        "file_number": "bigint",
        "product_count": "integer",
        "basket_count": "bigint",
    },
    "oversized_baskets": {"order_id": "bigint", "product_count": "bigint"},
    "product_pairs": {
        "left_product_number": "integer",
        "right_product_number": "integer",
        "copurchase_count": "integer",
    },
    "shortlist": {
        "product_number": "integer",
        "recommended_product_key": "integer",
        "copurchase_count": "integer",
    },
}
# The keys that the views take from a manifest, and their types in DuckDB.
INPUT_FILE = {"number": "integer", "path": "varchar"}
COUNT = {
    "summary": "varchar",
    "counted_by": "varchar",
    "folder": "varchar",
    "rules": "varchar",
    "shortlisted": "integer",
}
BUILD = {"build": "varchar", "baskets": "bigint", "newest_ordered_at": "timestamp"}
RECOMMENDATION = {
    "product_id": "varchar",
    "recommendation_rank": "integer",
    "recommended_product_id": "varchar",
    "copurchase_count": "bigint",
}
PRODUCT = {"product_id": "varchar", "basket_count": "bigint", "is_in_catalogue": "boolean"}
# What is compared with a published build: its marts, as which view, with these columns.
COMPARED_MARTS = {
    "product_recommendations": ("published_recommendations", RECOMMENDATION),
    "products": ("published_products", PRODUCT),
}


def mount_lake(connection: duckdb.DuckDBPyConnection, lake_path: str) -> dict[str, Any] | None:
    """Point the views to the lake's current run, and return its manifest; None without a run."""
    connection.execute(f"create schema if not exists {schema(connection)}")
    current = read_current(lake_path)
    if current is None:
        missing = f"no lake at {lake_path}: run `python scripts/flatten.py` or `make build` first"
        create_view(connection, "mounted_run", f"select error({literal(missing)})::varchar as run")
        return None
    newest = newest_build(lake_path)
    newest_built_at = literal(newest["built_at"]) if newest else "null"
    lake = full_path(lake_path)
    create_view(
        connection,
        "mounted_run",
        f"select {literal(current['run'])} as run, {newest_built_at} as newest_built_at",
    )
    for table in RUN_TABLES:
        mount_parquet(connection, table, map(parquet_glob, table_parts(lake, current, table)))
    mount_files(connection, current["files"])
    mount_published(connection, lake_path)
    return current


def mount_count(
    connection: duckdb.DuckDBPyConnection, lake_path: str, run: Mapping[str, Any]
) -> None:
    """Point the views to the newest count of a run's pairs, which has counted all.

    `run` is the run's manifest. The line items are unchanged since.
    """
    folder = run_path(full_path(lake_path), run["run"])
    counted = read_json(f"{folder}/{COUNT_POINTER}")
    if counted is None:
        missing = (
            f"no pairs counted in {folder}:"
            " run `python scripts/count_pairs.py` or `make build` first"
        )
        columns = ", ".join(f"null::{kind} as {name}" for name, kind in COUNT.items())
        select = f"select {columns} where error({literal(missing)}) is null"
        create_view(connection, "mounted_count", select)
        mount_state(connection, "", ())
    else:
        mount_rows(connection, "mounted_count", COUNT, [counted])
        mount_state(connection, f"{folder}/{counted['folder']}", STATE_TABLES)
    if counted and run.get("orders"):
        parts = file_sizes(f"{folder}/{counted['folder']}/{ORDER_LINES_COUNTED}")
        lines = [f"{folder}/{counted['folder']}/{ORDER_LINES_COUNTED}/{name}" for name in parts]
        mount_changes(connection, lines, [])
    else:
        mount_changes(connection, table_parts(lake_path, run, "line_items"), [], run.get("orders"))


def mount_plan(connection: duckdb.DuckDBPyConnection, summary: str, counted_by: str) -> None:
    """Let dbt know what the build itself counts, and by which rules."""
    plan = {"summary": summary, "counted_by": counted_by}
    mount_rows(connection, "mounted_count", COUNT, [plan])


def mount_state(
    connection: duckdb.DuckDBPyConnection, folder: str, tables: Collection[str]
) -> None:
    """Point the views of the state to these tables in a folder; the others are empty."""
    for table, types in STATE_TABLES.items():
        if table in tables:
            parts = parquet_glob(f"{folder}/{table}") + "/*.parquet"
            mount_parquet(connection, f"state_{table}", [parts])
        else:
            mount_rows(connection, f"state_{table}", types, [])


def mount_files(connection: duckdb.DuckDBPyConnection, files: list[dict[str, Any]]) -> None:
    """Make a view of input files, given as in a manifest."""
    mount_rows(connection, "input_files", INPUT_FILE, files)


def mount_changes(
    connection: duckdb.DuckDBPyConnection,
    unchanged: Iterable[str],
    changed: Iterable[tuple[str, int, list[int] | None]],
    orders: str | None = None,
) -> None:
    """Point a view to line items, with what has changed since a state; see `select_changes`."""
    create_view(connection, "line_item_changes", select_changes(unchanged, changed, orders))


def select_changes(
    unchanged: Iterable[str],
    changed: Iterable[tuple[str, int, list[int] | None]],
    orders: str | None = None,
) -> str:
    """Return SQL that selects line items, with what has changed since a state.

    `changed` holds parts with files that were added (1) or removed (-1), and the numbers of these
    files; None when the part holds no others. `orders` is what the run's manifest says of mapped
    order ids.
    """
    parts: dict[tuple[str, str], list[str]] = {("0", "true"): list(unchanged)}
    for path, change, numbers in changed:
        ours = f"order_id >> 40 in ({', '.join(map(str, numbers))})" if numbers else "true"
        # The other files of a part are in the run as well, or they are listed elsewhere.
        select = (f"({ours})::integer", "true") if change > 0 else (str(change), ours)
        parts.setdefault(select, []).append(path)
    selects = [
        f"select order_id, product_id, quantity, {order_columns(orders)}, {change} as change"
        f" from read_parquet([{', '.join(literal(parquet_glob(path)) for path in paths)}])"
        f" where {condition}"
        for (change, condition), paths in parts.items()
        if paths
    ]
    return " union all ".join(selects)


def order_columns(orders: str | None) -> str:
    """Return the columns of line items that say which order they are of, in SQL.

    Where no order id is mapped they are null, so that DuckDB plans no work for orders.
    """
    if orders is None:
        columns = {"order_key": "varchar", "is_cancelled": "boolean", "is_whole_order": "boolean"}
        return ", ".join(f"null::{kind} as {name}" for name, kind in columns.items())
    return f"order_key, is_cancelled, {orders == 'records'} as is_whole_order"


def is_mounted(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether the views point to a run of the lake that still exists."""
    try:
        state = [f"state_{table}" for table in STATE_TABLES]
        for table in (*RUN_TABLES, "input_files", "line_item_changes", *state, *PUBLISHED_VIEWS):
            connection.execute(f"select 1 from {schema(connection)}.{table} limit 0")
    except duckdb.Error:
        return False
    return True


def mount_parquet(connection: duckdb.DuckDBPyConnection, table: str, globs: Iterable[str]) -> None:
    files = ", ".join(map(literal, globs))
    create_view(connection, table, f"select * from read_parquet([{files}])")


def mount_published(connection: duckdb.DuckDBPyConnection, lake_path: str) -> None:
    """Point the views to the published build; without one, or a readable one, they are empty."""
    try:
        published = read_pointer(lake_path)
    except CannotRun:  # damaged: the next build replaces it
        published = None
    mount_rows(connection, "published_build", BUILD, [published] if published else [])
    for mart, (name, types) in COMPARED_MARTS.items():
        if published:
            folder = build_path(full_path(lake_path), published["build"])
            file = literal(parquet_glob(f"{folder}/{mart}.parquet"))
            select = f"select {', '.join(types)} from read_parquet({file})"
            try:
                create_view(connection, name, select)
                continue
            except duckdb.Error:
                pass
        mount_rows(connection, name, types, [])


def mount_rows(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    types: dict[str, str],
    rows: list[dict[str, Any]],
) -> None:
    """Make a view of some keys of JSON objects; `types` maps each to its type in DuckDB."""
    structure = literal(json.dumps([types]))
    values = [{key: row.get(key) for key in types} for row in rows]
    parsed = f"from_json({literal(json.dumps(values))}, {structure})"
    create_view(connection, name, f"select unnest({parsed}, recursive := true)")


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
