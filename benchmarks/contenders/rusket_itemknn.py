"""rusket's ItemKNN by plain counts, fed by DuckDB's JSON reader."""

import sys

import numpy as np
from rusket import ItemKNN
from scipy.sparse import csr_matrix

from benchmarks.contenders.matrix import WANTED, load_with_duckdb, read_products, write_top_five


def main(transactions: str, products: str, output: str) -> None:
    listed = read_products(products)
    # One more than wanted: a product's best neighbour is itself.
    model = ItemKNN(method="count", k=WANTED + 1, use_cuda=False)
    model.fit(load_with_duckdb(transactions, products))
    shape = (len(listed), len(listed))
    counts = csr_matrix((np.asarray(model.w_data), model.w_indices, model.w_indptr), shape)
    write_top_five(counts, listed, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
