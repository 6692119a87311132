"""Answer for a whole basket: which products to add to it, and because of which of its products."""

import math
from collections.abc import Callable, Iterable
from typing import Any

DEFAULT_LIMIT = 5


def basket_answer(
    members: Iterable[dict[str, Any]],
    unknown_ids: Iterable[str],
    basket_count_of: Callable[[str], int],
    limit: int = DEFAULT_LIMIT,
) -> dict[str, Any]:
    """Return the answer of the lookup and the service for a basket: at most `limit` products.

    `members` are the answers (`read.answer`) of the products in the basket, each once;
    `basket_count_of` returns the number of baskets with a product. No recommended product is itself
    in the basket. The order is that of the highest confidence over the members' lists: the share
    of a member's baskets that hold the recommended product as well. Ties go as in the table: to the
    higher co-purchase count, to the recommended product in more baskets, to the smaller id by code
    point. A product that several members recommend alike is there because of the smallest of these.
    """
    members = list(members)
    return {
        "product_ids": [member["product_id"] for member in members],
        "unknown_product_ids": list(unknown_ids),
        "recommendations": recommendations_for(members, basket_count_of, limit),
    }


def recommendations_for(
    members: list[dict[str, Any]], basket_count_of: Callable[[str], int], limit: int
) -> list[dict[str, Any]]:
    """Return the best products to add to the members, as rows of the table with a reason."""
    # At least 1: a product that was never sold may have a list, whose counts are all 0.
    counts = {
        member["product_id"]: max(1, basket_count_of(member["product_id"])) for member in members
    }
    # Over a common denominator, confidences are whole numbers, which compare exactly.
    common = math.lcm(*counts.values())
    candidates = []
    for place, member in enumerate(sorted(members, key=lambda member: member["product_id"])):
        weight = common // counts[member["product_id"]]
        for row in member["recommendations"]:
            product_id, count = row["product_id"], row["copurchase_count"]
            if product_id not in counts:
                order = (-count * weight, -count, -basket_count_of(product_id), product_id, place)
                candidates.append((order, member, row))
    candidates.sort(key=lambda candidate: candidate[0])
    best: dict[str, dict[str, Any]] = {}
    for _, member, row in candidates:
        if len(best) == limit:
            break
        if row["product_id"] not in best:
            best[row["product_id"]] = row | {
                "rank": len(best) + 1,
                "confidence": row["copurchase_count"] / counts[member["product_id"]],
                "because_of": {name: member[name] for name in ("product_id", "product_name")},
            }
    return list(best.values())
