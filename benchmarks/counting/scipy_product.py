"""SciPy: X.T @ X, with every pair in both directions and basket counts on the diagonal."""

import sys

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.counting.timed import read_basket_items, report, timed


def main(basket_items: str) -> None:
    order_ids, product_keys = read_basket_items(basket_items)
    baskets = csr_matrix((np.ones(len(order_ids), "int32"), (order_ids, product_keys)))
    seconds, counts = timed(lambda: baskets.T @ baskets)
    singles = counts.diagonal()
    report(
        seconds,
        pairs=int(counts.nnz - np.count_nonzero(singles)) // 2,
        occurrences=int(counts.sum(dtype="int64") - singles.sum(dtype="int64")) // 2,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
