"""Blocks, pins, the threshold and filled lists against an oracle, in many worlds at once."""

import csv
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pytest

from bought_together.export.lookup import answer_text, names_of, recommendations_of
from bought_together.export.read import read_export
from bought_together.pairs.model_sql import render_jinja
from tests.support import ROOT
from tests.support.oracle import Steering, read_baskets, read_catalogue, steer
from tests.support.shop import Shop
from tests.support.worlds import small_world

WORLDS = 200
WANTED = 5
AS_OF = Steering().as_of
SEEDS = {
    "blocked_recommendations": "product_id,recommended_product_id,starts_on,ends_on,reason",
    "pinned_recommendations": "product_id,recommended_product_id,position,starts_on,ends_on,reason",
    "excluded_products": "product_id,reason",
}


def write_seed(shop: Shop, name: str, rows: Iterable[tuple[Any, ...]]) -> None:
    with (shop.project / f"seeds/{name}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([SEEDS[name].split(","), *rows])


def write_steering(shop: Shop, steering: Steering) -> None:
    write_seed(shop, "blocked_recommendations", steering.blocks)
    write_seed(shop, "pinned_recommendations", steering.pins)
    write_seed(shop, "excluded_products", [(product, "") for product in sorted(steering.excluded)])


def days(chance: random.Random) -> tuple[date | None, date | None]:
    """Return days that are often open, or begin or end on the day itself."""
    first, last = sorted(AS_OF + timedelta(chance.choice([-2, -1, 0, 0, 1, 2])) for _ in range(2))
    return chance.choice([None, first]), chance.choice([None, last])


@dataclass
class Worlds:
    """Two hundred small shops side by side, steered at random; best sellers are those of all."""

    records: list[Any] = field(default_factory=list)
    products: list[str] = field(default_factory=list)
    steering: Steering = field(default_factory=Steering)


def make_worlds() -> Worlds:
    worlds = Worlds()
    steering = worlds.steering
    for seed in range(WORLDS):
        chance = random.Random(seed)
        records, listed = small_world(seed)
        worlds.records += [{"itemList": lines} for lines in records]
        listed += [f"{seed:03}:never sold"] * chance.randint(0, 1)
        worlds.products += [
            f"{product}\t{chance.choice(['', 'shared', f'C{seed}', f'D{seed}'])}\tN {product}"
            for product in listed
        ]
        steering.excluded |= {product for product in listed if chance.random() < 0.05}
        allowed = [product for product in listed if product not in steering.excluded]
        couples = [(left, right) for left in allowed for right in allowed if left != right]
        chance.shuffle(couples)
        pinned = set()
        for product, other in couples[: chance.randint(0, 6)]:
            position = chance.randint(1, WANTED)
            if (product, position) not in pinned:
                pinned.add((product, position))
                steering.pins.append((product, other, position, *days(chance), "a, 'reason'"))
        at_once = {pin[:2] for pin in steering.pins}
        for product, other in couples[: -chance.randint(1, 6) : -1]:
            if (product, other) not in at_once:
                steering.blocks.append((product, other, *days(chance), ""))
        everywhere = chance.choice(listed or [None])
        if everywhere in allowed and not {other for _, other in at_once} & {everywhere}:
            steering.blocks.append((None, everywhere, *days(chance), "everywhere"))
    return worlds


CASES = [
    ("duckdb", {}),
    ("duckdb", {"least": 2, "fill": True, "as_of": AS_OF + timedelta(1)}),
    ("dask", {"least": 2, "fill": True}),
]


@pytest.mark.parametrize(("engine", "settings"), CASES)
def test_steered_worlds(shop: Shop, engine: str, settings: dict[str, Any]) -> None:
    shop = replace(shop, engine=engine)
    shop.copy_project()
    worlds = make_worlds()
    steering = replace(worlds.steering, **settings)
    assert len(steering.pins) > 300 and len(steering.blocks) > 300
    write_steering(shop, steering)
    shop.write_records(worlds.records)
    shop.write_products(worlds.products)
    shop.build(
        AS_OF=steering.as_of, MIN_COPURCHASE_COUNT=steering.least, FILL_SHORT_LISTS=steering.fill
    )
    baskets = list(read_baskets(shop.transactions))
    catalogue = read_catalogue(shop.products)
    expected = steer(baskets, catalogue, steering)
    rows = duckdb.read_parquet(str(shop.export)).fetchall()
    assert len(rows) == len(set(rows))
    assert expected - set(rows) == set()
    assert set(rows) - expected == set()
    sources = Counter(row[-1] for row in rows)
    filled = {"category", "bestseller"} if steering.fill else set()
    assert sources.keys() == {"copurchase", "pinned"} | filled
    if steering.fill:
        assert_filled(rows, baskets, catalogue, steering)
    evidence = duckdb.read_parquet(str(shop.published / "recommendation_evidence.parquet"))
    assert len(evidence) == len(rows)
    assert len(evidence.filter("evidence is not null")) == sources["copurchase"]


def assert_filled(
    rows: list[tuple[Any, ...]],
    baskets: list[set[str]],
    catalogue: dict[str, list[str]],
    steering: Steering,
) -> None:
    """Every product that is listed or was bought has N rows where N candidates exist."""
    bought = set().union(*baskets) - steering.excluded
    lists = Counter(row[0] for row in rows)
    for product in (catalogue.keys() | bought) - steering.excluded:
        candidates = (bought & catalogue.keys()) - {product} - steering.blocked_of(product)
        candidates |= set(steering.pins_of(product).values())
        assert lists[product] == min(WANTED, len(candidates))


def test_the_edits_of_the_docs_have_the_results_of_the_docs(shop: Shop) -> None:
    page = (ROOT / "docs/steering.md").read_text()
    edits = re.findall(r"`seeds/(\w+\.csv)`:\n```csv\n(.*?)```", page, re.DOTALL)
    results = re.findall(r"\$ make lookup PRODUCT=(\d+)\n(.*?)```", page, re.DOTALL)
    assert (len(edits), len(results)) == (2, 3)
    shop.copy_project()
    for name, text in edits:
        (shop.project / "seeds" / name).write_text(text)
    for name in ("transactions", "products"):
        shutil.copy(ROOT / f"data/{name}.txt", shop.folder)
    shop.build(AS_OF="2024-03-15", FILL_SHORT_LISTS="true")
    for product, printed in results:
        export = read_export(str(shop.lake), (product,))
        rows, name = recommendations_of(export)[product], names_of(export)[product]
        assert answer_text(product, name, rows, as_json=False).strip() == printed.strip()


LISTED = ("a", "b", "c", "excluded")
BOUGHT = ("a", "b", "unlisted")
PIN = ("a", "b", 1, None, None, "")
BLOCK = ("a", "b", None, None, "")
TOMORROW, YESTERDAY = AS_OF + timedelta(1), AS_OF - timedelta(1)


def found_in(test: str, blocks: list[Any], pins: list[Any]) -> list[str]:
    """Return the first value of each row that a data test finds, run without dbt."""
    macros = "".join((ROOT / f"macros/{name}.sql").read_text() for name in ("literal", "steering"))
    known = {
        "ref": str,
        "var": {"as_of": str(AS_OF), "recommendations_per_product": WANTED}.__getitem__,
        "return": str,
        "config": lambda **_: "",
    }
    sql = render_jinja(macros + (ROOT / f"tests/dbt/{test}.sql").read_text(), known)
    tables: dict[str, list[Any]] = {
        "blocked_recommendations": blocks,
        "pinned_recommendations": pins,
        "excluded_products": [("excluded", "")],
        "stg_products": [(each, "") for each in LISTED],
        "int_products_keyed": [(each, "") for each in BOUGHT],
    }
    types = {"position": "integer", "starts_on": "date", "ends_on": "date"}
    with duckdb.connect() as connection:
        for table, rows in tables.items():
            columns = SEEDS.get(table, "product_id,x").split(",")
            declared = ", ".join(f"{each} {types.get(each, 'varchar')}" for each in columns)
            connection.execute(f"create table {table} ({declared})")
            marks = ", ".join("?" * len(columns))
            for row in rows:
                connection.execute(f"insert into {table} values ({marks})", row)
        return [row[0] for row in connection.execute(sql).fetchall()]


NOT_LISTED = "is recommended, but is not in the product list or is excluded"
UNKNOWN = "is neither in the product list nor bought, or is excluded"
TWICE = "is pinned twice, or has its position twice"
AT_ONCE = "is pinned and blocked on the same days"
NO_POSITION = "has a position that no list has"
REFUSED = {
    "nothing": ([], [], []),
    "possible": ([("a", "c", None, None, ""), (None, "a", None, None, "")], [PIN], []),
    "of an unlisted product that was bought": ([], [("unlisted", *PIN[1:])], []),
    "pin of an unknown product": ([], [("x", *PIN[1:])], [UNKNOWN]),
    "pin of no product": ([], [(None, *PIN[1:])], [UNKNOWN]),
    "pin of an excluded product": ([], [("excluded", *PIN[1:])], [UNKNOWN]),
    "block of an unknown product": ([("x", *BLOCK[1:])], [], [UNKNOWN]),
    "unknown": ([], [("a", "x", *PIN[2:])], [NOT_LISTED]),
    "unlisted": ([("a", "unlisted", *BLOCK[2:])], [], [NOT_LISTED]),
    "excluded": ([], [("a", "excluded", *PIN[2:])], [NOT_LISTED]),
    "no product": ([("a", None, *BLOCK[2:])], [], [NOT_LISTED]),
    "unknown, but over": ([], [("a", "x", 1, None, YESTERDAY, "")], []),
    "unknown, last day": ([], [("a", "x", 1, None, AS_OF, "")], [NOT_LISTED]),
    "itself": ([], [("a", "a", *PIN[2:])], ["is with itself"]),
    "block of itself": ([("a", "a", *BLOCK[2:])], [], ["is with itself"]),
    "position 0": ([], [("a", "b", 0, None, None, "")], [NO_POSITION]),
    "position 6": ([], [("a", "b", 6, None, None, "")], [NO_POSITION]),
    "no position": ([], [("a", "b", None, None, None, "")], [NO_POSITION]),
    "position twice": ([], [PIN, ("a", "c", 1, AS_OF, None, "")], [TWICE]),
    "position of another": ([], [PIN, ("c", *PIN[1:])], []),
    "product twice": ([], [PIN, ("a", "b", 2, None, None, "")], [TWICE]),
    "the same row twice": ([], [PIN, PIN], [TWICE]),
    "one after the other": (
        [],
        [("a", "b", 1, None, AS_OF, ""), ("a", "c", 1, TOMORROW, None, "")],
        [],
    ),
    "on one day": ([], [("a", "b", 1, None, AS_OF, ""), ("a", "c", 1, AS_OF, None, "")], [TWICE]),
    "pinned and blocked": ([BLOCK], [PIN], [AT_ONCE]),
    "pinned and blocked everywhere": ([(None, *BLOCK[1:])], [PIN], [AT_ONCE]),
    "blocked later": ([("a", "b", TOMORROW, None, "")], [("a", "b", 1, None, AS_OF, "")], []),
    "blocked for another": ([("c", *BLOCK[1:])], [PIN], []),
    "turned around": ([("a", "b", TOMORROW, AS_OF, "")], [], ["ends before it starts"]),
}


@pytest.mark.parametrize(("blocks", "pins", "found"), REFUSED.values(), ids=REFUSED)
def test_steering_that_cannot_be_meant_is_refused(
    blocks: list[Any], pins: list[Any], found: list[str]
) -> None:
    assert found_in("assert_steering_is_possible", blocks, pins) == found


def test_steering_that_is_over_is_warned_about() -> None:
    blocks = [("a", "b", None, day, "") for day in (YESTERDAY, AS_OF, None)]
    pins = [("a", "b", 1, None, day, "") for day in (YESTERDAY, AS_OF, TOMORROW)]
    assert sorted(found_in("warn_steering_over", blocks, pins)) == [
        "blocked_recommendations",
        "pinned_recommendations",
    ]


def test_a_refused_pin_leaves_the_published_table(shop: Shop) -> None:
    """Refused as bad data are: status 1, and one line that says what."""
    shop.copy_project()
    shop.write([["a", "b"], ["a", "b", "c"]], "abc")
    shop.build()
    before = shop.recommendations()
    write_seed(shop, "pinned_recommendations", [("a", "not in the list", 1, None, None, "")])
    built = shop.run("build")
    assert built.returncode == 1, built.stdout + built.stderr
    assert "not in the product list" in built.stdout
    assert shop.recommendations() == before
    today = datetime.now(UTC).date()
    write_seed(
        shop,
        "pinned_recommendations",
        [("c", "a", 1, today, today, ""), ("a", "c", 1, None, today - timedelta(2), "")],
    )
    built = shop.run("build")
    assert built.returncode == 0, built.stdout + built.stderr
    assert "warning" in built.stdout
    assert "counts     everything" not in built.stdout  # a pin changes no count
    pinned = "select product_id, recommended_product_id from product_recommendations"
    assert shop.query(f"{pinned} where recommendation_source = 'pinned'") == [("c", "a")]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("a", "b", "1", "24.12.2026", ""), "starts_on must be a day like 2026-12-24"),
        (("a", "b", "1", "", "2026-02-30"), "ends_on must be a day like 2026-12-24"),
        (("a", "b", "first", "", ""), "position must be a whole number, not first"),
    ],
)
def test_a_value_that_is_no_day_or_number_is_one_line(
    shop: Shop, row: tuple[str, ...], told: str
) -> None:
    shop.copy_project()
    write_seed(shop, "pinned_recommendations", [(*row, "")])
    built = shop.run("build")
    assert built.returncode == 2
    assert "pinned_recommendations.csv, line 2" in built.stderr and told in built.stderr
