"""The models that say what is counted, and a fingerprint of all that they depend on.

The workers run these models, so that each rule has one place. A count and a published build carry
the fingerprint: numbers that were counted under other rules are then known as such.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bought_together.errors import CannotRun
from bought_together.pairs.model_sql import ModelQuery, compile_model, project_vars

MOST_RECOMMENDATIONS = 1000
PURCHASES = "int_line_items_kept"
KEYS = "int_products_keyed"
COUNTED = "int_products_counted"
OVERSIZED = "int_baskets_oversized"
ORDER_LINES_RESOLVED = "int_order_lines_resolved"
LINE_ITEMS, PRODUCTS = "lake_line_item_changes", "lake_products"
INPUT_FILES = "lake_input_files"
STATE_OVERSIZED = "state_oversized_baskets"


@dataclass(frozen=True)
class CountingRules:
    """The models that select what counts, and the order of the products.

    `purchases` selects the order_id and product_id of each line that counts, from LINE_ITEMS and
    ORDER_LINES_RESOLVED; STATE_OVERSIZED are baskets that are known to be oversized. `keys` gives
    the counted products their keys, from COUNTED. Both also read PRODUCTS. `shortlisted` is the
    number of pairs of each product that can be recommended. `orders` selects the lines that mapped
    orders come down to: ORDER_LINES_RESOLVED, from LINE_ITEMS.
    """

    purchases: ModelQuery
    keys: ModelQuery
    shortlisted: int
    orders: ModelQuery

    def fingerprint(self) -> str:
        """Return a short hash of the models' SQL, with its vars, and of their seeds' rows."""
        rules = [
            {"views": query.views, "seeds": {k: v.to_pylist() for k, v in query.seeds.items()}}
            for query in (self.purchases, self.keys, self.orders)
        ]
        return hashlib.sha256(json.dumps(rules).encode()).hexdigest()[:16]


def shortlist_length(value: Any) -> int:
    """Return a number of recommendations that can be kept; dbt says so where it is another."""
    try:
        return min(max(int(value), 1), MOST_RECOMMENDATIONS)
    except ValueError as error:
        raise CannotRun(
            f"recommendations_per_product must be a whole number, not {value}"
        ) from error


def counting_rules(project: Path, overrides: Mapping[str, Any] | None = None) -> CountingRules:
    """Return the rules of a dbt project; `overrides` are vars of dbt's command line.

    Raises CannotRun when a model or a seed cannot be read.
    """
    variables = project_vars(project) | dict(overrides or {})
    given = (LINE_ITEMS, INPUT_FILES, PRODUCTS, STATE_OVERSIZED)
    return CountingRules(
        compile_model(PURCHASES, (*given, ORDER_LINES_RESOLVED), project, variables),
        compile_model(KEYS, (COUNTED, PRODUCTS), project, variables),
        shortlist_length(variables["recommendations_per_product"]),
        compile_model(ORDER_LINES_RESOLVED, given, project, variables),
    )
