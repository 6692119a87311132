"""Look up what to add to a basket in the published build, as data or as text."""

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tabulate import tabulate

from bought_together.export.basket import basket_answer
from bought_together.export.lookup import named, names_of, recommendations_of
from bought_together.export.read import answer, read_export


def look_up_basket(lake_path: str, product_ids: tuple[str, ...]) -> dict[str, Any]:
    """Return the answer for a basket of these products (basket.basket_answer).

    Raises CannotRun when there is no export or it cannot be read.
    """
    export = read_export(lake_path)  # all of it: ties need the basket counts of other products
    is_member = pc.is_in(export.table["product_id"], pa.array(product_ids, pa.string()))
    lists = recommendations_of(replace(export, table=export.table.filter(is_member)))
    names = names_of(export)
    basket_counts = dict(zip(names, export.products["basket_count"].to_pylist(), strict=True))
    distinct = list(dict.fromkeys(product_ids))
    members = [answer(one, names[one], lists.get(one, [])) for one in distinct if one in names]
    unknown = [one for one in distinct if one not in names]
    return basket_answer(members, unknown, basket_counts.__getitem__)


def basket_text(answered: dict[str, Any], as_json: bool) -> str:
    """Return the answer for a basket as text or JSON."""
    if as_json:
        return json.dumps(answered, ensure_ascii=False)
    unknown, rows = answered["unknown_product_ids"], answered["recommendations"]
    note = f"Not found: {', '.join(unknown)}.\n" if unknown else ""
    if not rows:
        return f"{note}Nothing to add."
    table = tabulate(
        [
            [
                *(row[name] for name in ("rank", "product_id", "product_name", "category_code")),
                f"{row['confidence']:.1%}",
                named(**row["because_of"]),
            ]
            for row in rows
        ],
        headers=["", "product", "name", "category", "share", "of the baskets with"],
        disable_numparse=True,  # 011 is an id, not the number 11
        colalign=["right", "left", "left", "left", "right", "left"],
    )
    return f"{note}Add to {', '.join(answered['product_ids'])}:\n\n{table}\n"
