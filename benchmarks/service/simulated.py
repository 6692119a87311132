"""A simulated shop: the lake that builds of it would leave, each version told from the others."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

EXPORT = "product_recommendations.parquet"
RECOMMENDATIONS = 5
FIRST_ID = 10_000_000
# Version n was built n minutes after this, names it in every text, and counts in the n-th million.
FIRST_BUILT = datetime(2026, 1, 1, tzinfo=UTC)
COUNT_STEP = 1_000_000

PRODUCTS = """
create table products as
select
    ($first_id + number)::varchar as product_id,
    'HOME-' || number % 300 || ' v' || $version as category_code,
    (['Enamel', 'Stoneware', 'Linen', 'Oak', 'Bamboo', 'Copper', 'Glass'])[1 + number % 7]
        || ' '
        || (['teapot', 'bread bin', 'table runner', 'serving bowl', 'candlestick'])[1 + number % 5]
        || ', '
        || (['navy blue', 'moss green', 'off-white', 'terracotta'])[1 + number % 4]
        || ', no. ' || number || ' v' || $version as product_name
from range($products) as numbers (number)
"""
LIST = "copy products to $file (format parquet)"
# A prime apart, so that what is recommended lies all over the list. Materialised, since the planner
# would otherwise pair every product with every other first.
RECOMMENDED = """
copy (
    with

    recommended as materialized (
        select
            number,
            rank,
            ($first_id + (number + rank * 7919) % $products)::varchar as product_id
        from range($products) as numbers (number)
        cross join range(1, 1 + $recommendations) as ranks (rank)
    )

    select
        ($first_id + number)::varchar as product_id,
        rank::integer as recommendation_rank,
        products.product_id as recommended_product_id,
        products.product_name as recommended_product_name,
        products.category_code as recommended_category_code,
        ($count_step * $version + 100000 // (number + 1) + 10 - rank)::bigint as copurchase_count
    from recommended
    inner join products on recommended.product_id = products.product_id
    order by 1, 2
) to $file (format parquet, kv_metadata {run: $run, built_at: $built_at})
"""


def write_version(lake: Path, products: int, version: int) -> Path:
    """Write the product list of a run and, beside the lake, the export of its build.

    Returns the export, for `replace_export`.
    """
    run = f"{built_at(version):%Y%m%dT%H%M%S%f}-{version:08}"
    folder = lake / "runs" / run / "products"
    folder.mkdir(parents=True)
    export = lake.parent / f"export-{version}.parquet"
    shop = {"first_id": FIRST_ID, "products": products, "version": version}
    with duckdb.connect() as connection:
        connection.execute(PRODUCTS, shop)
        connection.execute(LIST, {"file": str(folder / "part-00000.parquet")})
        connection.execute(
            RECOMMENDED,
            shop
            | {
                "count_step": COUNT_STEP,
                "recommendations": RECOMMENDATIONS,
                "file": str(export),
                "run": run,
                "built_at": built_at(version).isoformat(),
            },
        )
    return export


def replace_export(lake: Path, export: Path) -> None:
    """Publish a copy of an export to the lake, in one step."""
    unfinished = lake / f"{EXPORT}.unfinished"
    shutil.copy(export, unfinished)
    os.replace(unfinished, lake / EXPORT)


def product_ids(products: int) -> range:
    return range(FIRST_ID, FIRST_ID + products)


def built_at(version: int) -> datetime:
    return FIRST_BUILT + timedelta(minutes=version)


def version_of_name(name: str) -> int:
    """Return the number of a version from its name, which begins with the time of its build."""
    moment = datetime.strptime(name.split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return (moment - FIRST_BUILT) // timedelta(minutes=1)


def version_of_text(text: str) -> int:
    return int(text.rpartition(" v")[2])


def version_of_count(count: int) -> int:
    return count // COUNT_STEP
