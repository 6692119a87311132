"""Look up recommendations in the published build, as data or as text."""

import json
from itertools import groupby
from operator import itemgetter

import pyarrow.compute as pc
from tabulate import tabulate

from bought_together.export.read import FIELDS, Export, RecommendationRow, answer, read_export


def recommendations_of(export: Export) -> dict[str, list[RecommendationRow]]:
    """Return product id -> its recommendations, best first.

    A recommendation has the FIELDS; copurchase_count is the number of baskets with both products.
    """
    columns = [export.table[name].to_pylist() for name in ("product_id", *FIELDS.values())]
    return {
        product_id: [dict(zip(FIELDS, values, strict=True)) for _, *values in group]
        for product_id, group in groupby(zip(*columns, strict=True), key=itemgetter(0))
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
    """Return recommendations as a text table, with a note where a row is not clear evidence."""
    headers = ["", "product", "name", "category", "baskets with both", "of its baskets", "note"]
    table = [
        [
            row["rank"],
            row["product_id"],
            row["product_name"],
            row["category_code"],
            row["copurchase_count"],
            "" if row["confidence"] is None else f"{row['confidence']:.1%}",
            note_of(row),
        ]
        for row in rows
    ]
    text = tabulate(
        table,
        headers=headers,
        disable_numparse=True,  # 011 is an id, not the number 11
        colalign=["right", "left", "left", "left", "right", "right", "left"],
    )
    return "\n".join(line.rstrip() for line in text.splitlines())


def note_of(row: RecommendationRow) -> str:
    """Return why a row needs a second look: little evidence, or no pair behind it."""
    if row["recommendation_source"] != "copurchase":
        return row["recommendation_source"]
    return "" if row["evidence"] == "clear" else row["evidence"] or ""


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
