"""The lake: parts of tables, runs that list parts, and a pointer to the current run, moved last.

    current.json                        the manifest of the current run; replaced last
    runs/<run>/manifest.json            the manifest of this run, once it is finished
    runs/<run>/refused.json             the same of a run whose data was refused
    runs/<run>/in_progress.json         until then; names the run whose parts this one may list too
    parts/line_items/<run>-*.parquet    also products/ and rejects/; named after the run that wrote
                                        them, and listed by every run that they belong to
    file_numbers.json                   the number of the next input file
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

from bought_together.errors import CannotRun, Refused, storage_errors
from bought_together.storage.filesystem import (
    file_sizes,
    flush_files,
    flush_tree,
    locate,
    make_folder,
    only_warn,
    open_whole,
    remove_files,
    remove_tree,
)
from bought_together.storage.pointers import (
    locked,
    move_pointer,
    read_json,
    take_numbers,
    write_json,
)

RUN_TABLES = ("line_items", "products", "rejects")

CURRENT_RUN = "current.json"
PUBLISHED = "published"
PUBLISHED_BUILD = "published.json"
MANIFEST = "manifest.json"
REFUSAL = "refused.json"
IN_PROGRESS = "in_progress.json"
FILE_NUMBERS = "file_numbers.json"
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


def part_name(table: str, name: str) -> str:
    """Return the path of a part in its lake; `name` begins with the id of the run."""
    return f"parts/{table}/{name}.parquet"


def parts_folder(lake_path: str, table: str) -> str:
    return f"{lake_path.rstrip('/')}/parts/{table}"


def table_of(part: str) -> str:
    return part.split("/")[1]


def run_of(part: str) -> str:
    """Return the id of the run that wrote a part."""
    return "-".join(part.rsplit("/", 1)[-1].partition(".")[0].split("-")[:2])


def table_parts(lake_path: str, manifest: Mapping[str, Any], table: str) -> list[str]:
    """Return the paths of all parts of a table of a run; raises CannotRun for an older lake."""
    if "parts" not in manifest:
        raise CannotRun(
            f"run {manifest['run']} of {lake_path} was written by an earlier version:"
            " run `python scripts/flatten.py` or `make build` first"
        )
    return [f"{lake_path.rstrip('/')}/{part}" for part in manifest["parts"][table]]


def part_sizes(lake_path: str, table: str) -> dict[str, int]:
    """Return the size in bytes of each part of a table that the lake holds, of all runs."""
    sizes = file_sizes(parts_folder(lake_path, table))
    return {f"parts/{table}/{name}": size for name, size in sizes.items()}


def changed_files(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Return the numbers of the files that were added and removed between two runs' manifests.

    A number stands for one content of one file for ever.
    """
    old, new = ({file["number"] for file in manifest["files"]} for manifest in (before, now))
    return sorted(new - old), sorted(old - new)


def take_file_numbers(lake_path: str, count: int) -> int:
    """Return the first of `count` file numbers that no other run gets, failed ones included."""
    with locked(lake_path):
        path = f"{lake_path.rstrip('/')}/{FILE_NUMBERS}"
        return take_numbers(path, count, lambda: largest_file_number(lake_path) + 1)


def largest_file_number(lake_path: str) -> int:
    """Return the largest file number in any manifest, -1 where there is none."""
    manifests = [*manifests_of(lake_path, run_folders(lake_path), MANIFEST).values()]
    return max((file["number"] for one in manifests for file in one.get("files", [])), default=-1)


def manifests_of(lake_path: str, runs: Iterable[str], name: str) -> dict[str, Any]:
    """Return what the runs' files of this name contain, of the runs that have one."""
    found = {run: read_json(f"{run_path(lake_path, run)}/{name}") for run in runs}
    return {run: content for run, content in found.items() if content is not None}


def write_part(path: str, table: pa.Table, unfinished_in: str | None = None) -> int:
    """Write one Parquet file, which appears under its name only when it is complete.

    Returns its size in bytes.
    """
    with open_whole(path, unfinished_in=unfinished_in) as file:
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
        return file.tell()


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
            write_json(f"{folder}/{REFUSAL}", refused_manifest(refusal.manifest))
            remove_files(folder, [IN_PROGRESS])
            with locked(lake_path):
                prune(lake_path)
        raise
    except BaseException:
        with suppress(*storage_errors()):
            fs, name = locate(folder)
            if not fs.exists(f"{name}/{MANIFEST}"):
                # First the folder, without which a task that still runs completes no part.
                with suppress(FileNotFoundError):
                    remove_tree(folder)
                for table in RUN_TABLES:
                    parts = parts_folder(lake_path, table)
                    remove_files(parts, [one for one in file_sizes(parts) if run_of(one) == run])
        raise


