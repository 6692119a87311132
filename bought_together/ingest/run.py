"""Flatten the transactions and the product list into a new run of the lake."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
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
    array_elements,
    plan_byte_ranges,
    plan_tasks,
    read_lines,
    read_together,
)
from bought_together.ingest.inputs import (
    InputFile,
    check_unchanged,
    inspect_files,
    refuse_copies,
)
from bought_together.ingest.line_items import LINE_ITEMS, Flattened
from bought_together.ingest.patterns import find_files
from bought_together.ingest.products import (
    PRODUCTS,
    check_products,
    read_products,
    summarise_products,
)
from bought_together.ingest.reject_rows import REJECTS
from bought_together.storage.filesystem import full_path, locate
from bought_together.storage.lake import (
    make_current,
    make_folders,
    run_path,
    write_part,
    writing_run,
)

RUN_SCHEMAS = {"line_items": LINE_ITEMS, "products": PRODUCTS, "rejects": REJECTS}
BLOCK_SIZE = 32 << 20
ARRAY_ELEMENTS_A_PART = 1 << 16
# In bytes of memory: small files that unpack to more are written in several parts.
PART_SIZE = 64 << 20
COUNTS = (
    "records_read",
    "records_kept",
    "records_rejected",
    "records_touched",
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

    `first_rejects` holds (file, line number in the range, place) by reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first_rejects: dict[str, tuple[str, int | None, int]] = field(default_factory=dict)
    reject_parts: list[str] = field(default_factory=list)


def flatten(
    transactions: str,
    products: str,
    lake_path: str,
    scheduler: str | None = None,
    max_reject_fraction: float = 0.01,
    block_size: int = BLOCK_SIZE,
    fast: bool = True,
    workers: int = 1,
) -> dict[str, Any]:
    """Flatten the inputs into a run of the lake, make it current, and return its manifest.

    `block_size` is in bytes of (decompressed) text. Raises CannotRun when there is nothing to
    flatten or a file changes meanwhile, and Refused when more than `max_reject_fraction` of the
    records are rejected or have a rejected line, or no product is usable. The lake's current run
    then stays the same.
    """
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
) -> dict[str, Any]:
    """Flatten the inputs into this run of the lake, and make it current; see `flatten`."""
    product_paths = find_files(products, "PRODUCTS")
    paths = find_files(transactions, "TRANSACTIONS")
    input_files = inspect_files(paths)
    refuse_copies(input_files, "TRANSACTIONS")
    jobs = plan_tasks(plan_byte_ranges(input_files, block_size), block_size)
    folder = run_path(full_path(lake_path), run)
    make_folders(folder, tuple(RUN_SCHEMAS))
    product_table, product_rejects, product_counts = read_products(product_paths)
    with connected(scheduler, workers) as client:
        task = partial(flatten_ranges, folder=folder, block_size=block_size, fast=fast)
        tallies = run_tasks(task, list(enumerate(jobs)), client)
        # A task that reads several files reads each from its first line, as its first range says.
        lines_before = count_lines_before([ranges[0] for ranges in jobs], tallies)
        reject_parts = [
            (part, before)
            for tally, before in zip(tallies, lines_before, strict=True)
            for part in tally.reject_parts
        ]
        run_tasks(number_rejects, reject_parts, client)
    check_unchanged(input_files)
    write_part(f"{folder}/products/part-00000.parquet", product_table)
    # An empty part makes sure that the table exists and has its schema.
    write_part(f"{folder}/line_items/part-empty.parquet", LINE_ITEMS.empty_table())
    write_part(f"{folder}/rejects/part-products.parquet", product_rejects)
    manifest = {
        "run": run,
        "files": [
            {
                "number": input_file.number,
                "path": input_file.printable_path,
                "bytes": input_file.size,
            }
            for input_file in input_files
        ],
        "counts": {"transactions": total(tallies), "products": dict(product_counts)},
        "rejects": summarise(tallies, lines_before) + summarise_products(product_rejects),
    }
    check(manifest, max_reject_fraction, f"{run_path(lake_path, run)}/rejects")
    if newer := make_current(lake_path, run, manifest):
        print(
            f"warning: run {newer}, which started after this run {run}, is current and stays so",
            file=sys.stderr,
        )
    return manifest


def flatten_ranges(
    job: tuple[int, list[ByteRange]], *, folder: str, block_size: int, fast: bool
) -> Tally:
    """Write the line items and rejects of one range, or of some small files, to the run in
    `folder`; a task of a worker."""
    number, ranges = job
    tally = Tally()
    for index, flattened in enumerate(in_parts(read_ranges(ranges, block_size, fast))):
        name = f"part-{number:05d}-{index:05d}"
        if line_items := [table for table in flattened.line_items if table.num_rows]:
            table = pa.concat_tables(line_items).unify_dictionaries()
            write_part(f"{folder}/line_items/{name}.parquet", table)
        if flattened.rejects:
            tally.reject_parts.append(f"{folder}/rejects/{name}.parquet")
            rows = [{**row, "source": "transactions"} for row in flattened.rejects]
            write_part(unnumbered(tally.reject_parts[-1]), pa.Table.from_pylist(rows, REJECTS))
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


def read_ranges(ranges: list[ByteRange], block_size: int, fast: bool) -> Iterator[Flattened]:
    """Yield the flattened blocks of one range or of some small files.

    Rejects name their file; their line numbers count from their range's start.
    """
    waiting: list[FileBlock] = []
    size = 0
    for part, content in zip(ranges, read_together(ranges), strict=True):
        if part.file.is_array:
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


def in_batches(
    elements: Iterable[tuple[int, bytes]], block_size: int
) -> Iterator[list[tuple[None, int, bytes]]]:
    """Yield lists of up to ARRAY_ELEMENTS_A_PART elements or about `block_size` bytes."""
    batch: list[tuple[None, int, bytes]] = []
    size = 0
    for number, text in elements:
        batch.append((None, number, text))
        size += len(text)
        if len(batch) >= ARRAY_ELEMENTS_A_PART or size >= block_size:
            yield batch
            batch, size = [], 0
    yield batch


def unnumbered(part: str) -> str:
    """Return the path of rejects that have no line numbers yet; readers' globs do not match it."""
    return f"{part}.unnumbered"


