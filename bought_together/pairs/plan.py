"""Plan the counting of pairs: chunks of baskets that fit in memory, and ranges of left products.

To count a chunk, a thread needs in bytes:

- 20 per item: 4 for its product, 4 for its basket's end, 4 while it is read, 8 for its place
  among the baskets of its product;
- 4 1/8 per product: a counter and a bit;
- 8 per product for its place by popularity, and 8 for each pair that its shortlist keeps;
- 24 per row of the buffer for Parquet, which has 2^20 rows or one per product, whichever is more.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from bought_together.errors import CannotRun
from bought_together.pairs.counting import ROWS, ProductRange

BYTES_AN_ITEM = 20
BYTES_A_PRODUCT = 12.125
BYTES_A_BEST_PAIR = 8
BYTES_A_ROW = 24
# Positions in a chunk have 32 bits.
LARGEST_CHUNK = (1 << 31) - 1
# The number of product numbers at which a range may begin, roughly.
EDGES = 4096


def chunk_items(memory: int, product_count: int, wanted: int) -> int:
    """Return the number of items that a thread can count at once in `memory` bytes.

    `wanted` is the number of pairs that the shortlist of a product keeps. Raises CannotRun when not
    even one item fits.
    """
    fixed = (BYTES_A_PRODUCT + BYTES_A_BEST_PAIR * wanted) * product_count
    fixed += BYTES_A_ROW * max(ROWS, product_count)
    items = int((memory - fixed) / BYTES_AN_ITEM)
    if items < 1:
        raise CannotRun(
            f"counting the pairs of {product_count:,} products takes more than {fixed / 1e6:,.0f}"
            f" MB per thread, but only {memory / 1e6:,.0f} MB are available"
        )
    return min(items, LARGEST_CHUNK)


def plan_chunks(items: Iterable[tuple[int, int]], largest: int) -> list[list[int]]:
    """Return the part numbers of each chunk; `items` holds (number, number of items) of each part.

    A chunk has at most `largest` items, or is a single part: parts are not divided.
    """
    chunks: list[list[int]] = []
    size = 0
    for number, count in items:
        if not chunks or size + count > largest:
            chunks.append([])
            size = 0
        chunks[-1].append(number)
        size += count
    return chunks


def range_edges(product_count: int) -> np.ndarray:
    """Return the product numbers at which ranges may begin, from 1 to the one after the last.

    Most of the effort is at the smallest numbers, the best sellers, and so are most edges.
    """
    return np.unique(np.geomspace(1, product_count + 1, EDGES).astype(np.int64))


def plan_ranges(edges: np.ndarray, effort: np.ndarray, wanted: int) -> list[ProductRange]:
    """Return up to `wanted` ranges of left product numbers that take about the same time."""
    done = np.concatenate([[0], np.cumsum(effort)])
    places = np.searchsorted(done, done[-1] * np.arange(1, wanted) / wanted)
    bounds = np.unique(edges[np.concatenate([[0], places, [len(edges) - 1]])])
    return [(number, int(low), int(high)) for number, (low, high) in enumerate(pairwise(bounds))]
