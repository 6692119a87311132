"""Flatten the transactions and the product list into a new run of the lake."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bought_together.dask_tasks import connected, run_tasks
from bought_together.errors import CannotRun, Refused
from bought_together.ingest.blocks import (
    NotClean,
    count_newlines,
    flatten_joined,
    flatten_lines,
    flatten_records,
)
from bought_together.ingest.byte_ranges import (
    Block,
    ByteRange,
    plan_byte_ranges,
    plan_tasks,
    read_lines,
    read_together,
)
from bought_together.ingest.csv_rows import LongRows, flatten_csv
from bought_together.ingest.inputs import InputFile, check_unchanged, digest, refuse_copies
from bought_together.ingest.json_lists import array_elements, in_batches
from bought_together.ingest.known_files import (
    Group,
    LakeRun,
    file_entries,
    find_known,
    flattened_by,
    groups_to_keep,
    number_new_files,
    run_to_refresh,
)
from bought_together.ingest.line_items import LINE_ITEMS, ORDER_LINES, Flattened
from bought_together.ingest.mapping import InputMapping, OrderMapping, read_mapping
from bought_together.ingest.parquet_rows import flatten_parquet
from bought_together.ingest.patterns import find_files
from bought_together.ingest.products import (
    check_products,
    read_products,
    summarise_products,
)
from bought_together.ingest.reject_rows import REJECTS
from bought_together.storage.filesystem import full_path, locate, remove_files
from bought_together.storage.lake import (
    REFUSAL,
    RUN_TABLES,
    changed_files,
    make_current,
    part_name,
    parts_folder,
    run_path,
    start_run,
    table_of,
    write_part,
    writing_run,
)

BLOCK_SIZE = 32 << 20
OTHER_FORM = "`python scripts/inspect_input.py FILE` proposes a mapping for files of another form"
# In bytes of memory: small files that unpack to more are written in several parts.
PART_SIZE = 64 << 20
COUNTS = (
    "records_read",
    "records_kept",
    "records_rejected",
    "records_touched",
    "records_left_out",
    "lines_read",
    "lines_written",
    "lines_rejected",
    "baskets_empty",
    "dates_missing",
    "dates_unreadable",
    "stores_unreadable",
)


class FileBlock(NamedTuple):
    """A block, its file, and the number of lines before it in its range."""

    file: InputFile
    lines_before: int
    block: Block


@dataclass
class Tally:
    """The counts of one task.

    `first_rejects` holds (file, line number in the range, place) by reason. `line_items` holds the
    parts written and their sizes in bytes, `unnumbered_rejects` the names of those to come.
    `long_rows` holds the number of a file that must be read from its start instead.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first_rejects: dict[str, tuple[str, int | None, int]] = field(default_factory=dict)
    line_items: dict[str, int] = field(default_factory=dict)
    unnumbered_rejects: list[str] = field(default_factory=list)
    long_rows: list[int] = field(default_factory=list)


def flatten(
    transactions: str,
    products: str,
    lake_path: str,
    scheduler: str | None = None,
    max_reject_fraction: float = 0.01,
    block_size: int = BLOCK_SIZE,
    fast: bool = True,
    workers: int = 1,
    full_refresh: bool = False,
    input_mapping: str | None = None,
) -> dict[str, Any]:
    """Flatten the inputs into a run of the lake, make it current, and return its manifest.

    The run takes over what the current run has of unchanged files, unless `full_refresh` asks to
    flatten all. `block_size` is in bytes of (decompressed) text; `input_mapping` is the path of a
    mapping, None for inputs in the project's own form. Raises CannotRun when there is
    nothing to flatten or a file changes meanwhile, and Refused when more than `max_reject_fraction`
    of the records are rejected or have a rejected line, or no product is usable. The lake's current
    run then stays the same.
    """
    mapping = read_mapping(input_mapping)
    with writing_run(lake_path) as run:
        return flatten_into(
            run,
            transactions,
            products,
            lake_path,
            scheduler,
            max_reject_fraction,
            block_size,
            fast,
            workers,
            full_refresh,
            mapping,
        )


