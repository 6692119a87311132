"""The data tests at their thresholds: their SQL, run on rows of the test's own, without dbt."""

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from bought_together.pairs.model_sql import project_vars, render_model
from tests.support import ROOT

DAY, NEXT_DAY = datetime(2024, 3, 1), datetime(2024, 3, 2)
MEASURED = {
    "basket_count": 10,
    "published_basket_count": 10,
    "purchase_count": 100,
    "unlisted_purchase_count": 0,
    "newest_ordered_at": DAY,
    "published_newest_ordered_at": DAY,
}


def failures(test: str, tables: dict[str, str], **variables: object) -> int:
    """Return the number of rows that a data test finds; `tables` are the models that it reads."""
    known = {
        "ref": str,
        "var": (project_vars(ROOT) | variables).__getitem__,
        "flags": SimpleNamespace(EMPTY=False),
    }
    sql = render_model(ROOT / f"tests/dbt/{test}.sql", known)
    with duckdb.connect() as connection:
        for name, select in tables.items():
            connection.execute(f"create table {name} as {select}")
        return len(connection.execute(sql).fetchall())


def of_measures(test: str, measures: dict[str, Any], **variables: object) -> int:
    row = ", ".join(
        f"{'null' if value is None else repr(str(value))}"
        f"::{'timestamp' if name.endswith('_at') else 'bigint'} as {name}"
        for name, value in (MEASURED | measures).items()
    )
    return failures(test, {"int_data_measured": f"select {row}"}, **variables)


LOST, OLDER, LISTED = (
    "assert_baskets_not_lost",
    "assert_data_not_older",
    "assert_most_purchases_listed",
)
GATE = [
    (LOST, {"basket_count": 5}, {}, 0),
    (LOST, {"basket_count": 4}, {}, 1),
    (LOST, {"basket_count": 99}, {}, 0),
    (LOST, {"basket_count": 0, "published_basket_count": None}, {}, 0),
    (LOST, {"basket_count": 9}, {"min_baskets_share": "0.9"}, 0),
    (LOST, {"basket_count": 8}, {"min_baskets_share": "0.9"}, 1),
    (LOST, {"basket_count": 0}, {"min_baskets_share": "0"}, 0),
    (OLDER, {}, {}, 0),
    (OLDER, {"newest_ordered_at": NEXT_DAY}, {}, 0),
    (OLDER, {"published_newest_ordered_at": NEXT_DAY}, {}, 1),
    (OLDER, {"published_newest_ordered_at": NEXT_DAY}, {"allow_older_data": "1"}, 0),
    (OLDER, {"published_newest_ordered_at": None}, {}, 0),
    (OLDER, {"newest_ordered_at": None}, {}, 1),
    (OLDER, {"newest_ordered_at": None}, {"allow_older_data": "1"}, 0),
    (OLDER, {"newest_ordered_at": None, "published_newest_ordered_at": None}, {}, 0),
    (LISTED, {"unlisted_purchase_count": 50}, {}, 0),
    (LISTED, {"unlisted_purchase_count": 51}, {}, 1),
    (LISTED, {"unlisted_purchase_count": 1}, {"max_unlisted_share": "0"}, 1),
    (LISTED, {"unlisted_purchase_count": 100}, {"max_unlisted_share": "1"}, 0),
    (LISTED, {"purchase_count": 0}, {}, 0),
]


@pytest.mark.parametrize(("test", "measures", "variables", "found"), GATE)
def test_the_gate_refuses_what_is_beyond_its_thresholds(
    test: str, measures: dict[str, Any], variables: dict[str, Any], found: int
) -> None:
    assert of_measures(test, measures, **variables) == found


@pytest.mark.parametrize(("rows", "found"), [(0, 1), (1, 0)])
def test_an_empty_table_fails(rows: int, found: int) -> None:
    tables = {"int_recommendations_found": f"select * from range({rows})"}
    assert failures("assert_recommendations_exist", tables) == found


def baskets(*sizes: tuple[int, int]) -> str:
    """Return the rows of so many baskets of so many products, each size in a file of its own."""
    rows = ", ".join(f"({file}, {size}, {count})" for file, (count, size) in enumerate(sizes))
    columns = "file_number, product_count, basket_count"
    return f"select * from (values {rows}) as sizes ({columns}) where basket_count > 0"


LARGEST = {
    "one-dominates": (baskets((1, 100), (999, 2)), {}, 1),
    "exactly-half": (baskets((1, 1000), (999, 2), (1, 999)), {}, 0),
    "a-hundred-dominate": (baskets((100, 100), (900, 2)), {}, 0),
    "one-in-ten-does-not": (baskets((1, 100), (99, 15), (900, 2)), {}, 0),
    "fewer-than-1000": (baskets((1, 100), (998, 2)), {}, 0),
    "two-of-2000": (baskets((2, 100), (1998, 3)), {}, 1),
    "allowed": (baskets((1, 100), (999, 2)), {"largest_baskets_share_warned": 0.9}, 0),
    "none": (baskets((0, 2)), {}, 0),
    "no-pairs": (baskets((1000, 1)), {}, 0),
}


@pytest.mark.parametrize(("rows", "variables", "found"), LARGEST.values(), ids=LARGEST)
def test_a_thousandth_of_the_baskets_that_dominates_is_warned_about(
    rows: str, variables: dict[str, Any], found: int
) -> None:
    tables = {"int_baskets_sized": rows}
    assert failures("warn_largest_baskets_dominate", tables, **variables) == found


@pytest.mark.parametrize(
    ("changed", "unchanged", "found"), [(1, 1, 0), (2, 1, 1), (0, 3, 0), (0, 0, 0)]
)
def test_more_lists_changed_than_half_are_warned_about(
    changed: int, unchanged: int, found: int
) -> None:
    """New and gone lists do not count."""
    changes = ["changed"] * changed + ["unchanged"] * unchanged + ["new", "gone"] * 9
    rows = ", ".join(f"('{each}')" for each in changes)
    tables = {"recommendation_changes": f"select * from (values {rows}) as found (list_change)"}
    assert failures("warn_lists_changed", tables) == found
