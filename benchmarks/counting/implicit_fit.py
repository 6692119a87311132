"""implicit: ItemItemRecommender.fit, which keeps only the top pairs of each product."""

import os
import sys

import numpy as np
from implicit.nearest_neighbours import ItemItemRecommender
from scipy.sparse import csr_matrix

from benchmarks.counting.timed import read_basket_items, report, timed


def main(basket_items: str) -> None:
    order_ids, product_keys = read_basket_items(basket_items)
    baskets = csr_matrix((np.ones(len(order_ids)), (order_ids, product_keys)))
    model = ItemItemRecommender(K=6, num_threads=os.cpu_count())
    seconds, _ = timed(lambda: model.fit(baskets, show_progress=False))
    report(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
