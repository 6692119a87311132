"""implicit's ItemItemRecommender, fed by DuckDB's JSON reader."""

import os
import sys

from implicit.nearest_neighbours import ItemItemRecommender

from benchmarks.contenders.matrix import WANTED, load_with_duckdb, read_products, write_top_five


def main(transactions: str, products: str, output: str) -> None:
    # One more than wanted: a product's best neighbour is itself.
    model = ItemItemRecommender(K=WANTED + 1, num_threads=os.cpu_count())
    model.fit(load_with_duckdb(transactions, products), show_progress=False)
    write_top_five(model.similarity, read_products(products), output)


if __name__ == "__main__":
    main(*sys.argv[1:])