def flatten_into(
    run: str,
    transactions: str,
    products: str,
    lake_path: str,
    scheduler: str | None,
    max_reject_fraction: float,
    block_size: int,
    fast: bool,
    workers: int,
    full_refresh: bool,
    mapping: InputMapping | None,
) -> dict[str, Any]:
    """Flatten the inputs into this run of the lake, and make it current; see `flatten`."""
    product_paths = find_files(products, "PRODUCTS")
    paths = find_files(transactions, "TRANSACTIONS")
    mapped = mapping.transactions if mapping else None
    remembered = mapping.remembered() if mapping else None
    before, why_full = run_to_refresh(lake_path, full_refresh, remembered)
    input_files = refuse_copies(find_known(paths, before), "TRANSACTIONS")
    start_run(lake_path, run, before["run"] if before else None)
    input_files = number_new_files(input_files, lake_path)
    lake = full_path(lake_path)
    kept = groups_to_keep(before, input_files, lake, block_size) if before else {}
    numbers_kept = {number for group in kept.values() for number in group["files"]}
    to_flatten = [one for one in input_files if one.size and one.number not in numbers_kept]
    product_table, product_rejects, product_counts = read_products(
        product_paths, mapping.products if mapping else None
    )
    written, digests = flatten_files(
        to_flatten, run, lake, scheduler, block_size, fast, workers, mapped
    )
    check_unchanged(to_flatten)
    groups = dict(sorted((kept | written).items(), key=lambda one: min(one[1]["files"])))
    input_files = [
        replace(one, digest=one.digest or digests.get(one.number)) for one in input_files
    ]
    manifest: dict[str, Any] = {
        "run": run,
        "flattened_by": flattened_by(),
        "mapping": remembered,
        "orders": mapping.orders if mapping else None,
        "files": file_entries(input_files, groups),
        "groups": groups,
        "parts": write_own_parts(lake, run, groups, product_table, product_rejects, mapped),
        "counts": {
            "transactions": add_up(group["counts"] for group in groups.values()),
            "products": dict(product_counts),
        },
        "rejects": merge_reasons(groups, input_files) + summarise_products(product_rejects),
    }
    manifest["refresh"] = {"full": why_full}
    if before:
        manifest["refresh"] = describe_refresh(before, manifest, numbers_kept)
    refusal = f"{run_path(lake_path, run)}/{REFUSAL}"
    check(manifest, max_reject_fraction, refusal, bool(mapping and mapping.products))
    if newer := make_current(lake_path, run, manifest):
        print(
            f"warning: run {newer}, which started after this run {run}, is current and stays so",
            file=sys.stderr,
        )
    return manifest


def write_own_parts(
    lake: str,
    run: str,
    groups: Mapping[str, Group],
    products: pa.Table,
    product_rejects: pa.Table,
    mapping: OrderMapping | None,
) -> dict[str, list[str]]:
    """Write the parts that are in no group; return all parts of the run, by table."""
    parts = {
        table: [part for group in groups.values() for part in group["parts"][table]]
        for table in ("line_items", "rejects")
    }
    own = {
        part_name("products", run): products,
        part_name("rejects", f"{run}-products"): product_rejects,
    }
    if not parts["line_items"]:  # an empty part makes sure that the table exists, with its schema
        schema = ORDER_LINES if mapping and mapping.orders else LINE_ITEMS
        own[part_name("line_items", f"{run}-empty")] = schema.empty_table()
    for part, rows in own.items():
        write_part(f"{lake}/{part}", rows, run_path(lake, run))
    return {
        table: [*parts.get(table, []), *(part for part in own if table_of(part) == table)]
        for table in RUN_TABLES
    }


