"""A count that continues from a published build gives what a Counter over all baskets gives.

Files come, go, change and are renamed; engines, rules and what is published alternate. dbt itself
does not run here: the models of the SQL engine run on the views that dbt reads.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bought_together.errors import CannotRun
from bought_together.ingest.run import flatten
from bought_together.pairs import merging
from bought_together.pairs.counting_rules import counting_rules
from bought_together.pairs.model_sql import compile_model, project_vars
from bought_together.pairs.run import count_pairs
from bought_together.pairs.state import (
    KEPT_TABLES,
    CountPlan,
    counted_by,
    finish_state,
    plan_count,
)
from bought_together.storage.builds import (
    build_path,
    make_published,
    read_pointer,
    remove_all_older,
)
from bought_together.storage.lake import make_folders, read_current
from bought_together.storage.mount import (
    STATE_TABLES,
    mount_changes,
    mount_count,
    mount_lake,
    mount_state,
)
from scripts.check_refresh import compare
from tests.support import ROOT
from tests.support.oracle import count

PRODUCTS = "abcdefgh"
LARGEST_BASKET = 5
# How a night can end.
PUBLISHED, REFUSED, KILLED = "published", "refused", "killed"
MODELS = {
    "products": "int_products_counted",
    "basket_sizes": "int_baskets_sized",
    "oversized_baskets": "int_baskets_oversized",
    "product_pairs": "int_product_pairs_counted",
}
VIEWS = {
    "lake_line_item_changes": "line_item_changes",
    "lake_input_files": "input_files",
    "lake_products": "products",
    **{f"state_{table}": f"state_{table}" for table in STATE_TABLES},
}
Baskets = list[list[str]]


class Shop:
    """Input files in a folder, and a lake; what should be counted follows from the files alone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lake = folder, folder / "lake"
        (folder / "in").mkdir()
        (folder / "products.txt").write_text("".join(f"{each}\tC\t{each}\n" for each in PRODUCTS))
        self.builds = 0
        self.excluded, self.largest = "", LARGEST_BASKET

    def path(self, name: str) -> Path:
        return self.folder / "in" / f"{name}.txt"

    def write(self, name: str, baskets: Baskets) -> None:
        lines = [
            json.dumps({"itemList": [{"item": item, "quantity": 1} for item in basket]}) + "\n"
            for basket in baskets
        ]
        # Of a file's own, so that no two files have the same content.
        lines.append(json.dumps({"itemList": [{"item": f"only {name}", "quantity": 1}]}) + "\n")
        self.path(name).write_text("".join(lines))

    def baskets(self) -> Iterator[set[str]]:
        for path in (self.folder / "in").iterdir():
            for line in path.read_text().splitlines():
                yield {item["item"] for item in json.loads(line)["itemList"]} - {*self.excluded}

    def expected(self) -> tuple[dict[str, int], dict[tuple[str, str], int], int]:
        """Return the baskets of each product and pair, and the number of oversized baskets."""
        kept = [basket for basket in self.baskets() if len(basket) <= self.largest]
        pairs, singles = count(kept)
        oversized = sum(len(basket) > self.largest for basket in self.baskets())
        return dict(singles), dict(pairs), oversized

    def flatten(self) -> dict[str, Any]:
        return flatten(
            str(self.folder / "in/*.txt"), str(self.folder / "products.txt"), str(self.lake)
        )

    @contextmanager
    def counted(
        self, engine: str, full_refresh: bool = False
    ) -> Iterator[tuple[CountPlan, duckdb.DuckDBPyConnection]]:
        """Count the current run, and yield a connection with the models' rows as tables."""
        lake, run = str(self.lake), read_current(str(self.lake))
        assert run
        rules = counting_rules(ROOT)
        plan = plan_count(lake, run, counted_by(rules, ROOT), full_refresh)
        if engine == "dask":
            count_pairs(lake, project=ROOT, full_refresh=full_refresh)
        with duckdb.connect() as connection:
            mount_lake(connection, lake)
            if engine == "dask":
                mount_count(connection, lake, run)
            else:
                mount_state(connection, plan.state or "", KEPT_TABLES if plan.state else ())
                mount_changes(connection, plan.unchanged, plan.changed)
            for name, view in VIEWS.items():
                connection.execute(f"create view {name} as from lake.{view}")
            variables = project_vars(ROOT) | {"pair_engine": engine}
            for table, model in MODELS.items():
                query = compile_model(model, list(VIEWS), ROOT, variables)
                for name, seed in query.seeds.items():
                    connection.register(name, seed)
                for name, sql in query.views.items():
                    connection.execute(f"create or replace temp view {name} as {sql}")
                connection.execute(f"create table counted_{table} as from {model}")
            yield plan, connection

    def publish(
        self, connection: duckdb.DuckDBPyConnection, engine: str, is_killed: bool = False
    ) -> None:
        """Publish a state as dbt does: of the baskets that are still there.

        A build that is killed has written all its tables, but not moved the pointer.
        """
        lake, run = str(self.lake), read_current(str(self.lake))
        assert run
        self.builds += 1
        build = {"build": f"20240101T{self.builds:06}Z-x", "run": run["run"], "built_at": "2024"}
        folder = build_path(lake, build["build"])
        make_folders(f"{folder}/state", KEPT_TABLES)
        kept = {
            "oversized_baskets": "semi join lake.input_files on order_id >> 40 = number",
            "product_pairs": "order by hash(right_product_number)",  # in no useful order
        }
        for table in KEPT_TABLES:
            if (engine, table) != ("dask", "product_pairs"):
                connection.execute(
                    f"copy (from counted_{table} {kept.get(table, '')})"
                    f" to '{folder}/state/{table}/part-00000.parquet'"
                )
        counted = None
        if engine == "dask":
            counted = connection.sql("select folder from lake.mounted_count").fetchall()[0][0]
        fingerprint = counted_by(counting_rules(ROOT), ROOT)
        state = finish_state(lake, build, {"counted_by": fingerprint, "folder": counted})
        if is_killed:
            return
        assert make_published(lake, build | {"state": state}, {}) is None

    def night(self, engine: str, full_refresh: bool = False, end: str = PUBLISHED) -> CountPlan:
        """Flatten, count and publish; the counts are those of the files as they are."""
        self.flatten()
        with self.counted(engine, full_refresh) as (plan, connection):
            assert found(connection) == self.expected()
            if end != REFUSED:
                self.publish(connection, engine, is_killed=end == KILLED)
        return plan


