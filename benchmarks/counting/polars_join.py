"""Polars on its streaming engine: a self-join of basket items, each pair once."""

import sys

import polars as pl

from benchmarks.counting.timed import report, timed


def main(basket_items: str) -> None:
    left = pl.read_parquet(basket_items).lazy()
    pairs = (
        left.join(left, on="order_id", suffix="_of_other")
        .filter(pl.col("product_key") < pl.col("product_key_of_other"))
        .group_by("product_key", "product_key_of_other")
        .agg(copurchase_count=pl.len())
    )
    seconds, counted = timed(lambda: pairs.collect(engine="streaming"))
    occurrences = counted["copurchase_count"].cast(pl.Int64).sum()
    report(seconds, pairs=len(counted), occurrences=occurrences)


if __name__ == "__main__":
    main(*sys.argv[1:])