def describe_refresh(before: LakeRun, manifest: LakeRun, numbers_kept: set[int]) -> dict[str, int]:
    """Return the numbers of files that are unchanged, of these flattened again, new, and gone."""
    added, removed = changed_files(before, manifest)
    unchanged = [one for one in manifest["files"] if one["number"] not in added]
    again = [one for one in unchanged if one["bytes"] and one["number"] not in numbers_kept]
    return {
        "unchanged": len(unchanged),
        "again": len(again),
        "new": len(added),
        "gone": len(removed),
    }


def flatten_files(
    input_files: list[InputFile],
    run: str,
    lake: str,
    scheduler: str | None,
    block_size: int,
    fast: bool,
    workers: int,
    mapping: OrderMapping | None,
) -> tuple[dict[str, Group], dict[int, str]]:
    """Write the parts of some files; return their groups, by name, and digests, by number.

    Only files without an ETag get a digest.
    """
    if not input_files:
        return {}, {}
    jobs = plan_tasks(plan_file_ranges(input_files, block_size, mapping), block_size)
    undigested = [
        one for one in input_files if one.digest is None and one.status and not one.status.has_etag
    ]
    with connected(scheduler, workers) as client:
        task = partial(
            flatten_or_digest, run=run, lake=lake, block_size=block_size, fast=fast, mapping=mapping
        )
        results = run_tasks(task, [*enumerate(jobs), *(one.path for one in undigested)], client)
        tallies, digests = results[: len(jobs)], results[len(jobs) :]
        jobs, tallies = read_long_rows(jobs, tallies, task, run, lake, client)
        # A task that reads several files reads each from its first line, as its first range says.
        lines_before = count_lines_before([ranges[0] for ranges in jobs], tallies)
        rejects = [
            (name, before)
            for tally, before in zip(tallies, lines_before, strict=True)
            for name in tally.unnumbered_rejects
        ]
        sizes = run_tasks(partial(number_rejects, run=run, lake=lake), rejects, client)
    reject_sizes = {
        part_name("rejects", name): size for (name, _), size in zip(rejects, sizes, strict=True)
    }
    groups = groups_written(run, jobs, tallies, lines_before, reject_sizes)
    return groups, {one.number: found for one, found in zip(undigested, digests, strict=True)}


def plan_file_ranges(
    input_files: list[InputFile], block_size: int, mapping: OrderMapping | None
) -> list[ByteRange]:
    """Return the ranges of files; records in a list of a document are found only from its start."""
    if mapping and mapping.records:
        input_files = [replace(one, is_array=True) for one in input_files]
    return plan_byte_ranges(input_files, block_size)


def groups_written(
    run: str,
    jobs: list[list[ByteRange]],
    tallies: list[Tally],
    lines_before: list[int],
    reject_sizes: Mapping[str, int],
) -> dict[str, Group]:
    """Return the groups that tasks wrote; `reject_sizes` has the sizes of their rejects, by part.

    The ranges of a large file follow one another, and each task of small files has its own first.
    """
    groups = {}
    tasks_of_files = groupby(range(len(jobs)), key=lambda number: jobs[number][0].file.number)
    for _, numbers in tasks_of_files:
        places = list(numbers)
        of_group = [tallies[place] for place in places]
        files = dict.fromkeys(part.file.number for place in places for part in jobs[place])
        groups[f"{run}-{places[0]:05d}"] = {
            "files": list(files),
            "parts": {
                "line_items": {part: n for one in of_group for part, n in one.line_items.items()},
                "rejects": {
                    part: reject_sizes[part]
                    for one in of_group
                    for part in (part_name("rejects", name) for name in one.unnumbered_rejects)
                },
            },
            "counts": total(of_group),
            "rejects": summarise(of_group, [lines_before[place] for place in places]),
        }
    return groups