def found(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[dict[str, int], dict[tuple[str, str], int], int]:
    """Return what was counted as `Shop.expected` does; it holds nothing twice and no zero."""
    products = connection.sql("from counted_products").fetchall()
    ids = {number: product for product, number, _ in products}
    assert len(ids) == len(products)
    rows = connection.sql("from counted_product_pairs").fetchall()
    assert all(left < right for left, right, _ in rows)
    pairs = {tuple(sorted((ids[left], ids[right]))): number for left, right, number in rows}
    assert len(pairs) == len(rows)
    sizes = connection.sql(
        "select product_count, basket_count from counted_basket_sizes"
    ).fetchall()
    singles = {product: number for product, _, number in products}
    assert sum(size * number for size, number in sizes) == sum(singles.values())
    assert sum(size * (size - 1) // 2 * number for size, number in sizes) == sum(pairs.values())
    oversized = connection.sql(
        "from counted_oversized_baskets semi join lake.input_files on order_id >> 40 = number"
    ).fetchall()
    return singles, pairs, len(oversized)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("MAX_BASKET_PRODUCTS", str(LARGEST_BASKET))
    return Shop(tmp_path)


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
        shop = Shop(folder)
        monkeypatch.setattr(
            "bought_together.pairs.model_sql.read_seed",
            lambda _: pa.table({"product_id": pa.array([*shop.excluded], pa.string())}),
        )
        for number in range(6):  # so that a change is a small part of the data
            shop.write(f"base{number}", [*first, list(PRODUCTS[number : number + 3])] * 20)
        published_rules = None
        for changed, engine, end, rules in nights:
            for kind, name, more in changed:
                if kind == "write":
                    shop.write(name, more)
                elif kind == "remove":
                    shop.path(name).unlink(missing_ok=True)
                elif shop.path(name).exists() and not shop.path(more).exists():
                    shop.path(name).rename(shop.path(more))
            shop.excluded, shop.largest = rules
            monkeypatch.setenv("MAX_BASKET_PRODUCTS", str(shop.largest))
            plan = shop.night(engine, end=end)
            assert (plan.state is not None) == (rules == published_rules)
            if end == PUBLISHED:
                published_rules = rules
    finally:
        shutil.rmtree(folder)


def write_months(shop: Shop, months: Iterable[int]) -> None:
    for month in months:
        shop.write(f"m{month}", [list(PRODUCTS[month % 5 : month % 5 + 4])] * (month + 1))


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_only_what_has_changed_is_counted(shop: Shop, engine: str) -> None:
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
def test_a_removed_file_leaves_nothing(shop: Shop, engine: str) -> None:
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
def test_an_oversized_basket_takes_nothing_away_when_it_goes(shop: Shop, engine: str) -> None:
    write_months(shop, range(8))
    shop.write("large", [list(PRODUCTS)])
    shop.night(engine)
    shop.path("large").unlink()
    assert shop.night(engine).state


def test_engines_take_turns_on_one_state(shop: Shop) -> None:
    """The Dask engine merges pairs in order, and those that SQL publishes are in none."""
    write_months(shop, range(8))
    shop.night("duckdb")
    for month, engine in ((8, "dask"), (9, "duckdb"), (10, "dask")):
        write_months(shop, [month])
        assert shop.night(engine).state


def test_pruning_leaves_nothing_of_a_removed_file(shop: Shop) -> None:
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
def test_a_damaged_state_is_left_alone(shop: Shop, damage: str) -> None:
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


def test_other_rules_count_everything(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    write_months(shop, range(8))
    shop.night("duckdb")
    monkeypatch.setenv("MAX_BASKET_PRODUCTS", "4")
    shop.flatten()
    with shop.counted("duckdb") as (plan, _):
        assert plan.summary == "everything: the rules of counting or the program have changed"


def test_a_change_of_most_data_counts_everything(shop: Shop) -> None:
    write_months(shop, range(4))
    shop.night("duckdb")
    write_months(shop, range(4, 12))
    assert shop.night("duckdb").summary == "everything: most of the data has changed"


def test_a_state_with_too_little_is_a_defect(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
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
