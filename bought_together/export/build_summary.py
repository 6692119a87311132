"""Describe a build in a few lines: its size, its dates, and what differs from the published one.

`measures` maps models to what macros/publish.sql takes from them, as far as the build made them.
"""

from typing import Any

from bought_together.ingest.report import count, orders_line

Measures = dict[str, Any]


def manifest_counts(measures: Measures) -> dict[str, Any]:
    """Return what the manifest of a build says about its data."""
    data = measures["int_data_measured"]
    return {
        "baskets": data["basket_count"],
        "products": measures["products"],
        "recommendations": measures["product_recommendations"],
        "newest_ordered_at": data["newest_ordered_at"],
        "unlisted_share": share(data["unlisted_purchase_count"], data["purchase_count"]),
    }


def describe_build(measures: Measures, max_basket_products: int) -> str:
    """Return the lines that people read before they trust a build; empty for a part of one."""
    lines = []
    if data := measures.get("int_data_measured"):
        if data["order_count"]:
            numbers = (data[f"{kind}order_count"] for kind in ("", "cancelled_", "superseded_"))
            lines.append(orders_line(*numbers))
        lines += [baskets_line(data), unlisted_line(data)]
        if basket := measures.get("oversized_baskets"):
            lines.append(
                f"set aside  {count(data['oversized_basket_count'], 'basket')} of more than"
                f" {max_basket_products:,} products, the largest ({basket['product_count']:,})"
                f" at {basket['source_file']} byte {basket['byte_offset']}"
            )
        if data["published_build"] and (changes := measures.get("recommendation_changes")):
            kinds = ("unchanged", "reordered", "changed", "new", "gone")
            lists = ", ".join(f"{changes.get(kind, 0):,} {kind}" for kind in kinds)
            products = measures.get("product_changes") or {}
            came_and_gone = ", ".join(f"{products.get(kind, 0):,} {kind}" for kind in kinds[-2:])
            lines.append(f"lists      {lists}; products {came_and_gone}")
    return "\n".join(lines)


def baskets_line(data: dict[str, Any]) -> str:
    line = f"baskets    {data['basket_count']:,}"
    newest = f"newest date {data['newest_ordered_at'] or 'none'}"
    if data["published_build"] is None:
        return f"{line}, {newest}"
    before = data["published_basket_count"]
    return (
        f"{line} (published before: {'unknown' if before is None else format(before, ',')}),"
        f" {newest} ({data['published_newest_ordered_at'] or 'none'})"
    )


def unlisted_line(data: dict[str, Any]) -> str:
    of_all = share(data["unlisted_purchase_count"], data["purchase_count"])
    products = count(data["unlisted_product_count"], "product")
    return f"unlisted   {of_all:.1%} of purchases, {products} missing from the product list"


def share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
