"""The state of a published build: what it counted, so that the next count continues from there.

    published/<build>/state/products/*.parquet          product_id, product_number, basket_count
    published/<build>/state/basket_sizes/*.parquet      file_number, product_count, basket_count
    published/<build>/state/oversized_baskets/*.parquet order_id, product_count
    published/<build>/state/product_pairs/*.parquet     left and right product_number,
                                                        copurchase_count

Under `state`, the build's manifest holds a fingerprint of what counted it, and the size of each of
these files. The run of the build lists the input files that were counted. The Dask engine leaves
its pairs sorted by both numbers; SQL needs no order, and a sort would take longer than the write.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bought_together.errors import CannotRun
from bought_together.pairs.counting_rules import CountingRules
from bought_together.storage.builds import STATE, Manifest, build_path, read_pointer
from bought_together.storage.filesystem import copy_files, file_sizes
from bought_together.storage.lake import MANIFEST, changed_files, part_sizes, run_path
from bought_together.storage.mount import STATE_TABLES
from bought_together.storage.pointers import read_json

# The shortlist is not kept: the ranking is done anew.
KEPT_TABLES = tuple(table for table in STATE_TABLES if table != "shortlist")


class ChangedPart(NamedTuple):
    """A part of the line items that holds files that were added (1) or removed (-1).

    `numbers` are those files' numbers; None when all lines of the part are theirs.
    """

    path: str
    change: int
    numbers: list[int] | None


class CountPlan(NamedTuple):
    """What to count: everything, or what has changed since a published build.

    `state` is the folder of the build's state, None to count everything; whether its pairs
    `are_sorted` matters to the Dask engine. `files` are the run's and those that were removed, as
    in a manifest. The run's other parts are `unchanged`. `summary` says in one line what is counted
    and why.
    """

    state: str | None
    are_sorted: bool
    files: list[dict[str, Any]]
    changed: list[ChangedPart]
    unchanged: list[str]
    summary: str


def plan_count(
    lake_path: str, run: Manifest, counted_by: str, full_refresh: bool = False
) -> CountPlan:
    """Return what to count of a run, given as its manifest.

    A state that cannot be used, or that is hardly cheaper to continue from, is left alone.
    """
    root = lake_path.rstrip("/")
    files, groups = run["files"], run["groups"].values()
    grouped = {part for group in groups for part in group["parts"]["line_items"]}
    others = [f"{root}/{part}" for part in run["parts"]["line_items"] if part not in grouped]
    every = [ChangedPart(f"{root}/{part}", 1, None) for part in sorted(grouped)]
    published, before, reason = state_to_continue(root, counted_by, full_refresh)
    if reason:
        return CountPlan(None, True, files, every, others, f"everything: {reason}")
    assert published and before
    added, removed = changed_files(before, run)
    sizes = {file["number"]: file["bytes"] for file in (*before["files"], *run["files"])}
    changed_bytes = sum(sizes[number] for number in (*added, *removed))
    if 2 * changed_bytes > sum(file["bytes"] for file in run["files"]):
        reason = "most of the data has changed"
        return CountPlan(None, True, files, every, others, f"everything: {reason}")
    plus = changed_parts(root, run, added, 1)
    minus = changed_parts(root, before, removed, -1)
    touched = {part.path for part in plus}
    unchanged = [part.path for part in every if part.path not in touched]
    added_files = f"{len(added):,} {'file' if len(added) == 1 else 'files'} added"
    summary = f"{added_files}, {len(removed):,} removed since build {published['build']}"
    state = f"{build_path(root, published['build'])}/{STATE}"
    are_sorted = published[STATE]["are_sorted"]
    gone = [file for file in before["files"] if file["number"] in {*removed}]
    changed = [*plus, *minus]
    return CountPlan(state, are_sorted, [*files, *gone], changed, [*unchanged, *others], summary)


def state_to_continue(
    root: str, counted_by: str, full_refresh: bool
) -> tuple[Manifest | None, Manifest | None, str | None]:
    """Return the published build with the run that it counted, or why none can be continued."""
    if full_refresh:
        return None, None, "a full refresh was asked for"
    try:
        published = read_pointer(root)
        run = published.get("run") if published else None
        before = read_json(f"{run_path(root, run)}/{MANIFEST}") if run else None
    except CannotRun:
        return None, None, "the published build is damaged"
    if published is None:
        return None, None, "nothing is published yet"
    if STATE not in published or before is None or "groups" not in before:
        return None, None, "the published build has no state"
    if published[STATE]["counted_by"] != counted_by:
        return None, None, "the rules of counting or the program have changed"
    folder = f"{build_path(root, published['build'])}/{STATE}"
    if published[STATE]["parts"] != state_sizes(folder) or lost_parts(root, before):
        return None, None, "the state of the published build is damaged"
    return published, before, None


def state_sizes(folder: str) -> dict[str, int]:
    """Return the size in bytes of each file of a state."""
    return {
        f"{table}/{name}": size
        for table in KEPT_TABLES
        for name, size in file_sizes(f"{folder}/{table}").items()
    }


def finish_state(
    lake_path: str, build: Manifest, count: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return what a build's manifest holds of its state, whose tables dbt has written.

    Of a count of the Dask engine, the pairs are copied here as they are.
    """
    folder = f"{build_path(lake_path, build['build'])}/{STATE}"
    if count["folder"]:
        counted = f"{run_path(lake_path, build['run'])}/{count['folder']}"
        copy_files(f"{counted}/product_pairs", f"{folder}/product_pairs")
    return {
        "counted_by": count["counted_by"],
        "are_sorted": bool(count["folder"]),
        "parts": state_sizes(folder),
    }


def lost_parts(root: str, run: Manifest) -> bool:
    """Return whether a part of a run is gone or has another size."""
    held = part_sizes(root, "line_items")
    return any(
        held.get(part) != size
        for group in run["groups"].values()
        for part, size in group["parts"]["line_items"].items()
    )


def changed_parts(root: str, run: Manifest, numbers: list[int], change: int) -> list[ChangedPart]:
    """Return the parts of a run that hold these files."""
    wanted = set(numbers)
    found = []
    for group in run["groups"].values():
        if ours := wanted.intersection(group["files"]):
            whole = len(ours) == len(group["files"])
            found += [
                ChangedPart(f"{root}/{part}", change, None if whole else sorted(ours))
                for part in group["parts"]["line_items"]
            ]
    return found


def counted_by(rules: CountingRules, project: Path) -> str:
    """Return a fingerprint of all that decides what a count of the same lines is."""
    code = hashlib.sha256(rules.fingerprint().encode())
    models = (*project.glob("models/intermediate/*.sql"), *project.glob("macros/*.sql"))
    sources = [*Path(__file__).parent.glob("*.py"), *models]
    for source in sorted(sources, key=lambda path: path.name):
        code.update(source.name.encode() + b"\0" + source.read_bytes())
    return code.hexdigest()[:16]
