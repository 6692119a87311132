"""Exports written by hand, so that a test owns every id, name and count in them."""

import os
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bought_together.ingest.products import PRODUCTS
from tests.support.shop import Shop

# The columns of the export, as `dbt build` promises them.
EXPORT = pa.schema(
    [
        ("product_id", pa.string()),
        ("recommendation_rank", pa.int32()),
        ("recommended_product_id", pa.string()),
        ("recommended_product_name", pa.string()),
        ("recommended_category_code", pa.string()),
        ("copurchase_count", pa.int64()),
    ]
)
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


def write_export(
    shop: Shop, rows: list[tuple[Any, ...]], listed: list[tuple[str, str, str]], build: int = 1
) -> None:
    """Write an export and its product list as `dbt build` and flatten leave them."""
    run = f"run-{build}"
    write_product_list(shop, listed, run)
    told = {"run": run, "built_at": f"2026-01-{build:02d}T03:00:00+00:00"}
    unfinished = shop.export.with_suffix(".new")
    pq.write_table(as_table(rows, EXPORT.with_metadata(told)), unfinished)
    os.replace(unfinished, shop.export)


def write_product_list(shop: Shop, listed: list[tuple[str, str, str]], run: str) -> None:
    folder = shop.lake / "runs" / run / "products"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(as_table(listed, PRODUCTS), folder / "part-00000.parquet")


def write_export_alone(shop: Shop, rows: list[tuple[Any, ...]]) -> None:
    """Write an export that does not say when and of which run it was built, uncompressed."""
    shop.lake.mkdir(parents=True, exist_ok=True)
    pq.write_table(as_table(rows, EXPORT), shop.export, compression="none")


def as_table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    records = [dict(zip(schema.names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(records, schema)


def damage(shop: Shop, how: str) -> None:
    if how == "half":
        shop.export.write_bytes(shop.export.read_bytes()[:400])
    elif how == "empty":
        shop.export.write_bytes(b"")
    elif how == "text":
        shop.export.write_bytes(b"product_id\n" * 99)
    elif how == "gone":
        shop.export.unlink()
    elif how == "columns":
        pq.write_table(pa.table({"product_id": ["011"]}), shop.export)
    elif how == "folder":
        shop.export.unlink()
        shop.export.mkdir()
