"""What the report says of a build, read from its warehouse and from what is kept beside it.

The queries only add up for display: every rule is that of a model.
"""

from typing import Any

import duckdb

from bought_together.errors import CannotRun, describe
from bought_together.export.quality import QUALITY, check_warehouse, quality_rows
from bought_together.pairs.model_sql import sign_in_for
from bought_together.storage.builds import RUN_RESULTS, Manifest, build_path
from bought_together.storage.duckdb_s3 import literal
from bought_together.storage.lake import MANIFEST, run_path
from bought_together.storage.mount import parquet_glob
from bought_together.storage.pointers import read_json

Figures = dict[str, Any]

PAIRS_SHOWN = 10
SIZES_SHOWN = 20  # one by one; larger baskets are shown together
WEEKS_SHOWN = 104
MOVES_SHOWN = 10
# In fewer baskets, the highest lifts are those of accidents.
LEAST_COUNT_OF_LIFT = 10

SINGLE_ROWS = {
    "data": "from int_data_measured",
    "sizes": """
        select
            sum(basket_count)::bigint as baskets,
            coalesce(sum(basket_count) filter (where product_count = 1), 0)::bigint as singles,
            min(product_count) filter (where 2 * up_to >= of_all) as median,
            max(product_count) as largest
        from (
            select
                product_count,
                basket_count,
                sum(basket_count) over (order by product_count) as up_to,
                sum(basket_count) over () as of_all
            from (
                select product_count, sum(basket_count) as basket_count
                from int_baskets_sized
                group by product_count
                having sum(basket_count) > 0
            )
        )
    """,
    "popularity": """
        select
            count(*) as products,
            sum(basket_count)::bigint as purchases,
            ceil(count(*) / 100)::bigint as one_percent,
            sum(basket_count) filter (where place <= ceil(product_count / 100))
            / sum(basket_count) as one_percent_share,
            median(basket_count)::bigint as median_baskets
        from (
            select
                basket_count,
                row_number() over (order by basket_count desc, product_id asc) as place,
                count(*) over () as product_count
            from products
            where basket_count > 0
        )
    """,
    "coverage": """
        select
            count(*) filter (where basket_count > 0) as sold,
            count(*) filter (where basket_count > 0 and rows >= 1) as sold_with_list,
            count(*) filter (where basket_count > 0 and rows >= longest) as sold_with_full_list,
            count(*) filter (where is_in_catalogue) as listed,
            count(*) filter (where is_in_catalogue and is_recommended) as listed_recommended,
            max(longest) as longest
        from (
            select
                products.*,
                coalesce(lists.rows, 0) as rows,
                coalesce(max(lists.rows) over (), 0) as longest,
                recommended.product_id is not null as is_recommended
            from products
            left join (
                select product_id, count(*) as rows
                from product_recommendations
                group by product_id
            ) as lists on products.product_id = lists.product_id
            left join (
                select distinct recommended_product_id as product_id
                from product_recommendations
            ) as recommended on products.product_id = recommended.product_id
        )
    """,
    "steering": """
        select
            (select count(*) from pinned_recommendations) as pinned,
            (select count(*) from blocked_recommendations) as blocked,
            (select count(*) from excluded_products) as excluded
    """,
}
TABLES = {
    "rejects": """
        select source, reason, count(*) as rejected
        from stg_rejects
        group by source, reason
        order by rejected desc, source, reason
    """,
    "baskets_by_size": f"""
        select
            least(product_count, {SIZES_SHOWN + 1}) as products,
            sum(basket_count)::bigint as baskets
        from int_baskets_sized
        group by least(product_count, {SIZES_SHOWN + 1})
        having sum(basket_count) > 0
        order by products
    """,
    "baskets_by_week": f"""
        select week::date::varchar as week, count(*) as baskets
        from (
            select order_id, date_trunc('week', max(ordered_at)) as week
            from stg_line_items
            semi join (from int_line_items_kept where change >= 0) using (order_id)
            group by order_id
        )
        where week is not null
        group by week
        order by week desc
        limit {WEEKS_SHOWN + 1}
    """,
    # About 20 ranks per power of ten, which is all that a chart on two logarithmic axes can show.
    "products_by_rank": """
        select place as rank, basket_count as baskets
        from (
            select
                basket_count,
                row_number() over (order by basket_count desc, product_id asc) as place,
                count(*) over () as product_count
            from products
            where basket_count > 0
        )
        where
            place in (1, product_count)
            or floor(20 * log10(place)) > floor(20 * log10(place - 1))
        order by place
    """,
    "evidence": """
        select
            coalesce(evidence, recommendation_source) as evidence,
            count(*) as recommendations
        from recommendation_evidence
        inner join product_recommendations using (product_id, recommendation_rank)
        group by all
        order by recommendations desc, evidence
    """,
    "changes": """
        select list_change, count(*) as lists
        from recommendation_changes
        group by list_change
        order by lists desc, list_change
    """,
    # The lists of the best sellers first; a product outside a list is one below its end.
    "moves": f"""
        select
            coalesce(nullif(product.product_name, ''), product_id) as product,
            coalesce(nullif(other.product_name, ''), recommended_product_id) as recommended,
            coalesce(published_recommendation_rank::varchar, '-') as before,
            coalesce(recommendation_rank::varchar, '-') as now,
            move_reason
        from recommendation_moves
        inner join products as product using (product_id)
        left join products as other on recommended_product_id = other.product_id
        order by
            abs(
                coalesce(recommendation_rank, max(recommendation_rank) over () + 1)
                - coalesce(published_recommendation_rank, max(recommendation_rank) over () + 1)
            ) desc nulls last,
            product.basket_count desc,
            product_id,
            recommended_product_id
        limit {MOVES_SHOWN}
    """,
}
# Both directions of a pair have the same count and lift, so one of them goes only when the
# strongest are found: to drop it before, DuckDB compares every product with every other.
STRONGEST_PAIRS = f"""
    with strongest as materialized (
        select *
        from product_pairs
        where copurchase_count >= $least_count
        order by
            {{measure}} desc,
            copurchase_count desc,
            least(product_id, other_product_id),
            greatest(product_id, other_product_id)
        limit {2 * PAIRS_SHOWN}
    )
    select *
    from strongest
    where product_id < other_product_id
    order by {{measure}} desc, copurchase_count desc, product_id, other_product_id
"""
# Of all other pairs, nothing needs to be named or measured.
LEAST_COUNT_SHOWN = f"""
    select coalesce(min(copurchase_count), 1)
    from (
        select copurchase_count
        from int_product_pairs_counted
        order by copurchase_count desc
        limit {PAIRS_SHOWN}
    )
"""


