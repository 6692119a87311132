"""rusket: ItemKNN.fit by plain counts, which keeps only the top pairs of each product."""

import sys

import numpy as np
from rusket import ItemKNN
from scipy.sparse import csr_matrix

from benchmarks.counting.timed import read_basket_items, report, timed


def main(basket_items: str) -> None:
    order_ids, product_keys = read_basket_items(basket_items)
    baskets = csr_matrix((np.ones(len(order_ids), "float32"), (order_ids, product_keys)))
    model = ItemKNN(method="count", k=6, use_cuda=False)
    seconds, _ = timed(lambda: model.fit(baskets))
    report(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
