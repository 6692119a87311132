"""What the lookup says of a product, as text or JSON."""

import json

import pyarrow.compute as pc
from tabulate import tabulate

from bought_together.export.read import Recommendation, answer, read_published


def best_seller(lake_path: str) -> str | None:
    """Return the product with the highest count, as an example; None in an empty table."""
    table = read_published(lake_path).table
    order = [("copurchase_count", "descending"), ("product_id", "ascending")]
    best = table.take(pc.select_k_unstable(table, k=1, sort_keys=order))
    return best["product_id"][0].as_py() if best.num_rows else None


def as_table(rows: list[Recommendation]) -> str:
    """Return recommendations as a table for people."""
    return tabulate(
        [list(row.values()) for row in rows],
        headers=["", "product", "name", "category", "baskets with both"],
        disable_numparse=True,  # 011 is an id, not the number 11
        colalign=["right", "left", "left", "left", "right"],
    )


def answer_text(
    product_id: str, product_name: str | None, rows: list[Recommendation], as_json: bool
) -> str:
    """Return what is printed for one product; its name is None when it is not in the list."""
    if as_json:
        return json.dumps(answer(product_id, product_name, rows), ensure_ascii=False)
    product = f"{product_name} ({product_id})" if product_name else product_id
    if not rows:
        return f"No recommendations for {product}."
    return f"Bought together with {product}:\n\n{as_table(rows)}\n"
