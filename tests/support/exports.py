"""Builds published by hand, so that a test owns every id, name and count in them."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.shop import Shop

# The columns of what is published, as `dbt build` promises them.
EXPORT = pa.schema(
    [
        ("product_id", pa.string()),
        ("recommendation_rank", pa.int32()),
        ("recommended_product_id", pa.string()),
        ("recommended_product_name", pa.string()),
        ("recommended_category_code", pa.string()),
        ("copurchase_count", pa.int64()),
        ("recommendation_source", pa.string()),
    ]
)
EVIDENCE = pa.schema(
    [
        ("product_id", pa.string()),
        ("recommendation_rank", pa.int32()),
        ("confidence", pa.float64()),
        ("lift", pa.float64()),
        ("evidence", pa.string()),
    ]
)
PRODUCTS = pa.schema(
    [
        ("product_id", pa.string()),
        ("product_name", pa.string()),
        ("category_code", pa.string()),
        ("basket_count", pa.int64()),
        ("is_in_catalogue", pa.bool_()),
    ]
)

# Confidence, lift and class; and what an answer says of a row with them.
CLEAR = (0.5, 2.25, "clear")
CLEAR_PAIR = {
    "recommendation_source": "copurchase",
    **dict(zip(EVIDENCE.names[2:], CLEAR, strict=True)),
}
ROWS = [
    ("011", 1, "0012", "Tea, black", "T", 40),
    ("011", 2, "12", "Crème brûlée", "", 7),
    ("11", 1, "011", "Milk", "M", 3_000_000_000),
    ("unlisted", 1, "011", "Milk", "M", 1),
]
LISTED = [
    ("011", "M", "Milk"),
    ("11", "M", "Milk, skimmed"),
    ("0012", "T", "Tea, black"),
    ("12", "", "Crème brûlée"),
    ("lonely", "M", "Truffles"),
]


def write_export(shop: Shop, *tables: Any, **options: Any) -> Path:
    """Publish a build to the shop's lake by hand, as write_build does."""
    return write_build(shop.lake, *tables, **options)


def write_build(
    lake: Path,
    rows: list[tuple[Any, ...]],
    listed: list[tuple[str, str, str]],
    build: int = 1,
    newest: str | None = None,
    evidence: dict[tuple[str, int], tuple[float | None, float | None, str | None]] | None = None,
    baskets: dict[str, int] | None = None,
    **options: Any,
) -> Path:
    """Publish rows of EXPORT and a product list (id, category code, name); returns the folder.

    A row without a source is from co-purchases, and CLEAR but for what `evidence` says of its
    product and rank. Builds are a day apart; `newest` is the newest date of the data, and `baskets`
    the basket counts of products, by default 1 for those with rows. `options` go to the writer of
    the recommendations.
    """
    name = f"202601{build:02d}T030000Z-{build:08x}"
    folder = lake / "published" / name
    folder.mkdir(parents=True, exist_ok=True)
    whole = [(*row, "copurchase")[: len(EXPORT)] for row in rows]
    pq.write_table(as_table(whole, EXPORT), folder / "product_recommendations.parquet", **options)
    measures = [(*row[:2], *(evidence or {}).get(row[:2], CLEAR)) for row in rows]
    pq.write_table(as_table(measures, EVIDENCE), folder / "recommendation_evidence.parquet")
    sold = baskets if baskets is not None else {row[0]: 1 for row in rows}
    products = [
        (product_id, product_name, category, sold.get(product_id, 0), True)
        for product_id, category, product_name in listed
    ]
    unlisted = sold.keys() - {product_id for product_id, _, _ in listed}
    products += [(product_id, None, None, sold[product_id], False) for product_id in unlisted]
    pq.write_table(as_table(sorted(products), PRODUCTS), folder / "products.parquet")
    manifest = {
        "build": name,
        "run": f"run-{build}",
        "built_at": f"2026-01-{build:02d}T03:00:00+00:00",
        "newest_ordered_at": newest,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    unfinished = lake / "published.json.new"
    unfinished.write_text(json.dumps(manifest))
    os.replace(unfinished, lake / "published.json")
    return folder


def as_table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    records = [dict(zip(schema.names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(records, schema)


def write_damaged_export(shop: Shop, how: str, build: int = 2) -> Path:
    """Publish a build whose recommendations cannot be read; returns their file."""
    export = write_export(shop, ROWS, LISTED, build) / "product_recommendations.parquet"
    if how == "half":
        export.write_bytes(export.read_bytes()[:400])
    elif how == "empty":
        export.write_bytes(b"")
    elif how == "text":
        export.write_bytes(b"product_id\n" * 99)
    elif how == "gone":
        export.unlink()
    elif how == "columns":
        pq.write_table(pa.table({"product_id": ["011"]}), export)
    elif how == "folder":
        export.unlink()
        export.mkdir()
    return export
