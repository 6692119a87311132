"""Read the export of the published build."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bought_together.errors import CannotRun, describe, storage_errors
from bought_together.storage.builds import (
    build_path,
    complete_builds,
    pointer_path,
    read_pointer,
)
from bought_together.storage.filesystem import locate

COLUMNS = [
    "product_id",
    "recommendation_rank",
    "recommended_product_id",
    "recommended_product_name",
    "recommended_category_code",
    "copurchase_count",
]
SOURCE = "recommendation_source"
KEY = ["product_id", "recommendation_rank"]
EVIDENCE = pa.schema(
    [("confidence", pa.float64()), ("lift", pa.float64()), ("evidence", pa.string())]
)
# What an answer says of a recommendation, and the column that it comes from.
FIELDS = {
    "rank": "recommendation_rank",
    "product_id": "recommended_product_id",
    "product_name": "recommended_product_name",
    "category_code": "recommended_category_code",
    "copurchase_count": "copurchase_count",
    "recommendation_source": SOURCE,
    "confidence": "confidence",
    "lift": "lift",
    "evidence": "evidence",
}
PRODUCT_COLUMNS = ["product_id", "product_name", "category_code", "basket_count"]

RecommendationRow = dict[str, Any]


@dataclass(frozen=True)
class Export:
    """One published build.

    `table` has the columns of product_recommendations and EVIDENCE. `products` has product_id,
    product_name and category_code (null for unlisted products) and basket_count of the mart
    products. `version` is the build's id, `run` the run of the lake that it read, and `built_at`
    its start (UTC). `newest_ordered_at` is the newest date of its line items, None for data without
    dates.
    """

    table: pa.Table
    products: pa.Table
    version: str
    run: str
    built_at: datetime
    newest_ordered_at: datetime | None = None


def read_export(lake_path: str, product_ids: tuple[str, ...] = ()) -> Export:
    """Return the current build, or with `product_ids` only the rows of these products.

    Raises CannotRun when nothing is published or a part of it cannot be read.
    """
    manifest = read_published(lake_path)
    try:
        return read_tables(lake_path, manifest, product_ids)
    except CannotRun:
        # The build may have been replaced and removed during the read.
        if read_published(lake_path)["build"] != manifest["build"]:
            return read_export(lake_path, product_ids)
        raise


def read_build(lake_path: str, build: str) -> Export:
    """Return any complete build of the lake; raises CannotRun when the lake does not hold it."""
    held = {manifest["build"]: manifest for manifest in complete_builds(lake_path)}
    if build not in held:
        raise CannotRun(f"{lake_path} holds no build {build}; it holds {', '.join(held) or 'none'}")
    return read_tables(lake_path, held[build], ())


def read_tables(lake_path: str, manifest: dict[str, Any], product_ids: tuple[str, ...]) -> Export:
    folder = build_path(lake_path, manifest["build"])
    return Export(
        read_recommendations(folder, product_ids),
        read_parquet(f"{folder}/products.parquet", PRODUCT_COLUMNS, product_ids),
        manifest["build"],
        manifest["run"],
        datetime.fromisoformat(manifest["built_at"]).astimezone(UTC),
        moment(manifest.get("newest_ordered_at")),
    )


def read_recommendations(folder: str, product_ids: tuple[str, ...]) -> pa.Table:
    """Return a build's recommendations in order, each with its evidence; raises CannotRun.

    A build of a program that knew no evidence has none, and all its rows come from pairs.
    """
    path = f"{folder}/product_recommendations.parquet"
    table = in_order(read_parquet(path, COLUMNS, product_ids, optional=[SOURCE]))
    if SOURCE not in table.column_names:
        table = table.append_column(SOURCE, pa.repeat("copurchase", len(table)))
        evidence = pa.table([pa.nulls(len(table), field.type) for field in EVIDENCE], EVIDENCE)
    else:
        path = f"{folder}/recommendation_evidence.parquet"
        evidence = in_order(read_parquet(path, [*KEY, *EVIDENCE.names], product_ids))
        if not evidence.select(KEY).equals(table.select(KEY)):
            raise CannotRun(f"cannot read {path}: it has other rows than the recommendations")
    for name in EVIDENCE.names:
        table = table.append_column(name, evidence[name])
    return table


def moment(text: str | None) -> datetime | None:
    """Return a date of the manifest, UTC unless it says otherwise.

    None when there is none, or for a year that Python does not know.
    """
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC) if found else None


def data_age(newest_ordered_at: datetime | None) -> int | None:
    """Return the seconds since the newest date of the data, None for data without dates."""
    if newest_ordered_at is None:
        return None
    return round((datetime.now(UTC) - newest_ordered_at).total_seconds())


def data_age_in_words(newest_ordered_at: datetime | None) -> str:
    """Return the newest date of the data and its age in whole hours."""
    seconds = data_age(newest_ordered_at)
    if newest_ordered_at is None or seconds is None:
        return "data without dates"
    return f"newest data {newest_ordered_at:%Y-%m-%d %H:%M:%S} UTC, {seconds // 3600} hours old"


def read_published(lake_path: str) -> dict[str, Any]:
    """Return the manifest of the current build; raises CannotRun when there is none."""
    path = pointer_path(lake_path)
    try:
        manifest = read_pointer(lake_path)
        if manifest is None:
            raise CannotRun(f"no recommendations at {path}: run `make build` first")
        return {
            **{name: manifest[name] for name in ("build", "run", "built_at")},
            "newest_ordered_at": manifest.get("newest_ordered_at"),
        }
    except storage_errors(ValueError, KeyError, TypeError) as error:
        raise CannotRun(f"cannot read {path}: {describe(error)}") from error


def in_order(table: pa.Table) -> pa.Table:
    """Return the rows sorted by product and rank, which is the order that `dbt build` writes."""
    keys = [(column, "ascending") for column in KEY]
    order = pc.sort_indices(table, keys)
    is_in_order = order.equals(pa.array(np.arange(len(order)), order.type))
    return table if is_in_order else table.take(order)


def answer(
    product_id: str, product_name: str | None, recommendations: list[RecommendationRow]
) -> dict[str, Any]:
    """Return the answer of the lookup and the service for one product.

    The name is None for a product that is not in the product list.
    """
    return {
        "product_id": product_id,
        "product_name": product_name,
        "recommendations": recommendations,
    }


def read_parquet(
    path: str,
    columns: list[str],
    product_ids: tuple[str, ...] = (),
    optional: Collection[str] = (),
) -> pa.Table:
    """Return some columns of a Parquet file, or with `product_ids` only the rows of these products.

    `optional` columns are returned where the file has them. Raises CannotRun when it cannot be
    read. The plain reader reads it in this thread. pyarrow's data sets can filter, but start
    threads: those hang on some damaged files, and a thread that starts while the program ends would
    crash it.
    """
    try:
        fs, name = locate(path)
        file = pq.ParquetFile(BytesIO(fs.cat_file(name)), pre_buffer=False)
        columns = columns + [name for name in optional if name in file.schema_arrow.names]
        table = file.read(columns, use_threads=False).select(columns)
        table.validate(full=True)  # checks every value, so damaged text is found here
    except storage_errors(ValueError, KeyError, pa.ArrowException) as error:
        raise CannotRun(f"cannot read {path}: {describe(error)}") from error
    if product_ids:
        wanted = pc.is_in(table["product_id"], pa.array(product_ids, pa.string()))
        table = table.filter(wanted)
    return table