def refused_manifest(manifest: dict[str, Any] | None) -> dict[str, Any]:
    """Return what stays of a refused run: of its tables, only the rejects."""
    if manifest is None:
        return {"parts": {"rejects": []}}
    kept = {key: value for key, value in manifest.items() if key != "groups"}
    return kept | {"parts": {"rejects": manifest["parts"]["rejects"]}}


def start_run(lake_path: str, run: str, base: str | None) -> None:
    """Make the folders of a run; until it is finished, no part of the run `base` is removed.

    A base that has been current a moment ago cannot be gone yet, so it is read before.
    """
    for table in RUN_TABLES:
        make_folder(parts_folder(lake_path, table))
    make_folder(run_path(lake_path, run))
    write_json(f"{run_path(lake_path, run)}/{IN_PROGRESS}", {"base": base})


def make_current(lake_path: str, run: str, manifest: dict[str, Any]) -> str | None:
    """Point readers to a finished run, then remove the runs that are too old.

    Returns None, or the id of the current run when that one started later: the pointer then stays.
    """
    folder = run_path(lake_path, run)
    listed = [part for parts in manifest.get("parts", {}).values() for part in parts]
    flush_files(lake_path, [part for part in listed if run_of(part) == run])
    flush_tree(folder)
    with locked(lake_path):
        write_json(f"{folder}/{MANIFEST}", manifest, durable=True)
        newer = move_pointer(
            f"{lake_path.rstrip('/')}/{CURRENT_RUN}",
            manifest,
            lambda held: run_order(held["run"]) < run_order(run),
        )
        with only_warn("old runs could not be removed"):
            remove_files(folder, [IN_PROGRESS])
            prune(lake_path)
    return newer and newer["run"]


def prune(lake_path: str, runs_kept: int = RUNS_KEPT, refusals_kept: int = REFUSALS_KEPT) -> None:
    """Remove the runs that nobody reads and that can no longer become current, and their parts.

    What stays: the current run and all later ones, the newest `runs_kept` finished runs, the runs
    of the builds that are kept, the rejects of the newest `refusals_kept` refused runs, and for a
    day other runs, which may still be in progress, with the runs that they are based on. A part
    stays while one of these lists it, or may still list it.
    """
    # First, since a run lists its parts last: what is found here and not listed, was not by then.
    parts = {table: part_sizes(lake_path, table) for table in RUN_TABLES}
    current = read_current(lake_path)
    runs = run_folders(lake_path)
    finished = manifests_of(lake_path, runs, MANIFEST)
    refused = manifests_of(lake_path, runs, REFUSAL)
    unfinished = [run for run in runs if run not in finished and run not in refused]
    removed = {*list(refused)[: max(0, len(refused) - refusals_kept)]}
    if current:
        # The pointer only moves forward, so it never comes back to one of these.
        older = [run for run in runs if run_order(run) < run_order(current["run"])]
        done = [run for run in older if run in finished]
        removed |= {*done[: max(0, len(done) + 1 - runs_kept)]}
        stale = datetime.now(UTC) - UNFINISHED_RUN_KEPT
        removed |= {run for run in older if run in unfinished and NEVER < run_order(run)[0] < stale}
    removed -= runs_of_builds(lake_path)
    writing = [run for run in unfinished if run not in removed]
    bases = manifests_of(lake_path, writing, IN_PROGRESS).values()
    removed -= {content["base"] for content in bases}
    for run in removed:
        # Another flatten may be removing the same run.
        with suppress(FileNotFoundError):
            remove_tree(run_path(lake_path, run))
    kept = [content for run, content in {**refused, **finished}.items() if run not in removed]
    listed = {
        part
        for manifest in [*kept, current or {}]
        for table in manifest.get("parts", {}).values()
        for part in table
    }
    for table, held in parts.items():
        unlisted = [
            part.rsplit("/", 1)[1]
            for part in held
            if part not in listed
            and run_of(part) not in writing
            and run_order(run_of(part))[0] > NEVER  # no program made it
        ]
        remove_files(parts_folder(lake_path, table), unlisted)


def runs_of_builds(lake_path: str) -> set[str]:
    """Return the runs that the published builds were built from."""
    root = lake_path.rstrip("/")
    builds = [f"{PUBLISHED}/{build}/{MANIFEST}" for build in folders_in(f"{root}/{PUBLISHED}")]
    found = [read_json(f"{root}/{path}") for path in (PUBLISHED_BUILD, *builds)]
    return {manifest["run"] for manifest in found if manifest and "run" in manifest}


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
