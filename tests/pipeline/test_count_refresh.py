"""A count that continues from a published build gives what a Counter over all baskets gives.

Files come, go, change and are renamed; engines, rules and what is published alternate. dbt itself
does not run here: the models of the SQL engine run on the views that dbt reads.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bought_together.errors import CannotRun
from bought_together.pairs import merging
from bought_together.pairs.run import count_pairs
from bought_together.storage.builds import build_path, read_pointer, remove_all_older
from scripts.check_refresh import compare
from tests.support import ROOT
from tests.support.counted_shop import (
    KILLED,
    LARGEST_BASKET,
    PRODUCTS,
    PUBLISHED,
    REFUSED,
    Baskets,
    CountedShop,
)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountedShop:
    monkeypatch.setenv("MAX_BASKET_PRODUCTS", str(LARGEST_BASKET))
    return CountedShop(tmp_path)


names = st.sampled_from(["one", "two", "three", "four"])
baskets = st.lists(st.lists(st.sampled_from(PRODUCTS), max_size=7), max_size=6)
changes = st.one_of(
    st.tuples(st.just("write"), names, baskets),
    st.tuples(st.just("remove"), names, st.none()),
    st.tuples(st.just("rename"), names, names),
)
nights = st.lists(
    st.tuples(
        st.lists(changes, max_size=2),
        st.sampled_from(["duckdb", "dask"]),
        st.sampled_from([PUBLISHED, PUBLISHED, PUBLISHED, REFUSED, KILLED]),
        st.sampled_from([("", 5), ("", 5), ("", 5), ("b", 5), ("", 4)]),  # excluded, largest
    ),
    min_size=2,
    max_size=6,
)


@given(first=baskets, nights=nights)
@settings(
    deadline=None,
    derandomize=True,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_sequence_of_nights(
    monkeypatch: pytest.MonkeyPatch, first: Baskets, nights: list[Any]
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        shop = CountedShop(folder)
        monkeypatch.setattr(
            "bought_together.pairs.model_sql.read_seed",
            lambda _: pa.table({"product_id": pa.array([*shop.excluded], pa.string())}),
        )
        for number in range(6):  # so that a change is a small part of the data
            shop.write(f"base{number}", [*first, list(PRODUCTS[number : number + 3])] * 20)
        published_rules = None
        for changed, engine, end, rules in nights:
            for change in changed:
                shop.change(*change)
            shop.excluded, shop.largest = rules
            monkeypatch.setenv("MAX_BASKET_PRODUCTS", str(shop.largest))
            plan = shop.night(engine, end=end)
            assert (plan.state is not None) == (rules == published_rules)
            if end == PUBLISHED:
                published_rules = rules
    finally:
        shutil.rmtree(folder)


def write_months(shop: CountedShop, months: Iterable[int]) -> None:
    for month in months:
        shop.write(f"m{month}", [list(PRODUCTS[month % 5 : month % 5 + 4])] * (month + 1))


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_only_what_has_changed_is_counted(shop: CountedShop, engine: str) -> None:
    write_months(shop, range(8))
    assert shop.night(engine).summary == "everything: nothing is published yet"
    shop.path("m0").unlink()
    shop.write("m8", [["a", "z"]])
    plan = shop.night(engine)
    assert plan.state
    assert "1 file added, 1 removed since build" in plan.summary
    assert [part.change for part in plan.changed] == [1, -1]
    assert not shop.night(engine).changed
    assert shop.night(engine, full_refresh=True).state is None


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_a_removed_file_leaves_nothing(shop: CountedShop, engine: str) -> None:
    """Neither its own products nor its pairs, nor a zero in their place."""
    write_months(shop, range(8))
    shop.write("secret", [["x", "y"], ["x", "a"]])
    shop.night(engine)
    shop.path("secret").unlink()
    assert shop.night(engine).state
    state = Path(build_path(str(shop.lake), read_pointer(str(shop.lake))["build"])) / "state"
    products = duckdb.sql(f"from '{state}/products/*.parquet'").fetchall()
    assert {"x", "y"}.isdisjoint(product for product, _, _ in products)
    assert all(number > 0 for _, _, number in products)
    numbers = {number for _, number, _ in products}
    for left, right, number in duckdb.sql(f"from '{state}/product_pairs/*.parquet'").fetchall():
        assert {left, right} <= numbers
        assert number > 0


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_an_oversized_basket_takes_nothing_when_it_goes(shop: CountedShop, engine: str) -> None:
    write_months(shop, range(8))
    shop.write("large", [list(PRODUCTS)])
    shop.night(engine)
    shop.path("large").unlink()
    assert shop.night(engine).state


def test_engines_take_turns_on_one_state(shop: CountedShop) -> None:
    """The Dask engine merges pairs in order, and those that SQL publishes are in none."""
    write_months(shop, range(8))
    shop.night("duckdb")
    for month, engine in ((8, "dask"), (9, "duckdb"), (10, "dask")):
        write_months(shop, [month])
        assert shop.night(engine).state


def test_pruning_leaves_nothing_of_a_removed_file(shop: CountedShop) -> None:
    write_months(shop, range(8))
    shop.write("secret", [["x", "y"], ["x", "a"]])
    shop.night("dask")
    shop.path("secret").unlink()
    assert shop.night("duckdb").state
    assert "only secret" in texts_in(shop.lake)
    remove_all_older(str(shop.lake))
    assert texts_in(shop.lake).isdisjoint({"only secret", "x", "y"})
    assert not shop.night("dask").changed


def texts_in(lake: Path) -> set[str]:
    """Return every text in any Parquet file of a lake."""
    return {
        value
        for path in lake.rglob("*.parquet")
        for column in pq.read_table(path).columns
        if pa.types.is_string(column.type)
        for value in column.to_pylist()
    }


def test_two_warehouses_are_compared_row_for_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row that is missing, extra, different or there twice is found in every table."""
    tables = {
        "product_recommendations": "product_id",
        "products": "product_id",
        "product_pairs": "product_id",
        "oversized_baskets": "source_file, byte_offset, product_count",
    }
    for table in tables:
        for number, rows in enumerate(([1, 2], [1, 2], [1], [1, 2, 3], [1, 1, 2])):
            path = tmp_path / f"{table}-{number}.duckdb"
            with duckdb.connect(str(path)) as connection:
                for other, columns in tables.items():
                    held = rows if other == table else [1, 2]
                    names = columns.split(", ")
                    values = ", ".join(f"({', '.join([str(row)] * len(names))})" for row in held)
                    connection.execute(
                        f"create table {other} as select * from (values {values}) as t ({columns})"
                    )
        found = []
        for number in range(1, 5):
            with duckdb.connect() as connection:
                paths = (str(tmp_path / f"{table}-{which}.duckdb") for which in (0, number))
                found.append(compare(connection, *paths))
        assert found == [0, 1, 1, 1]
        assert f"{table:24}            2 rows, 1 differ" in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage",
    ["gone", "cut", "no manifest of its run", "no part of its run", "no state", "no file"],
)
def test_a_damaged_state_is_left_alone(shop: CountedShop, damage: str) -> None:
    write_months(shop, range(8))
    shop.night("dask")
    published = read_pointer(str(shop.lake))
    state = Path(build_path(str(shop.lake), published["build"])) / "state"
    if damage == "gone":
        shutil.rmtree(state)
    elif damage == "cut":
        part = next(state.glob("product_pairs/*.parquet"))
        part.write_bytes(part.read_bytes()[:-1])
    elif damage == "no part of its run":
        next(shop.lake.glob("parts/line_items/*.parquet")).unlink()
    elif damage == "no file":
        next(state.glob("basket_sizes/*.parquet")).unlink()
    elif damage == "no manifest of its run":
        (shop.lake / "runs" / published["run"] / "manifest.json").unlink()
    else:
        (shop.lake / "published.json").write_text("{")
    shop.write("m9", [["a", "z"]])
    for engine in ("duckdb", "dask"):
        plan = shop.night(engine, end=REFUSED)
        assert plan.state is None
        assert plan.summary.startswith("everything: ")


def test_other_rules_count_everything(shop: CountedShop, monkeypatch: pytest.MonkeyPatch) -> None:
    write_months(shop, range(8))
    shop.night("duckdb")
    monkeypatch.setenv("MAX_BASKET_PRODUCTS", "4")
    shop.flatten()
    with shop.counted("duckdb") as (plan, _):
        assert plan.summary == "everything: the rules of counting or the program have changed"


def test_a_change_of_most_data_counts_everything(shop: CountedShop) -> None:
    write_months(shop, range(4))
    shop.night("duckdb")
    write_months(shop, range(4, 12))
    assert shop.night("duckdb").summary == "everything: most of the data has changed"


def test_a_state_with_too_little_is_a_defect(
    shop: CountedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count below zero stops the build; no table would show it."""
    write_months(shop, range(8))
    shop.night("dask")
    shop.path("m3").unlink()
    shop.flatten()
    rows = merging.sorted_rows
    monkeypatch.setattr(
        "bought_together.pairs.counting.sorted_rows",
        lambda paths, low, high, sign=1: rows(paths, low, high, 2 * sign if sign < 0 else sign),
    )
    with pytest.raises(CannotRun, match="FULL_REFRESH=1"):
        count_pairs(str(shop.lake), project=ROOT)
