"""This project's compiled kernel, with one thread per core: counts all pairs.

The time starts with the baskets as ends and items, and does not include writing the rows, as for
the other programs. A first run on a few baskets compiles the kernel.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.counting.timed import read_basket_items, report, timed
from bought_together.pairs.counting import counted_rows
from bought_together.pairs.kernels import sort_baskets
from bought_together.pairs.plan import plan_ranges, range_edges
from bought_together.pairs.run import RANGES_A_THREAD

THREADS = os.cpu_count() or 1


def count(ends: np.ndarray, codes: np.ndarray, product_count: int) -> tuple[int, int]:
    """Return the number of pairs and of pair occurrences."""
    edges = range_edges(product_count)
    keys = np.arange(product_count + 1, dtype=np.int32)
    bins = np.searchsorted(edges, keys, side="right") - 1
    items, effort = sort_baskets(ends, codes, keys, bins, len(edges) - 1)

    def count_range(bounds: tuple[int, int, int]) -> tuple[int, int]:
        pairs = occurrences = 0
        for rows in counted_rows(ends, items, *bounds[1:], product_count):
            pairs += len(rows[0])
            occurrences += int(rows[2].sum())
        return pairs, occurrences

    with ThreadPoolExecutor(THREADS) as threads:
        ranges = plan_ranges(edges, effort, RANGES_A_THREAD * THREADS)
        counted = list(threads.map(count_range, ranges))
    return sum(pairs for pairs, _ in counted), sum(occurrences for _, occurrences in counted)


def main(basket_items: str) -> None:
    order_ids, product_keys = read_basket_items(basket_items)
    ends = np.append(np.flatnonzero(np.diff(order_ids)) + 1, len(order_ids)).astype(np.uint32)
    product_count = int(product_keys.max())
    count(ends[:2], product_keys[: ends[1]], product_count)
    seconds, (pairs, occurrences) = timed(lambda: count(ends, product_keys, product_count))
    report(seconds, pairs, occurrences)


if __name__ == "__main__":
    main(*sys.argv[1:])
