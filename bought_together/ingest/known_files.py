"""Find the input files that the current run of the lake has flattened, and what it keeps of them.

A *group* is what flatten wrote together: all ranges of a large file, or several small files. A
manifest holds, for each group, its files' numbers, its parts with their sizes in bytes, its counts
and its reasons for rejects. So a new run takes whole groups over and reads nothing of them again.
"""

import hashlib
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from dask.system import CPU_COUNT

from bought_together.errors import CannotRun
from bought_together.ingest.byte_ranges import text_size
from bought_together.ingest.inputs import InputFile, Status, digest, inspect, look_at
from bought_together.ingest.line_items import FILE_NUMBER_LIMIT
from bought_together.ingest.patterns import printable_path
from bought_together.storage.lake import part_sizes, read_current, take_file_numbers

# The number of a file that has none yet.
NEW = -1
# More groups of less than half a block are flattened together again: a small file a day would
# otherwise leave thousands of small parts.
SMALL_GROUPS_KEPT = 50
# What a manifest remembers of a file besides its path, size, version and group.
REMEMBERED = (
    "number",
    "compression",
    "is_array",
    "is_utf16",
    "has_records",
    "head",
    "digest",
    "kind",
)

LakeRun = Mapping[str, Any]
Group = dict[str, Any]


def flattened_by() -> str:
    """Return a fingerprint of the code that decides what flatten writes."""
    code = hashlib.sha256(pa.__version__.encode())
    for module in sorted(Path(__file__).parent.glob("*.py")):
        code.update(module.name.encode() + b"\0" + module.read_bytes())
    return code.hexdigest()[:16]


def run_to_refresh(
    lake_path: str, full_refresh: bool, mapping: Mapping[str, Any] | None = None
) -> tuple[LakeRun | None, str | None]:
    """Return the manifest of the current run, or why all files must be flattened again.

    Returns neither for a lake without a run.
    """
    try:
        current = read_current(lake_path)
    except CannotRun:
        return None, "current.json is damaged"
    if current is None:
        return None, None
    if full_refresh:
        return None, "FULL_REFRESH asks for it"
    if current.get("flattened_by") != flattened_by():
        return None, "the program has changed"
    if current.get("mapping") != mapping:
        return None, "the mapping of the transactions has changed"
    return current, None


def find_known(paths: list[str], before: LakeRun | None) -> list[InputFile]:
    """Return the files; those that `before` holds with this content have their numbers from there.

    Others are NEW. Nothing is read of a file whose path and version are the same. Where these leave
    a doubt, the content decides. Raises CannotRun when a file cannot be read.
    """
    entries = {entry["path"]: entry for entry in before["files"]} if before else {}
    files: dict[int, InputFile] = {}
    doubted: dict[int, Any] = {}
    statuses = look_at(paths)
    for place, status in enumerate(statuses):
        entry = entries.pop(printable_path(status.path), None)
        if entry is None or entry["bytes"] != status.size:
            continue
        if not entry["is_doubtful"] and entry["version"] == recorded_version(status):
            known = {name: entry[name] for name in REMEMBERED}
            files[place] = InputFile(path=status.path, size=status.size, status=status, **known)
        elif entry["digest"]:
            doubted[place] = entry
    others = [place for place in range(len(paths)) if place not in files]
    for place, input_file in zip(others, inspect([statuses[one] for one in others]), strict=True):
        files[place] = replace(input_file, number=NEW)
    alike = [place for place, entry in doubted.items() if files[place].head == entry["head"]]
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        digests = list(pool.map(lambda one: files[one].digest or digest(files[one].path), alike))
    for place, content in zip(alike, digests, strict=True):
        entry = doubted[place]
        number = entry["number"] if content == entry["digest"] else NEW
        files[place] = replace(files[place], number=number, digest=content)
    return [files[place] for place in range(len(paths))]


def recorded_version(status: Status) -> list[Any]:
    """Return a version as JSON has it."""
    return [*status.version, *([] if status.changed_at is None else [status.changed_at])]


def file_entries(input_files: list[InputFile], groups: Mapping[str, Group]) -> list[dict[str, Any]]:
    """Return what a manifest holds of the files; a file without content is in no group."""
    group_of = {number: name for name, group in groups.items() for number in group["files"]}
    return [
        {
            "path": one.printable_path,
            "bytes": one.size,
            "version": recorded_version(one.status),
            "is_doubtful": one.status.is_doubtful,
            **{name: getattr(one, name) for name in REMEMBERED},
            "group": group_of.get(one.number),
        }
        for one in input_files
        if one.status
    ]


def number_new_files(input_files: list[InputFile], lake_path: str) -> list[InputFile]:
    """Return the files, the new ones with numbers of their own; raises CannotRun without any."""
    new = sum(input_file.number == NEW for input_file in input_files)
    first = take_file_numbers(lake_path, new) if new else 0
    if first + new > FILE_NUMBER_LIMIT:
        raise CannotRun(
            f"the lake {lake_path} has numbered {FILE_NUMBER_LIMIT:,} files, and order ids hold no"
            " more: set LAKE_PATH to a new folder"
        )
    numbers = iter(range(first, first + new))
    return [replace(one, number=next(numbers)) if one.number == NEW else one for one in input_files]


def groups_to_keep(
    before: LakeRun, input_files: list[InputFile], lake_path: str, block_size: int
) -> dict[str, Group]:
    """Return the groups of `before` whose files are all known and whose parts are all there."""
    files = {input_file.number: input_file for input_file in input_files}
    whole = {
        name: group for name, group in before["groups"].items() if files.keys() >= {*group["files"]}
    }
    held = {**part_sizes(lake_path, "line_items"), **part_sizes(lake_path, "rejects")}
    kept = {
        name: group
        for name, group in whole.items()
        if all(
            held.get(part) == size
            for parts in group["parts"].values()
            for part, size in parts.items()
        )
    }
    if damaged := whole.keys() - kept.keys():
        again = sum(len(whole[name]["files"]) for name in damaged)
        print(
            f"warning: {lake_path} has lost parts, or they are cut off:"
            f" {again:,} {'file is' if again == 1 else 'files are'} flattened again",
            file=sys.stderr,
        )
    small = [
        name
        for name, group in kept.items()
        if 2 * sum(text_size(files[one].size, files[one].compression) for one in group["files"])
        < block_size
    ]
    if len(small) > SMALL_GROUPS_KEPT:
        return {name: group for name, group in kept.items() if name not in small}
    return kept
