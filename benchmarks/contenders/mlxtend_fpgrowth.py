"""mlxtend's FP-growth for itemsets of two without a support floor, fed by DuckDB's JSON reader."""

import sys

import pandas as pd
from mlxtend.frequent_patterns import fpgrowth

from benchmarks.contenders.matrix import load_with_duckdb, read_products


def main(transactions: str, products: str, output: str) -> None:
    matrix = load_with_duckdb(transactions, products)
    baskets = matrix.shape[0]
    one_hot = pd.DataFrame.sparse.from_spmatrix(matrix.astype(bool))
    # Below one basket's share, so that rounding cannot turn "once" into "twice".
    itemsets = fpgrowth(one_hot, min_support=0.5 / baskets, max_len=2)
    itemsets = itemsets[itemsets["itemsets"].map(len) == 2]
    pairs = pd.DataFrame([sorted(pair) for pair in itemsets["itemsets"]], columns=["left", "right"])
    pairs["copurchase_count"] = (itemsets["support"] * baskets).round().astype(int).to_numpy()
    turned = pairs.rename(columns={"left": "right", "right": "left"})
    both = pd.concat([pairs, turned]).sort_values("copurchase_count", ascending=False)
    best = both.groupby("left").head(5)
    listed = pd.Series(read_products(products))
    pd.DataFrame(
        {
            "product_id": best["left"].map(listed),
            "recommended_product_id": best["right"].map(listed),
            "copurchase_count": best["copurchase_count"],
        }
    ).to_parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
