"""What has changed since the published build, and why: the model's SQL on rows of a test."""

import duckdb

from bought_together.pairs.model_sql import render_model
from tests.support import ROOT

WANTED = 2
ROWS = "product_id, recommended_product_id, recommendation_rank, copurchase_count"
NOW = """
    ('p', 'b', 1, 9), ('p', 'a', 2, 5),
    ('q', 'fresh', 1, 7), ('q', 'relisted', 2, 6),
    ('r', 'b', 1, 3), ('r', 'a', 2, 2),
    ('s', 'a', 1, 4),
    ('same', 'a', 1, 1),
    ('t', 'a', 1, 4), ('t', 'b', 2, 4),
    ('new list', 'a', 1, 1),
    ('u', 'chosen', 1, 0), ('u', 'a', 2, 9)
"""
BEFORE = """
    ('p', 'a', 1, 5), ('p', 'b', 2, 4),
    ('q', 'delisted', 1, 8), ('q', 'a', 2, 3),
    ('r', 'delisted', 1, 5), ('r', 'b', 2, 3),
    ('s', 'a', 1, 4), ('s', 'b', 2, 1),
    ('same', 'a', 1, 1),
    ('t', 'a', 1, 4),
    ('gone list', 'a', 1, 1),
    ('u', 'unwanted', 1, 10), ('u', 'a', 2, 9)
"""
TABLES = {
    "product_recommendations": f"""
        select *, if(recommended_product_id = 'chosen', 'pinned', 'copurchase')
            as recommendation_source
        from (values {NOW}) as found ({ROWS})
    """,
    "int_recommendations_blocked": """
        select 'u' as product_id, 'unwanted' as recommended_product_id
    """,
    "stg_published_recommendations": f"select * from (values {BEFORE}) as found ({ROWS})",
    "recommendation_changes": """
        select * from (
            values ('p', 'reordered'), ('q', 'changed'), ('r', 'changed'), ('s', 'changed'),
            ('same', 'unchanged'), ('t', 'changed'), ('new list', 'new'), ('gone list', 'gone'),
            ('u', 'changed')
        ) as found (product_id, list_change)
    """,
    "product_changes": """
        select 'fresh' as product_id, 'new' as product_change
        union all select 'delisted', 'gone'
    """,
    "stg_products": """
        select unnest(['a', 'b', 'chosen', 'fresh', 'relisted', 'unwanted']) as product_id
    """,
    "stg_published_products": """
        select unnest(['a', 'b', 'delisted', 'relisted', 'unwanted']) as product_id,
        unnest([true, true, true, false, true]) as is_in_catalogue
    """,
}
MOVES = {
    ("p", "a", 2, 1, "others moved"),
    ("p", "b", 1, 2, "new sales"),
    ("q", "a", None, 2, "others moved"),
    ("q", "delisted", None, 1, "left the product list"),
    ("q", "fresh", 1, None, "new product"),
    ("q", "relisted", 2, None, "joined the product list"),
    ("r", "a", 2, None, "others moved"),  # it takes a place that has become free
    ("r", "b", 1, 2, "others moved"),
    ("r", "delisted", None, 1, "left the product list"),
    ("s", "b", None, 2, "fewer sales"),  # there is room for it
    ("t", "b", 2, None, "new sales"),  # there was room for it
    ("u", "chosen", 1, None, "pin"),
    ("u", "unwanted", None, 1, "block"),
}


def test_each_move_has_its_reason() -> None:
    known = {"ref": str, "var": {"recommendations_per_product": WANTED}.__getitem__}
    sql = render_model(ROOT / "models/marts/recommendation_moves.sql", known)
    with duckdb.connect() as connection:
        for name, select in TABLES.items():
            connection.execute(f"create table {name} as {select}")
        found = connection.sql(sql)
        columns = (
            "product_id, recommended_product_id, recommendation_rank,"
            " published_recommendation_rank, move_reason"
        )
        assert set(found.project(columns).fetchall()) == MOVES
        assert len(found) == len(MOVES)
