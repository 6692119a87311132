"""The lake: one folder per run, and a pointer to the current run that moves last.

    current.json                        the manifest of the current run; replaced last
    runs/<run>/manifest.json            the manifest of this run, once it is finished
    runs/<run>/refused.json             the same of a run whose data was refused
    runs/<run>/line_items/*.parquet     also products/ and rejects/
    published.json, published/          the builds that `dbt build` published (builds.py)

The lake is on a disk or in an object store (filesystem.py).
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bought_together.errors import Refused, storage_errors
from bought_together.storage.filesystem import (
    flush_tree,
    locate,
    make_folder,
    only_warn,
    open_whole,
    remove_tree,
)
from bought_together.storage.pointers import locked, move_pointer, read_json, write_json

CURRENT_RUN = "current.json"
PUBLISHED_BUILD = "published.json"
MANIFEST = "manifest.json"
REFUSAL = "refused.json"
# In a run whose pairs have been counted: points to the folder of the newest count.
COUNT_POINTER = "pairs.json"
# An order id is a file number and, in this many bits, the record's place in that file.
ORDER_ID_OFFSET_BITS = 40
RUNS_KEPT = 3
REFUSALS_KEPT = 3
# A run without a manifest may still be in progress; after this long it is a leftover.
UNFINISHED_RUN_KEPT = timedelta(days=1)
RUN_TIME_FORMAT = "%Y%m%dT%H%M%S%f"
NEVER = datetime.min.replace(tzinfo=UTC)


def new_run(known: Iterable[str]) -> str:
    """Return a new id that sorts after the `known` ones, even after the clock has gone back."""
    newest = max((run_order(run)[0] for run in known), default=NEVER)
    started = max(datetime.now(UTC), newest + timedelta(microseconds=1))
    return f"{started.strftime(RUN_TIME_FORMAT)}-{secrets.token_hex(4)}"


def run_order(run: str) -> tuple[datetime, str]:
    """Return the sort key of ids: their start (UTC), NEVER for a name that no program made."""
    try:
        start = datetime.strptime(run.split("-")[0], RUN_TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        start = NEVER
    return start, run


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


def read_current(lake_path: str) -> dict[str, Any] | None:
    """Return the manifest of the current run, None when there is none yet."""
    return read_json(f"{lake_path.rstrip('/')}/{CURRENT_RUN}")


@contextmanager
def writing_run(lake_path: str) -> Iterator[str]:
    """Yield the id of a new run; a refused one leaves only its rejects, a failed one nothing."""
    run = new_run(run_folders(lake_path))
    folder = run_path(lake_path, run)
    try:
        yield run
    except Refused as refusal:
        with only_warn("the refused run could not be tidied up"):
            write_json(f"{folder}/{REFUSAL}", refusal.manifest)
            for table in ("line_items", "products"):
                remove_tree(f"{folder}/{table}")
            with locked(lake_path):
                prune(lake_path)
        raise
    except BaseException:
        with suppress(*storage_errors()):
            fs, name = locate(folder)
            if not fs.exists(f"{name}/{MANIFEST}"):
                remove_tree(folder)
        raise


def make_current(lake_path: str, run: str, manifest: dict[str, Any]) -> str | None:
    """Point readers to a finished run, then remove the runs that are too old.

    Returns None, or the id of the current run when that one started later: the pointer then stays.
    """
    folder = run_path(lake_path, run)
    flush_tree(folder)
    with locked(lake_path):
        write_json(f"{folder}/{MANIFEST}", manifest, durable=True)
        newer = move_pointer(
            f"{lake_path.rstrip('/')}/{CURRENT_RUN}",
            manifest,
            lambda held: run_order(held["run"]) < run_order(run),
        )
        with only_warn("old runs could not be removed"):
            prune(lake_path)
    return newer and newer["run"]


def prune(lake_path: str) -> None:
    """Remove the runs that nobody reads and that can no longer become current.

    What stays: the current run and all later ones, the newest RUNS_KEPT finished runs, the run of
    the published build, the rejects of the newest REFUSALS_KEPT refused runs, and for a day other
    runs, which may still be in progress.
    """
    fs, root = locate(lake_path)
    current = read_current(lake_path)
    published = read_json(f"{lake_path.rstrip('/')}/{PUBLISHED_BUILD}")
    runs = run_folders(lake_path)
    refused = [run for run in runs if fs.exists(f"{root}/runs/{run}/{REFUSAL}")]
    removed = refused[:-REFUSALS_KEPT]
    if current:
        # The pointer only moves forward, so it never comes back to one of these.
        older = [run for run in runs if run_order(run) < run_order(current["run"])]
        finished = [run for run in older if fs.exists(f"{root}/runs/{run}/{MANIFEST}")]
        removed += finished[: 1 - RUNS_KEPT]
        stale = datetime.now(UTC) - UNFINISHED_RUN_KEPT
        removed += [
            run
            for run in older
            if run not in (*finished, *refused) and NEVER < run_order(run)[0] < stale
        ]
    for run in removed:
        if published and run == published["run"]:
            continue
        # Another flatten may be removing the same run.
        with suppress(FileNotFoundError):
            remove_tree(run_path(lake_path, run))


def run_folders(lake_path: str) -> list[str]:
    """Return the ids of all runs, whether finished or not, in the order of their start."""
    return folders_in(f"{lake_path.rstrip('/')}/runs")


def folders_in(path: str) -> list[str]:
    """Return the names of a folder's content, by `run_order`; none when there is no such folder."""
    fs, root = locate(path)
    try:
        names = [found.rstrip("/").rsplit("/", 1)[1] for found in fs.ls(root, detail=False)]
    except FileNotFoundError:
        return []
    return sorted(names, key=run_order)


def make_folders(folder: str, tables: tuple[str, ...]) -> None:
    """Make one folder per table."""
    for table in tables:
        make_folder(f"{folder}/{table}")


def lake_path_setting(environment: Mapping[str, str]) -> str:
    """Return LAKE_PATH without a slash at its end; the default when it is unset or empty."""
    return (environment.get("LAKE_PATH") or "data/lake").rstrip("/")