def read_long_rows(
    jobs: list[list[ByteRange]],
    tallies: list[Tally],
    task: Callable[[Any], Any],
    run: str,
    lake: str,
    client: Any,
) -> tuple[list[list[ByteRange]], list[Tally]]:
    """Read files again, from their starts, in which rows span lines; return all jobs and tallies.

    What was written of their ranges is removed.
    """
    found = {number for tally in tallies for number in tally.long_rows}
    if not found:
        return jobs, tallies
    again: dict[int, list[ByteRange]] = {}
    for place, ranges in enumerate(jobs):
        if ranges[0].file.number in found:
            written = [file_name(part) for part in tallies[place].line_items]
            remove_files(parts_folder(lake, "line_items"), written)
            unfinished = [f"{name}.unnumbered" for name in tallies[place].unnumbered_rejects]
            remove_files(run_path(lake, run), unfinished)
            whole = replace(ranges[0].file, has_long_rows=True)
            again.setdefault(whole.number, [ByteRange(whole, 0, whole.size)])
    tasks = run_tasks(task, list(enumerate(again.values(), start=len(jobs))), client)
    read_again = dict(zip(again, tasks, strict=True))
    kept = [
        (ranges, tally)
        for ranges, tally in zip(jobs, tallies, strict=True)
        if ranges[0].file.number not in found
    ]
    kept += [(again[number], tally) for number, tally in read_again.items()]
    return [ranges for ranges, _ in kept], [tally for _, tally in kept]


def file_name(part: str) -> str:
    return part.rsplit("/", 1)[1]


def flatten_or_digest(job: tuple[int, list[ByteRange]] | str, **settings: Any) -> Tally | str:
    """Flatten ranges, or return the digest of the file with this path; a task of a worker."""
    return digest(job) if isinstance(job, str) else flatten_ranges(job, **settings)


def flatten_ranges(
    job: tuple[int, list[ByteRange]],
    *,
    run: str,
    lake: str,
    block_size: int,
    fast: bool,
    mapping: OrderMapping | None = None,
) -> Tally:
    """Write the line items and rejects of one range, or of some small files."""
    try:
        return write_ranges(job, run, lake, block_size, fast, mapping)
    except LongRows:
        return Tally(long_rows=[job[1][0].file.number])


def write_ranges(
    job: tuple[int, list[ByteRange]],
    run: str,
    lake: str,
    block_size: int,
    fast: bool,
    mapping: OrderMapping | None,
) -> Tally:
    number, ranges = job
    tally = Tally()
    work = run_path(lake, run)
    flattened_ranges = read_ranges(ranges, block_size, fast, mapping)
    for index, flattened in enumerate(in_parts(flattened_ranges)):
        name = f"{run}-{number:05d}-{index:05d}"
        if line_items := [table for table in flattened.line_items if table.num_rows]:
            table = pa.concat_tables(line_items).unify_dictionaries()
            part = part_name("line_items", name)
            tally.line_items[part] = write_part(f"{lake}/{part}", table, work)
        if flattened.rejects:
            tally.unnumbered_rejects.append(name)
            rows = [{**row, "source": "transactions"} for row in flattened.rejects]
            write_part(unnumbered(lake, run, name), pa.Table.from_pylist(rows, REJECTS))
        tally.counts += flattened.counts
        for row in flattened.rejects:
            tally.reasons[row["reason"]] += 1
            first = (row["source_file"], row["line_number"], row["byte_offset"])
            tally.first_rejects.setdefault(row["reason"], first)
    return tally


def in_parts(flattened_blocks: Iterable[Flattened]) -> Iterator[Flattened]:
    """Join blocks until they take about PART_SIZE bytes."""
    joined, size = Flattened(), 0
    for flattened in flattened_blocks:
        joined.add(flattened)
        size += sum(table.nbytes for table in flattened.line_items)
        size += sum(len(row["raw_text"]) for row in flattened.rejects)
        if size >= PART_SIZE:
            yield joined
            joined, size = Flattened(), 0
    yield joined


