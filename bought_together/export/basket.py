"""Answer for a whole basket: which products to add to it, and because of which of its products."""

import math
from collections.abc import Callable, Iterable
from operator import itemgetter
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
    members = sorted(members, key=itemgetter("product_id"))
    # At least 1: a product that was never sold may have a list, whose counts are all 0.
    counts = {
        member["product_id"]: max(1, basket_count_of(member["product_id"])) for member in members
    }
    # Over a common denominator, confidences are whole numbers, which compare exactly.
    common = math.lcm(*counts.values())
    candidates = []
    for place, member in enumerate(members):
        weight = common // counts[member["product_id"]]
        for row in member["recommendations"]:
            product_id, count = row["product_id"], row["copurchase_count"]
            if product_id not in counts:
                baskets = basket_count_of(product_id)
                candidates.append((-count * weight, -count, -baskets, product_id, place, row))
    candidates.sort()  # never by row: a member recommends a product once
    best: dict[str, dict[str, Any]] = {}
    for _, _, _, product_id, place, row in candidates:
        if product_id not in best:
            member = members[place]
            best[product_id] = row | {
                "rank": len(best) + 1,
                "confidence": row["copurchase_count"] / counts[member["product_id"]],
                "because_of": {
                    "product_id": member["product_id"],
                    "product_name": member["product_name"],
                },
            }
            if len(best) == limit:
                break
    return list(best.values())
