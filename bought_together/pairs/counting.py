"""Count the pairs of a chunk of baskets, range by range of left products, and add up the chunks."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bought_together.pairs.baskets import load_chunk
from bought_together.pairs.kernels import count_rows, invert
from bought_together.pairs.merging import merged_rows, sorted_rows
from bought_together.pairs.shortlist import BestPairs, Shortlist
from bought_together.storage.filesystem import open_whole

# Its own number, the first left product number, and the one after the last.
ProductRange = tuple[int, int, int]

PRODUCT_PAIRS = pa.schema(
    [
        pa.field(name, pa.int32(), nullable=False)
        for name in ("left_product_number", "right_product_number", "copurchase_count")
    ]
)
ROWS = 1 << 20  # per row group


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
    job: ProductRange,
    *,
    signs: list[int],
    state: list[str],
    product_count: int,
    work: str,
    target: str,
    shortlist: Shortlist,
) -> tuple[int, int]:
    """Add the counts of a range in all chunks to those of the state.

    Writes its pairs and the best of them. Returns the numbers of pairs and of pair occurrences.
    """
    number, low, high = job
    sources = [sorted_rows(state, low, high)] + [
        sorted_rows([pairs_path(work, number, chunk)], low, high, sign)
        for chunk, sign in enumerate(signs)
    ]
    best = BestPairs(shortlist)
    pairs = occurrences = 0
    with pairs_writer(pairs_path(target, number)) as writer:
        for rows in merged_rows(sources, product_count):
            writer.write_batch(pa.record_batch(list(rows), schema=PRODUCT_PAIRS))
            best.show(rows)
            pairs += len(rows[0])
            occurrences += int(rows[2].sum())
    best.write(pairs_path(shortlist.folder, number))
    return pairs, occurrences
