"""Polars on its streaming engine: a self-join of the lines, each pair once."""

import sys

import polars as pl

RECORD = {"itemList": pl.List(pl.Struct({"item": pl.String, "quantity": pl.Float64}))}


def read_products(products: str) -> pl.DataFrame:
    """Return product_id and an integer key, so that the join compares no text."""
    columns = ["product_id", "category_code", "product_name"]
    listed = pl.read_csv(
        products, has_header=False, separator="\t", quote_char=None, new_columns=columns
    )
    return listed.select("product_id").with_row_index("key")


def read_basket_items(transactions: str, products: pl.DataFrame) -> pl.DataFrame:
    lines = (
        pl.scan_ndjson(transactions, schema=RECORD)
        .with_row_index("order_id")
        .explode("itemList")
        .unnest("itemList")
        .filter(pl.col("quantity") > 0)
    )
    keyed = lines.join(products.lazy(), left_on="item", right_on="product_id")
    return keyed.select("order_id", "key").unique().collect(engine="streaming")


def count_pairs(basket_items: pl.DataFrame) -> pl.DataFrame:
    left = basket_items.lazy()
    pairs = left.join(left, on="order_id", suffix="_of_other")
    return (
        pairs.filter(pl.col("key") < pl.col("key_of_other"))
        .group_by("key", "key_of_other")
        .agg(copurchase_count=pl.len())
        .collect(engine="streaming")
    )


def top_five(pairs: pl.DataFrame) -> pl.LazyFrame:
    turned = pairs.select(
        key="key_of_other", key_of_other="key", copurchase_count="copurchase_count"
    )
    best = pl.all().top_k_by("copurchase_count", 5)
    columns = ["key_of_other", "copurchase_count"]
    return pl.concat([pairs, turned]).lazy().group_by("key").agg(best).explode(columns)


def main(transactions: str, products: str, output: str) -> None:
    listed = read_products(products)
    keyed = top_five(count_pairs(read_basket_items(transactions, listed)))
    others = listed.rename({"key": "key_of_other", "product_id": "recommended_product_id"})
    named = keyed.join(listed.lazy(), on="key").join(others.lazy(), on="key_of_other")
    columns = ["product_id", "recommended_product_id", "copurchase_count"]
    named.select(columns).collect(engine="streaming").write_parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
