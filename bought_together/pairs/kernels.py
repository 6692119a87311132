"""Loops over baskets, compiled by Numba; in plain Python they would take hours.

Baskets are the rows of a sparse matrix (CSR): `items` holds the products of one basket after the
other, and basket b ends at `ends[b]`. The products are its columns (CSC).
"""

import pickle
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

# Baskets up to this size are sorted by insertion, without a call.
SMALL = 64
LOW_BITS = (1 << 32) - 1
# The cost of visiting one basket of a product, in pairs counted (measured).
VISIT = 4


class KernelCache(FunctionCache):
    """Compiled kernels on disk. A full disk or a damaged file costs only another compilation."""

    def load_overload(self, *arguments: Any) -> Any:
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            return super().load_overload(*arguments)
        return None

    def save_overload(self, *arguments: Any) -> None:
        with suppress(OSError, EOFError, pickle.UnpicklingError):  # it reads the index first
            super().save_overload(*arguments)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call, and cache it where a folder can be written."""
    kernel: Any = njit(nogil=True)(function)
    with suppress(RuntimeError):  # no folder can
        kernel._cache = KernelCache(function)
    return kernel


@intrinsic
def trailing_zeros(typing_context, word):
    """Return the position of the lowest set bit of a word that is not 0, in one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.int64(types.uint64), generate


@compiled
def distinct_items(order_ids, codes, code_count):
    """Return the distinct products of each basket, and the number of baskets of each product.

    `order_ids` (n, ascending) and `codes` (n, from 0 to below `code_count`) are lines. Returns
    the baskets' order ids (b), their ends (b), their items (codes in the order of first
    appearance), and the number of baskets of each code (code_count).
    """
    basket_ids = np.empty(len(order_ids), np.int64)
    ends = np.empty(len(order_ids), np.uint32)
    items = np.empty(len(order_ids), np.int32)
    basket_counts = np.zeros(code_count, np.int64)
    last_basket = np.full(code_count, -1, np.int64)
    basket = -1
    size = 0
    for line in range(len(order_ids)):
        if line == 0 or order_ids[line] != order_ids[line - 1]:
            basket += 1
            basket_ids[basket] = order_ids[line]
        code = codes[line]
        if last_basket[code] != basket:
            last_basket[code] = basket
            basket_counts[code] += 1
            items[size] = code
            size += 1
        ends[basket] = size
    return basket_ids[: basket + 1], ends[: basket + 1], items[:size], basket_counts


@compiled
def sort_baskets(ends, codes, numbers, bins, bin_count):
    """Return the items as product numbers, ascending in each basket, and the effort per bin.

    `numbers` maps a code to its product number. The effort of an item is VISIT plus the number of
    items behind it in its basket: the pairs that it is the left product of. `bins` maps a product
    number to one of `bin_count` sums.
    """
    items = np.empty(len(codes), np.int32)
    effort = np.zeros(bin_count, np.int64)
    start = 0
    for end in ends:
        if end - start > SMALL:
            for place in range(start, end):
                items[place] = numbers[codes[place]]
            items[start:end].sort()
        else:
            for place in range(start, end):
                key = numbers[codes[place]]
                hole = place
                while hole > start and items[hole - 1] > key:
                    items[hole] = items[hole - 1]
                    hole -= 1
                items[hole] = key
        for place in range(start, end):
            effort[bins[items[place]]] += end - place - 1 + VISIT
        start = end
    return items, effort


@compiled
def invert(ends, items, low, high):
    """Return where the products from `low` to below `high` stand in their baskets.

    Product `low + p` has the entries i from `starts[p]` to below `starts[p + 1]`, one per basket;
    the items behind it in that basket are `items[behind[i] : behind_ends[i]]`.
    """
    starts = np.zeros(high - low + 1, np.int64)
    for key in items:
        if low <= key < high:
            starts[key - low + 1] += 1
    for product in range(high - low):
        starts[product + 1] += starts[product]
    behind = np.empty(starts[-1], np.uint32)
    behind_ends = np.empty(starts[-1], np.uint32)
    cursors = starts[:-1].copy()
    start = 0
    for end in ends:
        for place in range(start, end):
            key = items[place]
            if key >= high:
                break
            if key >= low:
                cursor = cursors[key - low]
                behind[cursor] = place + 1
                behind_ends[cursor] = end
                cursors[key - low] = cursor + 1
        start = end
    return starts, behind, behind_ends