def count_lines_before(ranges: list[ByteRange], tallies: list[Tally]) -> list[int]:
    """Return the number of lines of its file before each range."""
    before: list[int] = []
    lines: Counter[int] = Counter()
    for part, tally in zip(ranges, tallies, strict=True):
        before.append(lines[part.file.number])
        lines[part.file.number] += tally.counts["newlines"]
    return before


def number_rejects(job: tuple[str, int]) -> None:
    """Rewrite a part of rejects with line numbers of the whole file, counted from 1."""
    part, lines_before = job
    fs, path = locate(unnumbered(part))
    with fs.open(path, "rb") as file:
        table = pq.read_table(file)
    place = table.schema.get_field_index("line_number")
    numbers = pc.add(table["line_number"], lines_before + 1)
    write_part(part, table.set_column(place, "line_number", numbers))
    fs.rm_file(path)


def total(tallies: list[Tally]) -> dict[str, int]:
    """Return the sum of each count of COUNTS.

    Records read = kept + rejected; lines read = written + rejected.
    """
    counts = sum((tally.counts for tally in tallies), Counter())
    counts["records_kept"] = counts["records_read"] - counts["records_rejected"]
    counts["lines_read"] = counts["lines_written"] + counts["lines_rejected"]
    return {name: counts[name] for name in COUNTS}


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


def check(manifest: dict[str, Any], max_reject_fraction: float, rejects_path: str) -> None:
    """Raise Refused or CannotRun when a run must not become current."""
    counts = manifest["counts"]["transactions"]
    read, touched = counts["records_read"], counts["records_touched"]
    if not read:
        raise CannotRun("TRANSACTIONS contain no records")
    if not touched <= max_reject_fraction * read:  # nan allows no reject
        raise Refused(
            f"{touched:,} of {read:,} records are rejected or have a rejected line,"
            f" more than MAX_REJECT_FRACTION {max_reject_fraction:g} allows;"
            f" nothing was published; the rejects are in {rejects_path}",
            manifest,
        )
    if not counts["records_kept"]:
        raise CannotRun("TRANSACTIONS contain no usable record")
    check_products(manifest, rejects_path)
