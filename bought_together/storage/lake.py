"""The lake: one folder a run, written beside the old ones, and a pointer to the current run.

    current.json                        the manifest of the current run; replaced last
    runs/<run>/manifest.json            what current.json said when that run became current
    runs/<run>/line_items/*.parquet     also products/ and rejects/
    product_recommendations.parquet     exported by `dbt build`

It is on a disk or in an object store (store.py).
"""

import json
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bought_together.storage.filesystem import (
    is_object_store,
    locate,
    only_warn,
    open_whole,
    remove_tree,
)

CURRENT = "current.json"
EXPORT = "product_recommendations.parquet"
MANIFEST = "manifest.json"
RUNS_KEPT = 3
# A run without a manifest may still be under way somewhere; after this long it is a leftover.
UNFINISHED_RUN_KEPT = timedelta(days=1)
RUN_TIME_FORMAT = "%Y%m%dT%H%M%S%f"


def new_run() -> str:
    """Return a run id; ids sort by the time they were made (UTC)."""
    return f"{datetime.now(UTC).strftime(RUN_TIME_FORMAT)}-{secrets.token_hex(4)}"


def run_path(lake_path: str, run: str) -> str:
    return f"{lake_path.rstrip('/')}/runs/{run}"


def write_part(path: str, table: pa.Table) -> None:
    """Write one Parquet file that appears under its name whole or not at all."""
    with open_whole(path) as file:
        # Line items ascend by order id: differences pack far better than a dictionary.
        deltas = {"order_id": "DELTA_BINARY_PACKED"} if "order_id" in table.column_names else None
        pq.write_table(
            table,
            file,
            use_dictionary=[name for name in table.column_names if name != "order_id"],
            column_encoding=deltas,
            write_statistics=[name for name in table.column_names if name.startswith("order")],
            store_schema=False,  # plain columns for every reader, dictionary-encoded or not here
        )


def write_json(path: str, content: Any) -> None:
    """Write one JSON file that appears under its name whole or not at all."""
    with open_whole(path) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode())


def read_current(lake_path: str) -> dict[str, Any] | None:
    """Return the manifest of the current run, None when there is none yet."""
    fs, root = locate(lake_path)
    try:
        return json.loads(fs.cat_file(f"{root}/{CURRENT}"))
    except FileNotFoundError:
        return None


def make_current(lake_path: str, run: str, manifest: dict[str, Any]) -> None:
    """Point the lake's readers at a finished run, then remove the runs that are too old."""
    write_json(f"{run_path(lake_path, run)}/{MANIFEST}", manifest)
    write_json(f"{lake_path.rstrip('/')}/{CURRENT}", manifest)
    with only_warn("old runs could not be removed"):
        prune(lake_path, run)


def prune(lake_path: str, current: str) -> None:
    """Remove finished runs beyond the newest few, and what killed runs left behind."""
    fs, root = locate(lake_path)
    folders = sorted(path.rsplit("/", 1)[1] for path in fs.ls(f"{root}/runs", detail=False))
    finished = [run for run in folders if fs.exists(f"{root}/runs/{run}/{MANIFEST}")]
    stale = datetime.now(UTC) - UNFINISHED_RUN_KEPT
    leftovers = [run for run in folders if run not in finished and run_time(run) < stale]
    for run in set(finished[:-RUNS_KEPT] + leftovers) - {current, published_run(lake_path)}:
        # Another flatten may be removing the same run.
        with suppress(FileNotFoundError):
            remove_tree(run_path(lake_path, run))


def published_run(lake_path: str) -> str | None:
    """Return the run that the export was built from; its product list names what is in it.

    None where there is no export, or a broken one. Raises what the store raises where it cannot be
    read just now: nothing may be pruned then.
    """
    fs, root = locate(lake_path)
    try:
        with fs.open(f"{root}/{EXPORT}") as file:
            told = (pq.read_metadata(file).metadata or {}).get(b"run")
    except (FileNotFoundError, IsADirectoryError, pa.ArrowException):
        return None
    return told.decode() if told else None


def run_time(run: str) -> datetime:
    """Return when a run began; the far future for a folder that no run made."""
    try:
        return datetime.strptime(run.split("-")[0], RUN_TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def make_folders(folder: str, tables: tuple[str, ...]) -> None:
    """Make the folders of a run; an object store has none, and would make a missing bucket."""
    fs, root = locate(folder)
    for table in () if is_object_store(folder) else tables:
        fs.makedirs(f"{root}/{table}", exist_ok=True)
