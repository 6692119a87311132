"""Loops over baskets, compiled by Numba: what a product at a time in Python would take hours.

Baskets are rows of a sparse matrix (CSR): `items` holds the products of one basket after the other,
`ends[b]` is where basket b ends in it. The baskets of a product are its columns (CSC).
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

# Baskets up to this size are sorted by insertion, which needs no call.
SMALL = 64
# Visiting one of a product's baskets costs about as much as counting this many pairs (measured).
VISIT = 4


@intrinsic
def trailing_zeros(typing_context, word):
    """Return the number of the lowest set bit of a word that is not 0: one instruction."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.int64(types.uint64), generate


@njit(nogil=True, cache=True)
def distinct_items(order_ids, codes, code_count):
    """Return baskets that name each of their products once, and how many baskets hold each.

    `order_ids` (n, ascending) and `codes` (n, from 0 to below `code_count`) are lines. Returns
    the baskets' order ids (b), their ends (b) and items (codes, as they first came), and the
    number of baskets of each code (code_count).
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


@njit(nogil=True, cache=True)
def sort_baskets(ends, codes, keys, bins, bin_count):
    """Return the items of baskets as product keys, ascending in each, and the effort in bins.

    `keys` maps a code to its product key. The effort of an item is the number of items behind it
    in its basket, the pairs that it is the left product of, and VISIT for finding them. `bins`
    maps a product key to one of `bin_count` sums.
    """
    items = np.empty(len(codes), np.int32)
    effort = np.zeros(bin_count, np.int64)
    start = 0
    for end in ends:
        if end - start > SMALL:
            for place in range(start, end):
                items[place] = keys[codes[place]]
            items[start:end].sort()
        else:
            for place in range(start, end):
                key = keys[codes[place]]
                hole = place
                while hole > start and items[hole - 1] > key:
                    items[hole] = items[hole - 1]
                    hole -= 1
                items[hole] = key
        for place in range(start, end):
            effort[bins[items[place]]] += end - place - 1 + VISIT
        start = end
    return items, effort


@njit(nogil=True, cache=True)
def invert(ends, items, low, high):
    """Return the baskets of the products from `low` to below `high`, for each the items behind it.

    Product `low + p` is in the baskets `starts[p]` to below `starts[p + 1]`; what follows it in
    such a basket is `items[behind[i] : behind_ends[i]]`.
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


@njit(nogil=True, cache=True)
def count_rows(items, starts, behind, behind_ends, low, first, counts, touched, rows):
    """Count the pairs of the left products from `first` on, as many as there is room for.

    `counts` (one cell a product key) and `touched` (one bit a product key) are all 0 before and
    after. Fills `rows`, three arrays (left key, right key, count), in the order of both keys.
    Returns the number of rows and the next left product; there is room for any one product.
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
                # Setting a bit always is cheaper than asking whether the cell was 0, and reading
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


# Numba knows a kernel that arrives with a task by its id, and keeps what it compiled for it. The
# ids are new in every process, so that a worker would compile for seconds in each run: make them
# follow from the code instead.
VERSION = sha256(Path(__file__).read_bytes()).hexdigest()
KERNELS: tuple[Any, ...] = (distinct_items, sort_baskets, invert, count_rows)
for kernel in KERNELS:
    kernel._set_uuid(f"{kernel.__name__}-{VERSION}")
