"""What `dbt build` published: the exported table, and the names of the products it is about."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from itertools import groupby
from operator import itemgetter
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bought_together.errors import CannotRun, describe
from bought_together.ingest.products import PRODUCTS
from bought_together.storage.filesystem import locate, store_errors
from bought_together.storage.lake import EXPORT, read_current, run_path

COLUMNS = [
    "product_id",
    "recommendation_rank",
    "recommended_product_id",
    "recommended_product_name",
    "recommended_category_code",
    "copurchase_count",
]
ROWS_AT_ONCE = 10_000

Recommendation = dict[str, Any]


@dataclass(frozen=True)
class Published:
    """One export.

    `table` has the columns of product_recommendations, `products` those of the product list of
    the same run: product_id, category_code, product_name. `built_at` is when its build began
    (UTC); `version` begins with that time, and differs where a byte of the export does.
    """

    table: pa.Table
    products: pa.Table
    built_at: datetime
    version: str


def read_published(lake_path: str, product_ids: tuple[str, ...] = ()) -> Published:
    """Return the export and its products; with `product_ids`, only of those.

    Raises CannotRun when there is no export or it cannot be read. Names are a courtesy: where the
    product list of that run cannot be read, `products` is what the export itself names.
    """
    path = export_path(lake_path)
    try:
        fs, file_path = locate(path)
        data = fs.cat_file(file_path)
        table = read_parquet(data, COLUMNS, product_ids)
        built_at = build_time(table, fs, file_path)
    except FileNotFoundError:
        raise CannotRun(f"no recommendations at {path}: run `make build` first") from None
    except (*store_errors(), ValueError, KeyError, pa.ArrowException) as error:
        raise CannotRun(f"cannot read {path}: {describe(error)}") from error
    version = f"{built_at:%Y%m%dT%H%M%SZ}-{hashlib.sha256(data).hexdigest()[:8]}"
    products = read_products_of(lake_path, table, product_ids)
    return Published(table, products, built_at, version)


def recommendations_of(published: Published) -> Iterator[tuple[str, list[Recommendation]]]:
    """Yield (product id, its recommendations, best first), in the order of the ids.

    A recommendation has rank, product_id, product_name, category_code and copurchase_count (the
    number of baskets that held both).
    """
    rows = rows_of(in_order(published.table).select(COLUMNS))
    for product_id, group in groupby(rows, key=itemgetter(0)):
        yield (
            product_id,
            [
                {
                    "rank": rank,
                    "product_id": recommended_id,
                    "product_name": product_name,
                    "category_code": category_code,
                    "copurchase_count": copurchase_count,
                }
                for _, rank, recommended_id, product_name, category_code, copurchase_count in group
            ],
        )


def in_order(table: pa.Table) -> pa.Table:
    """Return the rows by product and rank: the table itself as `dbt build` writes it."""
    keys = [(column, "ascending") for column in ("product_id", "recommendation_rank")]
    order = pc.sort_indices(table, keys)
    is_in_order = order.equals(pa.array(np.arange(len(order)), order.type))
    return table if is_in_order else table.take(order)


def rows_of(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        columns = (column.to_numpy(zero_copy_only=False).tolist() for column in batch.columns)
        yield from zip(*columns, strict=True)


def answer(
    product_id: str, product_name: str | None, recommendations: list[Recommendation]
) -> dict[str, Any]:
    """Return what the lookup and the service say of one product.

    The name is None where the product list has no such product.
    """
    return {
        "product_id": product_id,
        "product_name": product_name,
        "recommendations": recommendations,
    }


def names_of(published: Published) -> dict[str, str]:
    """Return product id -> product name."""
    return dict(rows_of(published.products.select(["product_id", "product_name"])))


def export_path(lake_path: str) -> str:
    return f"{lake_path.rstrip('/')}/{EXPORT}"


def build_time(table: pa.Table, fs: fsspec.AbstractFileSystem, file_path: str) -> datetime:
    """Return when the build of this export began; for a file that does not say, when it was
    written."""
    told = (table.schema.metadata or {}).get(b"built_at")
    moment = datetime.fromisoformat(told.decode()) if told else fs.modified(file_path)
    return moment.astimezone(UTC)


def read_products_of(lake_path: str, table: pa.Table, product_ids: tuple[str, ...]) -> pa.Table:
    """Return the product list of the run that an export was built from."""
    try:
        told = (table.schema.metadata or {}).get(b"run")
        run = told.decode() if told else (read_current(lake_path) or {})["run"]
        fs, folder = locate(f"{run_path(lake_path, run)}/products")
        return read_parquet(
            fs.cat_file(f"{folder}/part-00000.parquet"), PRODUCTS.names, product_ids
        )
    except (*store_errors(), ValueError, KeyError, pa.ArrowException):
        return named_by(table)


def named_by(table: pa.Table) -> pa.Table:
    """Return the products that an export recommends, with the names it gives them."""
    names = ["recommended_product_id", "recommended_category_code", "recommended_product_name"]
    distinct = table.select(names).group_by(names, use_threads=False).aggregate([])
    return distinct.rename_columns(PRODUCTS.names)


def read_parquet(data: bytes, columns: list[str], product_ids: tuple[str, ...] = ()) -> pa.Table:
    """Return a Parquet file in memory, of some products where there are `product_ids`.

    Read by the plain reader and in this thread alone. pyarrow's data sets, which know filters,
    start threads: those wait for ever on some damaged files, and one that starts while the
    program ends takes it down.
    """
    file = pq.ParquetFile(BytesIO(data), pre_buffer=False)
    table = file.read(columns, use_threads=False).select(columns)
    table.validate(full=True)  # every value is looked at here, also damaged text
    if product_ids:
        wanted = pc.is_in(table["product_id"], pa.array(product_ids, pa.string()))
        table = table.filter(wanted)
    return table
