"""A simulated shop: builds as a lake publishes them, whose versions can be told apart."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from bought_together.storage.builds import build_path, pointer_path
from bought_together.storage.lake import MANIFEST
from bought_together.storage.pointers import write_json

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
LIST = """
copy (
    select
        product_id,
        product_name,
        category_code,
        ($count_step * ($version + 1) + product_id::bigint * 7919 % 100000)::bigint as basket_count,
        true as is_in_catalogue
    from products
    order by product_id
) to $file (format parquet)
"""
# Recommended products are a prime apart, so they are spread over the whole list. Materialised,
# since the planner would otherwise pair every product with every other first.
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
        ($count_step * $version + 100000 // (number + 1) + 10 - rank)::bigint as copurchase_count,
        'copurchase' as recommendation_source
    from recommended
    inner join products on recommended.product_id = products.product_id
    order by 1, 2
) to $file (format parquet)
"""
EVIDENCE = """
copy (
    select
        product_id,
        recommendation_rank,
        1 / (1 + recommendation_rank) as confidence,
        copurchase_count / 7 as lift,
        'clear' as evidence
    from read_parquet($file)
    order by all
) to $evidence (format parquet)
"""


def write_version(lake: Path, products: int, version: int) -> Path:
    """Write a complete build without publishing it; return its folder for `replace_export`."""
    build = f"{built_at(version):%Y%m%dT%H%M%SZ}-{version:08}"
    folder = Path(build_path(str(lake), build))
    folder.mkdir(parents=True)
    shop = {"first_id": FIRST_ID, "products": products, "version": version}
    counts = {"count_step": COUNT_STEP, "recommendations": RECOMMENDATIONS}
    with duckdb.connect() as connection:
        connection.execute(PRODUCTS, shop)
        listed = {"file": str(folder / "products.parquet"), "version": version}
        connection.execute(LIST, listed | {"count_step": COUNT_STEP})
        target = {"file": str(folder / "product_recommendations.parquet")}
        connection.execute(RECOMMENDED, shop | counts | target)
        evidence = {"evidence": str(folder / "recommendation_evidence.parquet")}
        connection.execute(EVIDENCE, target | evidence)
    manifest = {"build": build, "run": build, "built_at": built_at(version).isoformat()}
    write_json(str(folder / MANIFEST), manifest)
    return folder


def replace_export(lake: Path, folder: Path) -> None:
    """Point the lake's readers to a build, in one step."""
    pointer = Path(pointer_path(str(lake)))
    unfinished = pointer.with_suffix(".unfinished")
    unfinished.write_bytes((folder / MANIFEST).read_bytes())
    os.replace(unfinished, pointer)


def product_ids(products: int) -> range:
    return range(FIRST_ID, FIRST_ID + products)


def built_at(version: int) -> datetime:
    return FIRST_BUILT + timedelta(minutes=version)


def version_of_name(name: str) -> int:
    """Return a version's number, from its name, which begins with the time of its build."""
    moment = datetime.strptime(name.split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return (moment - FIRST_BUILT) // timedelta(minutes=1)


def version_of_text(text: str) -> int:
    return int(text.rpartition(" v")[2])


def version_of_count(count: int) -> int:
    return count // COUNT_STEP
