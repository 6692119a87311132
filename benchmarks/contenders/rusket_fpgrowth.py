"""rusket's FP-growth for itemsets of two without a support floor, fed by DuckDB's JSON reader."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rusket import fpgrowth
from scipy.sparse import csr_matrix

from benchmarks.contenders.matrix import load_with_duckdb, read_products, write_top_five


def main(transactions: str, products: str, output: str) -> None:
    matrix = load_with_duckdb(transactions, products)
    baskets, width = matrix.shape
    # Below one basket's share, so that rounding cannot turn "once" into "twice".
    frame = fpgrowth(
        matrix.astype("int8"), min_support=0.5 / baskets, max_len=2, use_colnames=False
    )
    itemsets = pa.Table.from_pandas(frame, preserve_index=False)
    pairs = itemsets.filter(pc.equal(pc.list_value_length(itemsets["itemsets"]), 2))
    left, right = pc.list_flatten(pairs["itemsets"]).to_numpy().reshape(-1, 2).T
    together = np.rint(pairs["support"].to_numpy() * baskets)
    counts = csr_matrix((together, (left, right)), (width, width))
    write_top_five(counts + counts.T, read_products(products), output)


if __name__ == "__main__":
    main(*sys.argv[1:])
