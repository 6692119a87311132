"""The lake: one folder per run, and a pointer to the current run that moves last.

    current.json                        the manifest of the current run; replaced last
    runs/<run>/manifest.json            the manifest of this run, once it is finished
    runs/<run>/line_items/*.parquet     also products/ and rejects/
    published.json, published/          the builds that `dbt build` published (builds.py)

The lake is on a disk or in an object store (filesystem.py).
"""

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bought_together.storage.filesystem import (
    locate,
    make_folder,
    only_warn,
    open_whole,
    remove_tree,
)

CURRENT_RUN = "current.json"
MANIFEST = "manifest.json"
# In a run whose pairs have been counted: points to the folder of the newest count.
COUNT_POINTER = "pairs.json"
RUNS_KEPT = 3
# A run without a manifest may still be in progress; after this long it is a leftover.
UNFINISHED_RUN_KEPT = timedelta(days=1)
RUN_TIME_FORMAT = "%Y%m%dT%H%M%S%f"


def new_run() -> str:
    """Return a new run id; ids sort by their time (UTC)."""
    return f"{datetime.now(UTC).strftime(RUN_TIME_FORMAT)}-{secrets.token_hex(4)}"


def run_path(lake_path: str, run: str) -> str:
    return f"{lake_path.rstrip('/')}/runs/{run}"


def write_part(path: str, table: pa.Table) -> None:
    """Write one Parquet file, which appears under its name only when it is complete."""
    with open_whole(path) as file:
        # Order ids ascend, so their differences pack far better than a dictionary.
        deltas = {"order_id": "DELTA_BINARY_PACKED"} if "order_id" in table.column_names else None
        pq.write_table(
            table,
            file,
            use_dictionary=[name for name in table.column_names if name != "order_id"],
            column_encoding=deltas,
            write_statistics=[name for name in table.column_names if name.startswith("order")],
            store_schema=False,  # readers get plain columns, even where they are dictionaries here
        )


def write_json(path: str, content: Any) -> None:
    """Write one JSON file, which appears under its name only when it is complete."""
    with open_whole(path) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode())


def read_json(path: str) -> Any:
    """Return the content of a JSON file, None when there is no such file."""
    fs, name = locate(path)
    try:
        return json.loads(fs.cat_file(name))
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_current(lake_path: str) -> dict[str, Any] | None:
    """Return the manifest of the current run, None when there is none yet."""
    return read_json(f"{lake_path.rstrip('/')}/{CURRENT_RUN}")


def make_current(lake_path: str, run: str, manifest: dict[str, Any]) -> None:
    """Point readers to a finished run, then remove the runs that are too old."""
    write_json(f"{run_path(lake_path, run)}/{MANIFEST}", manifest)
    write_json(f"{lake_path.rstrip('/')}/{CURRENT_RUN}", manifest)
    with only_warn("old runs could not be removed"):
        prune(lake_path, run)


def prune(lake_path: str, current: str) -> None:
    """Remove all but the newest RUNS_KEPT finished runs, and the leftovers of killed runs."""
    fs, root = locate(lake_path)
    folders = sorted(path.rsplit("/", 1)[1] for path in fs.ls(f"{root}/runs", detail=False))
    finished = [run for run in folders if fs.exists(f"{root}/runs/{run}/{MANIFEST}")]
    stale = datetime.now(UTC) - UNFINISHED_RUN_KEPT
    leftovers = [run for run in folders if run not in finished and run_time(run) < stale]
    for run in set(finished[:-RUNS_KEPT] + leftovers) - {current}:
        # Another flatten may be removing the same run.
        with suppress(FileNotFoundError):
            remove_tree(run_path(lake_path, run))


def run_time(run: str) -> datetime:
    """Return when a run started; the far future for a folder that no run made."""
    try:
        return datetime.strptime(run.split("-")[0], RUN_TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def make_folders(folder: str, tables: tuple[str, ...]) -> None:
    """Make one folder per table."""
    for table in tables:
        make_folder(f"{folder}/{table}")


def lake_path_setting(environment: Mapping[str, str]) -> str:
    """Return LAKE_PATH without a slash at its end; the default when it is unset or empty."""
    return (environment.get("LAKE_PATH") or "data/lake").rstrip("/")
