"""Count the pairs of a chunk of baskets, range by range of left products, and add up the chunks."""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bought_together.pairs.baskets import load_chunk
from bought_together.pairs.kernels import count_rows, invert
from bought_together.pairs.model_sql import sign_in_for
from bought_together.pairs.shortlist import BestPairs, Shortlist
from bought_together.storage.filesystem import open_whole
from bought_together.storage.mount import parquet_glob

# Its own number, the first left product number, and the one after the last.
ProductRange = tuple[int, int, int]

PRODUCT_PAIRS = pa.schema(
    [
        pa.field(name, pa.int32(), nullable=False)
        for name in ("left_product_number", "right_product_number", "copurchase_count")
    ]
)
ROWS = 1 << 20  # per row group
MERGE = """
    select
        left_product_number,
        right_product_number,
        sum(copurchase_count)::integer as copurchase_count
    from counted
    group by all
    order by all
"""


def count_ranges(
    job: tuple[int, list[int], list[ProductRange]],
    *,
    product_count: int,
    work: str,
    target: str,
    shortlist: Shortlist | None,
) -> tuple[int, int]:
    """Count the pairs of a chunk of parts whose left product is in one of the ranges.

    Writes one file per range to the folder `target`, sorted by both products, and the best pairs
    where there is a shortlist. Returns the number of pairs and the number of pair occurrences (the
    sum of the counts).
    """
    chunk, numbers, ranges = job
    ends, items = load_chunk(work, numbers)
    best = BestPairs(shortlist) if shortlist else None
    pairs = occurrences = 0
    for number, low, high in ranges:
        with pairs_writer(pairs_path(target, number, chunk)) as writer:
            for rows in counted_rows(ends, items, low, high, product_count):
                pairs += len(rows[0])
                occurrences += int(rows[2].sum())
                writer.write_batch(pa.record_batch(list(rows), schema=PRODUCT_PAIRS))
                if best:
                    best.show(rows)
    if shortlist and best:
        best.write(pairs_path(shortlist.folder, ranges[0][0]))
    return pairs, occurrences


def counted_rows(
    ends: np.ndarray, items: np.ndarray, low: int, high: int, product_count: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield left products, right products and counts (int32) of the pairs of a range.

    Each step overwrites the arrays of the one before: use or copy them first.
    """
    starts, behind, behind_ends = invert(ends, items, low, high)
    counts = np.zeros(product_count + 1, np.int32)
    touched = np.zeros(product_count // 64 + 1, np.uint64)
    rows = tuple(np.empty(max(ROWS, product_count), np.int32) for _ in PRODUCT_PAIRS)
    first = low
    while first < high:
        size, first = count_rows(
            items, starts, behind, behind_ends, low, first, counts, touched, rows
        )
        if size:
            yield tuple(column[:size] for column in rows)


def pairs_path(folder: str, number: int, chunk: int = 0) -> str:
    """Return the path of a range's pairs in one chunk."""
    return f"{folder}/part-{number:05d}-{chunk:05d}.parquet"


@contextmanager
def pairs_writer(path: str) -> Iterator[pq.ParquetWriter]:
    # Rows are sorted by both products and most counts are small, so they pack to 1.3 bytes per
    # pair, as fast as any other encoding.
    packed = dict.fromkeys(("right_product_number", "copurchase_count"), "DELTA_BINARY_PACKED")
    with (
        open_whole(path) as file,
        pq.ParquetWriter(
            file,
            PRODUCT_PAIRS,
            use_dictionary=["left_product_number"],
            column_encoding=packed,
            write_statistics=["left_product_number"],
            compression="none",
            store_schema=False,
        ) as writer,
    ):
        yield writer


def merge_range(
    job: ProductRange, *, chunks: int, work: str, target: str, memory: int, shortlist: Shortlist
) -> tuple[int, int]:
    """Add up the counts of a range over all chunks, in `memory` bytes and beyond that on disk.

    Writes its pairs and the best of them. Returns the numbers of pairs and of pair occurrences.
    """
    number, _, _ = job
    best = BestPairs(shortlist)
    pairs = occurrences = 0
    with TemporaryDirectory() as spill, pairs_writer(pairs_path(target, number)) as writer:
        memory_limit = f"{memory}B"
        with duckdb.connect(
            config={"threads": 1, "memory_limit": memory_limit, "temp_directory": spill}
        ) as connection:
            paths = [pairs_path(work, number, chunk) for chunk in range(chunks)]
            sign_in_for(connection, work)
            counted = connection.read_parquet([parquet_glob(path) for path in paths])
            merged = counted.query("counted", MERGE).to_arrow_reader(ROWS)
            for batch in merged:
                writer.write_batch(pa.record_batch(batch.columns, schema=PRODUCT_PAIRS))
                pairs += len(batch)
                occurrences += pc.sum(batch["copurchase_count"]).as_py()
                best.show(tuple(column.to_numpy() for column in batch.columns))
    best.write(pairs_path(shortlist.folder, number))
    return pairs, occurrences