@compiled
def count_rows(items, starts, behind, behind_ends, low, first, counts, touched, rows):
    """Count the pairs of left products from `first` on, until `rows` is full.

    `counts` (one cell per product number) and `touched` (one bit each) are all 0 before and after.
    Fills `rows`, three arrays (left product, right product, count), sorted by both.
    Returns the number of rows and the next left product. `rows` has room for any single product.
    """
    left_keys, right_keys, pair_counts = rows[0], rows[1], rows[2]
    size = 0
    stop = low + len(starts) - 1
    for left in range(first, stop):
        if size + len(counts) - left > len(left_keys) and size > 0:
            return size, left
        for basket in range(starts[left - low], starts[left - low + 1]):
            for place in range(behind[basket], behind_ends[basket]):
                right = items[place]
                counts[right] += 1
                # Always setting the bit is cheaper than checking whether the cell was 0. Reading
                # the bits in order gives the touched cells sorted.
                touched[right >> 6] |= np.uint64(1) << np.uint64(right & 63)
        for word in range(left >> 6, len(touched)):
            bits = touched[word]
            if bits:
                touched[word] = 0
            while bits:
                right = (word << 6) + trailing_zeros(bits)
                bits &= bits - np.uint64(1)
                left_keys[size] = left
                right_keys[size] = right
                pair_counts[size] = counts[right]
                counts[right] = 0
                size += 1
    return size, stop


@compiled
def merge_rows(
    left_products,
    right_products,
    changes,
    cursors,
    ends,
    totals,
    touched,
    merged_left,
    merged_right,
    merged_counts,
):
    """Add up the counts of several sources of pairs, each sorted by both products.

    Source s has the rows from `cursors[s]` to below `ends[s]`, which `cursors` are then. `totals`
    (one cell per product number) and `touched` (one bit each) are all 0 before and after. Fills the
    last three arrays with the sums that are not 0, sorted, and returns their number; -1 when a sum
    is below 0. The arrays have room for all rows.
    """
    size = 0
    while True:
        left = -1
        for source in range(len(cursors)):
            if cursors[source] < ends[source]:
                first = left_products[cursors[source]]
                if left < 0 or first < left:
                    left = first
        if left < 0:
            return size
        for source in range(len(cursors)):
            row = cursors[source]
            while row < ends[source] and left_products[row] == left:
                right = right_products[row]
                totals[right] += changes[row]
                touched[right >> 6] |= np.uint64(1) << np.uint64(right & 63)
                row += 1
            cursors[source] = row
        for word in range(left >> 6, len(touched)):
            bits = touched[word]
            if bits:
                touched[word] = 0
            while bits:
                right = (word << 6) + trailing_zeros(bits)
                bits &= bits - np.uint64(1)
                count = totals[right]
                totals[right] = 0
                if count < 0:
                    return -1
                if count:
                    merged_left[size] = left
                    merged_right[size] = right
                    merged_counts[size] = count
                    size += 1


@compiled
def keep_best(left_products, right_products, pair_counts, keys, best):
    """Keep the best pairs of each product, both ways.

    `keys` (one cell per product) is the product's place by popularity, 0 for one that is not
    recommended. `best` (products, N) holds the N best pairs of each product so far as
    `count << 32 | ~key`, the best first, and 0 where there are fewer: a larger number is a better
    recommendation.
    """
    last = best.shape[1] - 1
    for row in range(len(pair_counts)):
        count = np.int64(pair_counts[row]) << 32
        for product, other in (
            (left_products[row], right_products[row]),
            (right_products[row], left_products[row]),
        ):
            rank = count | (LOW_BITS - keys[other])
            if rank > best[product, last] and keys[other]:
                place = last
                while place and best[product, place - 1] < rank:
                    best[product, place] = best[product, place - 1]
                    place -= 1
                best[product, place] = rank


# A worker caches compiled kernels by an id, which is new in every process: the worker would compile
# for seconds in each run. An id that follows from the code keeps the cache valid.
VERSION = sha256(Path(__file__).read_bytes()).hexdigest()
KERNELS: tuple[Any, ...] = (distinct_items, sort_baskets, invert, count_rows, merge_rows, keep_best)
for kernel in KERNELS:
    kernel._set_uuid(f"{kernel.__name__}-{VERSION}")