def read_figures(
    warehouse: str, lake_path: str, published: Manifest, limits: dict[str, str]
) -> Figures:
    """Return the figures of the published build; `limits` are those of DuckDB.

    Raises CannotRun where the warehouse holds another build, or cannot be read.
    """
    check_warehouse(warehouse, published)
    folder = build_path(lake_path, published["build"])
    try:
        with duckdb.connect(warehouse, read_only=True, config=dict(limits)) as connection:
            sign_in_for(connection, lake_path)
            check_recommendations(connection, warehouse, folder, published)
            tables = {name: quality_rows(connection, sql) for name, sql in TABLES.items()}
            ((least_shown,),) = connection.sql(LEAST_COUNT_SHOWN).fetchall()
            for measure, least_count in (
                ("copurchase_count", least_shown),
                ("lift", LEAST_COUNT_OF_LIFT),
            ):
                sql = STRONGEST_PAIRS.format(measure=measure)
                given = {"least_count": least_count}
                tables[f"pairs_by_{measure}"] = quality_rows(connection, sql, given)
            single = {name: quality_rows(connection, sql)[0] for name, sql in SINGLE_ROWS.items()}
    except duckdb.Error as error:
        raise CannotRun(f"cannot read the warehouse {warehouse}: {describe(error)}") from error
    run = read_json(f"{run_path(lake_path, published['run'])}/{MANIFEST}") or {}
    return {
        "build": published,
        "counts": run.get("counts"),
        "settings": (read_json(f"{folder}/{RUN_RESULTS}") or {}).get("settings"),
        "quality": read_json(f"{folder}/{QUALITY}"),
        **tables,
        **single,
    }


def check_recommendations(
    connection: duckdb.DuckDBPyConnection, warehouse: str, folder: str, published: Manifest
) -> None:
    """Raise CannotRun where the lists of a warehouse are not those of the published build.

    Two builds of one run differ where a setting has changed in between.
    """
    file = literal(parquet_glob(f"{folder}/product_recommendations.parquet"))
    ours, theirs = "from product_recommendations", f"from read_parquet({file})"
    ((different,),) = connection.sql(
        f"select exists(({ours} except all {theirs}) union all ({theirs} except all {ours}))"
    ).fetchall()
    if different:
        raise CannotRun(
            f"the warehouse {warehouse} holds other recommendations than the published build"
            f" {published['build']}: run `make build` first"
        )
