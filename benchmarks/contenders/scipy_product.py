"""SciPy: the matrix of baskets by products, transposed and multiplied by itself."""

import sys

from benchmarks.contenders.matrix import load_with_duckdb, read_products, write_top_five


def main(transactions: str, products: str, output: str) -> None:
    baskets = load_with_duckdb(transactions, products).astype("int32")
    write_top_five((baskets.T @ baskets).tocsr(), read_products(products), output)


if __name__ == "__main__":
    main(*sys.argv[1:])
