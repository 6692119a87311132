"""Look up recommendations in the published build, as data or as text."""

import json
from itertools import groupby
from operator import itemgetter

import pyarrow.compute as pc
from tabulate import tabulate

from bought_together.export.read import (
    COLUMNS,
    Export,
    RecommendationRow,
    answer,
    in_order,
    read_export,
)


def recommendations_of(export: Export) -> dict[str, list[RecommendationRow]]:
    """Return product id -> its recommendations, best first.

    A recommendation has rank, product_id, product_name, category_code and copurchase_count (the
    number of baskets with both products).
    """
    # In this thread only: a thread that starts while the program ends would crash it.
    frame = in_order(export.table).select(COLUMNS).to_pandas(use_threads=False)
    rows = frame.itertuples(index=False, name=None)
    return {
        product_id: [
            {
                "rank": rank,
                "product_id": recommended_id,
                "product_name": product_name,
                "category_code": category_code,
                "copurchase_count": copurchase_count,
            }
            for _, rank, recommended_id, product_name, category_code, copurchase_count in group
        ]
        for product_id, group in groupby(rows, key=itemgetter(0))
    }


def names_of(export: Export) -> dict[str, str | None]:
    """Return product id -> name, None for a product that is not in the product list."""
    ids, names = (export.products[name].to_pylist() for name in ("product_id", "product_name"))
    return dict(zip(ids, names, strict=True))


def best_seller(lake_path: str) -> str | None:
    """Return the id of the product with the highest count, None for an empty table."""
    table = read_export(lake_path).table
    order = [("copurchase_count", "descending"), ("product_id", "ascending")]
    best = table.take(pc.select_k_unstable(table, k=1, sort_keys=order))
    return best["product_id"][0].as_py() if best.num_rows else None


def as_table(rows: list[RecommendationRow]) -> str:
    """Return recommendations as a text table."""
    return tabulate(
        [list(row.values()) for row in rows],
        headers=["", "product", "name", "category", "baskets with both"],
        disable_numparse=True,  # 011 is an id, not the number 11
        colalign=["right", "left", "left", "left", "right"],
    )


def named(product_id: str, product_name: str | None) -> str:
    """Return the name and the id of a product, only the id of a product without a name."""
    return f"{product_name} ({product_id})" if product_name else product_id


def answer_text(
    product_id: str, product_name: str | None, rows: list[RecommendationRow], as_json: bool
) -> str:
    """Return one product's answer as text or JSON; the name is None for an unlisted product."""
    if as_json:
        return json.dumps(answer(product_id, product_name, rows), ensure_ascii=False)
    product = named(product_id, product_name)
    if not rows:
        return f"No recommendations for {product}."
    return f"Bought together with {product}:\n\n{as_table(rows)}\n"
