"""Flatten the transactions and the product list into a new run of the lake."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bought_together.dask_tasks import connected, run_tasks
from bought_together.errors import CannotRun, Refused
from bought_together.ingest.blocks import flatten_lines, flatten_records
from bought_together.ingest.byte_ranges import (
    ByteRange,
    array_elements,
    plan_byte_ranges,
    read_lines,
)
from bought_together.ingest.inputs import find_files, inspect_files
from bought_together.ingest.line_items import LINE_ITEMS, Flattened
from bought_together.ingest.products import PRODUCTS, read_products, summarise_products
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


@dataclass
class Tally:
    """The counts of one task; `first_rejects` holds (line number in the range, place) by reason."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first_rejects: dict[str, tuple[int | None, int]] = field(default_factory=dict)
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
    flatten, and Refused when more than `max_reject_fraction` of the records are rejected or have a
    rejected line. The lake's current run then stays the same.
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
    ranges = plan_byte_ranges(input_files, block_size)
    folder = run_path(full_path(lake_path), run)
    make_folders(folder, tuple(RUN_SCHEMAS))
    product_table, product_rejects, product_counts = read_products(product_paths)
    with connected(scheduler, workers) as client:
        task = partial(flatten_range, folder=folder, block_size=block_size, fast=fast)
        tallies = run_tasks(task, list(enumerate(ranges)), client)
        lines_before = count_lines_before(ranges, tallies)
        reject_parts = [
            (part, before)
            for tally, before in zip(tallies, lines_before, strict=True)
            for part in tally.reject_parts
        ]
        run_tasks(number_rejects, reject_parts, client)
    write_part(f"{folder}/products/part-00000.parquet", product_table)
    # An empty part makes sure that the table exists and has its schema.
    write_part(f"{folder}/line_items/part-empty.parquet", LINE_ITEMS.empty_table())
    write_part(f"{folder}/rejects/part-products.parquet", product_rejects)
    manifest = {
        "run": run,
        "files": [
            {"number": input_file.number, "path": input_file.path, "bytes": input_file.size}
            for input_file in input_files
        ],
        "counts": {"transactions": total(tallies), "products": dict(product_counts)},
        "rejects": summarise(ranges, tallies, lines_before) + summarise_products(product_rejects),
    }
    check(manifest, max_reject_fraction, f"{run_path(lake_path, run)}/rejects")
    if newer := make_current(lake_path, run, manifest):
        print(
            f"warning: run {newer}, which started after this run {run}, is current and stays so",
            file=sys.stderr,
        )
    return manifest


def flatten_range(job: tuple[int, ByteRange], *, folder: str, block_size: int, fast: bool) -> Tally:
    """Write the line items and rejects of one range to the run in `folder`; a task of a worker."""
    number, part = job
    tally = Tally()
    for index, flattened in enumerate(read_range(part, block_size, fast)):
        name = f"part-{number:05d}-{index:05d}"
        if line_items := [table for table in flattened.line_items if table.num_rows]:
            table = pa.concat_tables(line_items).unify_dictionaries()
            write_part(f"{folder}/line_items/{name}.parquet", table)
        if flattened.rejects:
            rows = [
                {**row, "source": "transactions", "source_file": part.file.path}
                for row in flattened.rejects
            ]
            tally.reject_parts.append(f"{folder}/rejects/{name}.parquet")
            write_part(unnumbered(tally.reject_parts[-1]), pa.Table.from_pylist(rows, REJECTS))
        tally.counts += flattened.counts
        for row in flattened.rejects:
            tally.reasons[row["reason"]] += 1
            tally.first_rejects.setdefault(row["reason"], (row["line_number"], row["byte_offset"]))
    return tally


def read_range(part: ByteRange, block_size: int, fast: bool) -> Iterator[Flattened]:
    """Yield the flattened blocks of a range; line numbers count from the range's start."""
    input_file = part.file
    if input_file.is_array:
        elements = array_elements(input_file)
        while batch := [(None, *element) for element in islice(elements, ARRAY_ELEMENTS_A_PART)]:
            yield flatten_records(batch, input_file.number)
        return
    lines_before = 0
    for block in read_lines(part, block_size):
        flattened = flatten_lines(block.data, block.offset, input_file.number, lines_before, fast)
        lines_before += flattened.counts["newlines"]
        yield flattened


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


def summarise(
    ranges: list[ByteRange], tallies: list[Tally], lines_before: list[int]
) -> list[dict[str, Any]]:
    """Return the number of rejects and the place of the first one, for each reason."""
    reasons: dict[str, dict[str, Any]] = {}
    for part, tally, before in zip(ranges, tallies, lines_before, strict=True):
        for reason, count in tally.reasons.items():
            line, place = tally.first_rejects[reason]
            first = {
                "reason": reason,
                "rejects": 0,
                "source_file": part.file.path,
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
    if not manifest["counts"]["products"]["products"]:
        raise CannotRun(
            "PRODUCTS contain no usable product: each needs three tab-separated columns"
        )
