"""implicit's ItemItemRecommender, fed by a Python loop over lines with orjson."""

import os
import sys

import numpy as np
import orjson
from implicit.nearest_neighbours import ItemItemRecommender
from scipy.sparse import csr_matrix

from benchmarks.contenders.matrix import WANTED, read_products, to_matrix, write_top_five


def load_with_orjson(transactions: str, products: list[str]) -> csr_matrix:
    positions = {product: position for position, product in enumerate(products)}
    order_ids, bought = [], []
    with open(transactions, "rb") as file:
        for order_id, line in enumerate(file):
            for item in orjson.loads(line)["itemList"]:
                if item["quantity"] > 0 and item["item"] in positions:
                    order_ids.append(order_id)
                    bought.append(positions[item["item"]])
    return to_matrix(np.array(order_ids), np.array(bought), len(products))


def main(transactions: str, products: str, output: str) -> None:
    listed = read_products(products)
    # One more than wanted: a product's best neighbour is itself.
    model = ItemItemRecommender(K=WANTED + 1, num_threads=os.cpu_count())
    model.fit(load_with_orjson(transactions, listed), show_progress=False)
    write_top_five(model.similarity, listed, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
