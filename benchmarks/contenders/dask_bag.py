"""The classic recipe on Dask: a bag of baskets, their pairs one by one, then a data frame."""

import json
import os
import sys
from itertools import permutations

import dask.bag
import pandas as pd

COLUMNS = ["product_id", "recommended_product_id"]


def read_products(path: str) -> set[str]:
    with open(path, encoding="utf-8") as file:
        return {line.split("\t", 1)[0] for line in file}


def pairs_of(line: str, products: set[str]) -> list[tuple[str, str]]:
    """Return every pair of a basket's products, in both directions."""
    bought = {item["item"] for item in json.loads(line)["itemList"] if item["quantity"] > 0}
    return list(permutations(bought & products, 2))


def top_five(others: pd.Series) -> pd.Series:
    return others.value_counts().head(5)


def main(transactions: str, products: str, output: str) -> None:
    lines = dask.bag.read_text(transactions, blocksize="16MiB")
    pairs = lines.map(pairs_of, products=read_products(products)).flatten()
    frame = pairs.to_dataframe(meta=dict.fromkeys(COLUMNS, "string"))
    counted = frame.groupby(COLUMNS[0])[COLUMNS[1]].apply(
        top_five, meta=pd.Series(name="copurchase_count", dtype="int64")
    )
    result = counted.compute(scheduler="processes", num_workers=os.cpu_count())
    result.rename_axis(COLUMNS).rename("copurchase_count").reset_index().to_parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