def read_ranges(
    ranges: list[ByteRange], block_size: int, fast: bool, mapping: OrderMapping | None = None
) -> Iterator[Flattened]:
    """Yield the flattened blocks of one range or of some small files.

    Rejects name their file; their line numbers count from their range's start.
    """
    if mapping:
        for part, content in zip(ranges, read_together(ranges), strict=True):
            for flattened in read_mapped(part, block_size, content, mapping):
                yield of_file(flattened, part.file)
        return
    waiting: list[FileBlock] = []
    size = 0
    for part, content in zip(ranges, read_together(ranges), strict=True):
        if part.file.is_array:
            if waiting:  # so that rejects stay in the order of the files
                yield flatten_blocks(waiting, fast)
                waiting, size = [], 0
            for batch in in_batches(array_elements(part.file, content), block_size):
                yield of_file(flatten_records(batch, part.file.number), part.file)
            continue
        lines_before = 0
        for block in read_lines(part, block_size, content):
            if waiting and size + len(block.data) > block_size:
                yield flatten_blocks(waiting, fast)
                waiting, size = [], 0
            waiting.append(FileBlock(part.file, lines_before, block))
            lines_before += count_newlines(block.data)
            size += len(block.data)
    if waiting:
        yield flatten_blocks(waiting, fast)


def read_mapped(
    part: ByteRange, block_size: int, content: bytes | None, mapping: OrderMapping
) -> Iterator[Flattened]:
    """Yield the flattened blocks of one range of a file that a mapping describes."""
    kind = mapping.format or part.file.kind
    if kind != "json":
        check_table(part.file, mapping)
    if kind == "parquet":
        yield from flatten_parquet(part, content, mapping)
    elif kind == "csv":
        yield from flatten_csv(part, block_size, content, mapping)
    elif part.file.is_array:
        elements = array_elements(part.file, content, mapping.records)
        for batch in in_batches(elements, block_size):
            yield flatten_records(batch, part.file.number, mapping)
    else:
        lines_before = 0
        for block in read_lines(part, block_size, content):
            yield flatten_lines(
                block.data, block.offset, part.file.number, lines_before, mapping=mapping
            )
            lines_before += count_newlines(block.data)


def check_table(input_file: InputFile, mapping: OrderMapping) -> None:
    """Raise CannotRun unless the mapping makes sense for a table of order lines."""
    path = input_file.printable_path
    if found := mapping.items or mapping.records:
        raise CannotRun(f"{path} is a table, in which no list is called {found}")
    if not mapping.order_id:
        raise CannotRun(f"{path} is a table: the mapping must name the column of the order_id")


def flatten_blocks(blocks: list[FileBlock], fast: bool) -> Flattened:
    """Flatten blocks of several files, together where all are clean."""
    if len(blocks) == 1:
        [(input_file, lines_before, block)] = blocks
        flattened = flatten_lines(block.data, block.offset, input_file.number, lines_before, fast)
        return of_file(flattened, input_file)
    if fast:
        try:
            return flatten_joined([(one.file.number, *one.block) for one in blocks])
        except (NotClean, pa.ArrowInvalid):
            pass
    middle = len(blocks) // 2
    flattened = flatten_blocks(blocks[:middle], fast)
    flattened.add(flatten_blocks(blocks[middle:], fast))
    return flattened


def of_file(flattened: Flattened, input_file: InputFile) -> Flattened:
    """Name the file in each reject."""
    for row in flattened.rejects:
        row["source_file"] = input_file.printable_path
    return flattened


def unnumbered(lake: str, run: str, name: str) -> str:
    """Return the path of rejects that have no line numbers yet."""
    return f"{run_path(lake, run)}/{name}.unnumbered"


