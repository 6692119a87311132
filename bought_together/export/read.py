"""What `dbt build` published last: its tables, read as they are."""

from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bought_together.errors import CannotRun, describe, storage_errors
from bought_together.storage.builds import build_path, pointer_path, read_pointer
from bought_together.storage.filesystem import locate

COLUMNS = [
    "product_id",
    "recommendation_rank",
    "recommended_product_id",
    "recommended_product_name",
    "recommended_category_code",
    "copurchase_count",
]
PRODUCT_COLUMNS = ["product_id", "product_name", "category_code"]

RecommendationRow = dict[str, Any]


@dataclass(frozen=True)
class Export:
    """One published build.

    `table` has the columns of product_recommendations, `products` those of products that name a
    product: product_id, product_name, category_code (null where it is not listed). `version` is
    the build's id, `run` the run of the lake that it read, `built_at` when it started (UTC).
    """

    table: pa.Table
    products: pa.Table
    version: str
    run: str
    built_at: datetime


def read_export(lake_path: str, product_ids: tuple[str, ...] = ()) -> Export:
    """Return the current build; with `product_ids`, only the rows of these products.

    Raises CannotRun when nothing is published, or any part of it cannot be read.
    """
    manifest = read_published(lake_path)
    folder = build_path(lake_path, manifest["build"])
    try:
        return Export(
            read_parquet(f"{folder}/product_recommendations.parquet", COLUMNS, product_ids),
            read_parquet(f"{folder}/products.parquet", PRODUCT_COLUMNS, product_ids),
            manifest["build"],
            manifest["run"],
            datetime.fromisoformat(manifest["built_at"]).astimezone(UTC),
        )
    except CannotRun:
        # Was it replaced and removed while it was read?
        if read_published(lake_path)["build"] != manifest["build"]:
            return read_export(lake_path, product_ids)
        raise


def read_published(lake_path: str) -> dict[str, Any]:
    """Return the manifest of the current build; raises CannotRun when there is none."""
    path = pointer_path(lake_path)
    try:
        manifest = read_pointer(lake_path)
        if manifest is None:
            raise CannotRun(f"no recommendations at {path}: run `make build` first")
        return {name: manifest[name] for name in ("build", "run", "built_at")}
    except storage_errors(ValueError, KeyError, TypeError) as error:
        raise CannotRun(f"cannot read {path}: {describe(error)}") from error


def in_order(table: pa.Table) -> pa.Table:
    """Return the rows by product and rank: the table itself as `dbt build` writes it."""
    keys = [(column, "ascending") for column in ("product_id", "recommendation_rank")]
    order = pc.sort_indices(table, keys)
    is_in_order = order.equals(pa.array(np.arange(len(order)), order.type))
    return table if is_in_order else table.take(order)


def answer(
    product_id: str, product_name: str | None, recommendations: list[RecommendationRow]
) -> dict[str, Any]:
    """Return what the lookup and the service say of one product.

    The name is None where the product list has no such product.
    """
    return {
        "product_id": product_id,
        "product_name": product_name,
        "recommendations": recommendations,
    }


def read_parquet(path: str, columns: list[str], product_ids: tuple[str, ...] = ()) -> pa.Table:
    """Return some columns of a Parquet file, of some products where there are `product_ids`.

    Raises CannotRun when it cannot be read. It is read by the plain reader and in this thread
    alone. pyarrow's data sets, which know filters, start threads: those wait for ever on some
    damaged files, and one that starts while the program ends takes it down.
    """
    try:
        fs, name = locate(path)
        file = pq.ParquetFile(BytesIO(fs.cat_file(name)), pre_buffer=False)
        table = file.read(columns, use_threads=False).select(columns)
        table.validate(full=True)  # every value is looked at here, also damaged text
    except storage_errors(ValueError, KeyError, pa.ArrowException) as error:
        raise CannotRun(f"cannot read {path}: {describe(error)}") from error
    if product_ids:
        wanted = pc.is_in(table["product_id"], pa.array(product_ids, pa.string()))
        table = table.filter(wanted)
    return table