def count_lines_before(ranges: list[ByteRange], tallies: list[Tally]) -> list[int]:
    """Return the number of lines of its file before each range."""
    before: list[int] = []
    lines: Counter[int] = Counter()
    for part, tally in zip(ranges, tallies, strict=True):
        before.append(lines[part.file.number])
        lines[part.file.number] += tally.counts["newlines"]
    return before


def number_rejects(job: tuple[str, int], *, run: str, lake: str) -> int:
    """Write a part of rejects with line numbers of the whole file, counted from 1.

    Returns its size in bytes.
    """
    name, lines_before = job
    fs, path = locate(unnumbered(lake, run, name))
    with fs.open(path, "rb") as file:
        table = pq.read_table(file)
    place = table.schema.get_field_index("line_number")
    numbers = pc.add(table["line_number"], lines_before + 1)
    numbered = table.set_column(place, "line_number", numbers)
    size = write_part(f"{lake}/{part_name('rejects', name)}", numbered, run_path(lake, run))
    fs.rm_file(path)
    return size


def total(tallies: list[Tally]) -> dict[str, int]:
    """Return the sum of each count of COUNTS.

    Records read = kept + rejected + left out; lines read = written + rejected.
    """
    counts = sum((tally.counts for tally in tallies), Counter())
    not_kept = counts["records_rejected"] + counts["records_left_out"]
    counts["records_kept"] = counts["records_read"] - not_kept
    counts["lines_read"] = counts["lines_written"] + counts["lines_rejected"]
    return add_up([counts])


def add_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found = list(counts)
    return {name: sum(one[name] for one in found) for name in COUNTS}


def summarise(tallies: list[Tally], lines_before: list[int]) -> list[dict[str, Any]]:
    """Return the number of rejects and the place of the first one, for each reason."""
    reasons: dict[str, dict[str, Any]] = {}
    for tally, before in zip(tallies, lines_before, strict=True):
        for reason, count in tally.reasons.items():
            path, line, place = tally.first_rejects[reason]
            first = {
                "reason": reason,
                "rejects": 0,
                "source_file": path,
                "line_number": None if line is None else before + line + 1,
                "byte_offset": place,
            }
            reasons.setdefault(reason, first)["rejects"] += count
    return list(reasons.values())


def merge_reasons(
    groups: Mapping[str, Group], input_files: list[InputFile]
) -> list[dict[str, Any]]:
    """Return the number of rejects and the place of the first one, for each reason, of all groups.

    The first one is that of the first file in the order of the input.
    """
    order = {one.printable_path: place for place, one in enumerate(input_files)}
    found = [reason for group in groups.values() for reason in group["rejects"]]
    found.sort(key=lambda reason: (order[reason["source_file"]], reason["byte_offset"]))
    reasons: dict[str, dict[str, Any]] = {}
    for one in found:
        reasons.setdefault(one["reason"], {**one, "rejects": 0})["rejects"] += one["rejects"]
    return list(reasons.values())


def check(
    manifest: dict[str, Any],
    max_reject_fraction: float,
    refusal_path: str,
    products_mapped: bool,
) -> None:
    """Raise Refused or CannotRun when a run must not become current."""
    counts = manifest["counts"]["transactions"]
    read, touched = counts["records_read"], counts["records_touched"]
    if not read:
        raise CannotRun("TRANSACTIONS contain no records")
    if not touched <= max_reject_fraction * read:  # nan allows no reject
        raise Refused(
            f"{touched:,} of {read:,} records are rejected or have a rejected line,"
            f" more than MAX_REJECT_FRACTION {max_reject_fraction:g} allows;"
            f" nothing was published; the rejects are in the parts that {refusal_path} lists"
            + (f"; {OTHER_FORM}" if not counts["records_kept"] else ""),
            manifest,
        )
    if not counts["records_kept"]:
        raise CannotRun(f"TRANSACTIONS contain no usable record; {OTHER_FORM}")
    check_products(manifest, refusal_path, products_mapped)
