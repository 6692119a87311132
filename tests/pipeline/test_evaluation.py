"""The evaluation against an independent computation: sample, real data, small worlds.

The compiled SQL of the models runs here on tables of the test's own: a build for each of fifty
worlds would take minutes.
"""

import json
import random
import shutil
from collections.abc import Iterable
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from bought_together.errors import CannotRun
from bought_together.export.quality import verdict
from bought_together.storage.builds import add_to_build
from tests.support import ROOT
from tests.support.exports import LISTED, ROWS, write_export
from tests.support.oracle import read_catalogue
from tests.support.quality import RULES, Basket, Rows, evaluate, read_dated_baskets, split
from tests.support.real_data import real
from tests.support.shop import Shop

MODELS = (
    "int_evaluation_baskets_split",
    "int_evaluation_basket_items",
    "int_evaluation_products_keyed",
    "int_evaluation_pairs_counted",
    "int_evaluation_lists",
    "int_evaluation_seeds_hit",
    "int_evaluation_baskets_scored",
    "recommendation_quality",
    "recommendation_quality_by_popularity",
)
WORLDS = 50
SETTINGS = {"default": (5, Fraction(1, 5), 1), "other": (2, Fraction(3, 10), 2)}
FIRST_DAY = datetime(2024, 3, 1)


class Evaluation:
    """The compiled models, on a database of the test's own."""

    def __init__(self, compiled: dict[str, str]) -> None:
        self.compiled = compiled
        self.connection = duckdb.connect()
        self.connection.execute("attach ':memory:' as warehouse; use warehouse")

    def given(
        self, baskets: Iterable[Basket], catalogue: Iterable[str], gone: bool = False
    ) -> None:
        """Make the tables that the models read; with `gone`, also a removed line per basket."""
        baskets = list(baskets)
        products = sorted({"gone"}.union(*(basket.products for basket in baskets)))
        numbers = list(range(1, len(products) + 1))
        random.Random(len(products)).shuffle(numbers)
        lines = [
            (basket.order_id, product, 0 if basket.order_id % 2 else 1)
            for basket in baskets
            for product in sorted(basket.products)
        ]
        if gone:
            lines += [(basket.order_id, "gone", -1) for basket in baskets]
        self.table(
            "int_line_items_kept", "order_id bigint, product_id varchar, change integer", lines
        )
        self.table(
            "stg_line_items",
            "order_id bigint, ordered_at timestamp",
            [(basket.order_id, basket.date) for basket in baskets],
        )
        self.table("stg_products", "product_id varchar", [(product,) for product in catalogue])
        self.table(
            "int_products_numbered",
            "product_id varchar, product_number integer",
            list(zip(products, numbers, strict=True)),
        )

    def table(self, name: str, columns: str, rows: list[tuple[object, ...]]) -> None:
        self.connection.execute(f"create or replace table {name} ({columns})")
        if rows:
            names = [column.split()[0] for column in columns.split(", ")]
            # As a table of Arrow: DuckDB takes minutes for so many values as parameters.
            given = pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))
            self.connection.register("given", given)
            self.connection.execute(f"insert into {name} from given")

    def run(self, *models: str) -> None:
        for model in models or MODELS:
            self.connection.execute(f"create or replace table {model} as {self.compiled[model]}")

    def rows(self) -> tuple[Rows, Rows]:
        return (
            self.keyed("recommendation_quality", 1),
            self.keyed("recommendation_quality_by_popularity", 2),
        )

    def keyed(self, mart: str, key: int) -> Rows:
        found = self.connection.sql(f"from {mart}")
        return {
            row[:key]: dict(zip(found.columns[key:], row[key:], strict=True))
            for row in found.fetchall()
        }


@pytest.fixture(scope="module")
def compiled(
    tmp_path_factory: pytest.TempPathFactory, dbt_folder: Path
) -> dict[str, dict[str, str]]:
    """The SQL of the models by setting, from dbt."""
    shop = Shop(tmp_path_factory.mktemp("compiled"), dbt_folder)
    found = {}
    for name, (wanted, share, least) in SETTINGS.items():
        variables = {
            "recommendations_per_product": wanted,
            "evaluation_test_share": float(share),
            "min_copurchase_count": least,
        }
        done = shop.dbt("compile", "--selector", "evaluation", "--vars", json.dumps(variables))
        assert done.returncode == 0, done.stdout
        folder = dbt_folder / "target/compiled/bought_together/models/evaluation"
        found[name] = {model: (folder / f"{model}.sql").read_text() for model in MODELS}
    return found


def assert_same(found: tuple[Rows, Rows], expected: tuple[Rows, Rows]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key, row in theirs.items():
            assert without_none(ours[key]) == pytest.approx(
                without_none(row), rel=0, abs=1e-9, nan_ok=True
            ), key


def without_none(row: dict[str, object]) -> dict[str, object]:
    return {name: np.nan if value is None else value for name, value in row.items()}


def small_world(seed: int) -> tuple[list[Basket], list[str]]:
    """Return a small shop full of ties: baskets and listed products.

    In some, all baskets have dates, in some nine in ten or fewer.
    """
    chance = random.Random(seed)
    names = ["a", "B", "é", "0", "01", "z z", "€", "b", "'", "😀", "c", "D", "10", "011", "x"]
    ids = chance.sample(names, chance.randint(1, len(names)))
    dated = chance.choice([1, 0.95, 0.9, 0.8, 0])
    numbers = chance.sample(range(1, 1000), chance.choice([2, 9, 30, 60]))
    baskets = [
        Basket(
            number,
            FIRST_DAY + timedelta(hours=chance.randint(0, 20)) if chance.random() < dated else None,
            frozenset(chance.choices(ids, k=chance.choice([0, 1, 2, 2, 3, 5, 9]))),
        )
        for number in numbers
    ]
    return baskets, [product for product in ids if chance.random() < 0.8]


@pytest.mark.parametrize("setting", SETTINGS)
def test_small_worlds(compiled: dict[str, dict[str, str]], setting: str) -> None:
    evaluation = Evaluation(compiled[setting])
    kinds = set()
    for seed in range(WORLDS):
        baskets, catalogue = small_world(seed)
        evaluation.given(baskets, catalogue, gone=True)
        evaluation.run()
        expected = evaluate(baskets, catalogue, *SETTINGS[setting])
        assert_same(evaluation.rows(), expected)
        kinds.add(bool(expected[0]))
    assert kinds == {True, False}  # some have no basket to test with


@pytest.mark.parametrize("data_set", ["groceries", "online_retail"])
def test_real_data(compiled: dict[str, dict[str, str]], data_set: str) -> None:
    suffix = ".gz" if data_set == "online_retail" else ""
    baskets = read_dated_baskets(real(data_set, f"transactions.txt{suffix}"))
    catalogue = list(read_catalogue(real(data_set, "products.txt")))
    evaluation = Evaluation(compiled["default"])
    evaluation.given(baskets, catalogue)
    evaluation.run()
    expected = evaluate(baskets, catalogue)
    assert_same(evaluation.rows(), expected)
    hits = {rule: row["hit_rate"] for (rule,), row in expected[0].items()}
    assert hits["lift"] < hits["best_sellers"] < hits["count"]


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_make_evaluate_looks_at_what_was_built(
    tmp_path: Path, dbt_folder: Path, engine: str
) -> None:
    shop = Shop(tmp_path, dbt_folder, engine=engine)
    for name in ("transactions", "products"):
        shutil.copy(ROOT / f"data/{name}.txt", shop.folder)
    nothing = shop.run("evaluate")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.startswith("error: no recommendations at ")
    shop.build()
    made = [name for (name,) in shop.query("select table_name from information_schema.tables")]
    assert "product_recommendations" in made
    assert not [name for name in made if "quality" in name or "evaluation" in name]
    published = (shop.lake / "published.json").read_text()
    recommendations = shop.export.read_bytes()
    expected = evaluate(read_dated_baskets(shop.transactions), list(read_catalogue(shop.products)))

    shop.transactions.write_text(json.dumps({"itemList": [{"item": "a"}, {"item": "b"}]}) + "\n")
    assert shop.run("flatten").returncode == 0  # a run that no build has read
    evaluated = shop.run("evaluate")
    assert (evaluated.returncode, evaluated.stderr) == (0, ""), evaluated.stdout
    told = evaluated.stdout.partition("\n\n")[2].strip()
    assert told in (ROOT / "docs/quality.md").read_text()
    assert "\nThe count beats best sellers (+32.4 points" in told
    kept = json.loads((shop.published / "quality.json").read_text())
    assert kept["settings"] == {"evaluation_test_share": 0.2, "recommendations_per_product": 5}
    marts = [(kept[mart], number + 1) for number, mart in enumerate(MODELS[-2:])]
    found = [
        {tuple(row.values())[:key]: dict(list(row.items())[key:]) for row in rows}
        for rows, key in marts
    ]
    assert_same((found[0], found[1]), expected)
    assert (shop.lake / "published.json").read_text() == published
    assert shop.export.read_bytes() == recommendations

    other = json.loads(published) | {"run": "another"}
    (shop.lake / "published.json").write_text(json.dumps(other))
    refused = shop.run("evaluate")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "run `make build` first" in refused.stderr
    assert refused.stderr.count("\n") == 1
    shop.warehouse.unlink()
    assert shop.run("evaluate").stderr.startswith("error: there is no warehouse at ")


def test_a_build_that_is_gone_keeps_no_evaluation(shop: Shop) -> None:
    folder = write_export(shop, ROWS, LISTED)
    assert add_to_build(str(shop.lake), folder.name, "quality.json", {}) == str(
        folder / "quality.json"
    )
    shutil.rmtree(folder)
    with pytest.raises(CannotRun, match=f"holds no build {folder.name} any more$"):
        add_to_build(str(shop.lake), folder.name, "quality.json", {})
    assert not folder.exists()


QUALITY = {
    "rule": "count",
    "hit_rate": 0.5,
    "difference_to_count": 0,
    "difference_low": 0,
    "difference_high": 0,
}
VERDICTS = {
    (-0.1, -0.2, -0.05): "The count beats best sellers (+10.0 points, 95 % interval +5.0 to +20.0)",
    (0.1, 0.05, 0.2): "The count loses to best sellers (-10.0 points, 95 % interval -20.0 to -5.0)",
    (0.1, -0.1, 0.3): "The count is as good as best sellers, within the interval (-10.0 points",
    (
        0.1,
        None,
        None,
    ): "The count is as good as best sellers, within the interval (-10.0 points, 95 %",
}


@pytest.mark.parametrize(("difference", "told"), VERDICTS.items())
def test_the_verdict_is_one_sentence(difference: tuple[float | None, ...], told: str) -> None:
    names = ("difference_to_count", "difference_low", "difference_high")
    sellers = {"rule": "best_sellers", "hit_rate": 0.4, **dict(zip(names, difference, strict=True))}
    said = verdict([QUALITY, sellers])
    assert said.startswith(told)
    is_better = difference[1] is not None and difference[1] > 0
    assert said.endswith("no rule beats the count.") is not is_better
    better = {
        **QUALITY,
        "rule": "some_rule",
        "hit_rate": 0.6,
        "difference_to_count": 0.1,
        "difference_low": 0.05,
        "difference_high": 0.15,
    }
    assert verdict([better, QUALITY, sellers]).endswith(
        ", and some rule beats the count (+10.0 points, 95 % interval +5.0 to +15.0)."
    )


def bundles(chance: random.Random, count: int) -> list[Basket]:
    """Return baskets of three products that are always bought together, of 66 such bundles."""
    return [
        Basket(
            number,
            FIRST_DAY + timedelta(hours=number),
            frozenset(f"{bundle}-{each}" for each in range(3)),
        )
        for number, bundle in enumerate(chance.choices(range(66), k=count))
    ]


def with_test_shuffled(baskets: list[Basket], chance: random.Random) -> list[Basket]:
    """Return the baskets with all products of the test baskets dealt out anew."""
    training, test = split(baskets, Fraction(1, 5))
    products = [product for basket in test for product in sorted(basket.products)]
    dealt = iter(chance.sample(products, len(products)))
    return training + [
        basket._replace(products=frozenset(next(dealt) for _ in basket.products)) for basket in test
    ]


def hit_rates(evaluation: Evaluation, baskets: list[Basket]) -> dict[str, float]:
    evaluation.given(baskets, {product for basket in baskets for product in basket.products})
    evaluation.run()
    return {rule: row["hit_rate"] for (rule,), row in evaluation.rows()[0].items()}


def test_shuffled_test_baskets_are_hit_by_chance(compiled: dict[str, dict[str, str]]) -> None:
    """Without what the test baskets say of themselves, only popularity is left."""
    evaluation, chance = Evaluation(compiled["default"]), random.Random(0)
    baskets = bundles(chance, 2000)
    hits = hit_rates(evaluation, baskets)
    shuffled = hit_rates(evaluation, with_test_shuffled(baskets, chance))
    # Two products, each of which is one of the two in the list of 197 others.
    by_chance = 1 - (195 / 197) ** 2
    for rule in RULES:
        assert hits[rule] == 1
        assert shuffled[rule] == pytest.approx(by_chance, abs=0.015), rule
    assert shuffled["best_sellers"] == pytest.approx(hits["best_sellers"], abs=0.03)


def test_a_leak_would_be_seen(compiled: dict[str, dict[str, str]]) -> None:
    """Pairs of test baskets among those that make the lists bring back what was shuffled away."""
    leaking = dict(compiled["default"])
    pairs = leaking["int_evaluation_pairs_counted"]
    leaking["int_evaluation_pairs_counted"] = pairs.replace("where not is_test", "")
    chance = random.Random(0)
    shuffled = hit_rates(Evaluation(leaking), with_test_shuffled(bundles(chance, 2000), chance))
    assert all(shuffled[rule] > 0.2 for rule in RULES)


def test_intervals_hold_the_true_figure_in_95_of_100_samples(
    compiled: dict[str, dict[str, str]],
) -> None:
    """Many samples of test baskets from one shop, whose true figures are those of all of them."""
    samples, size, training = 300, 100, 500
    chance = random.Random(0)
    weights = [1 / (1 + number) for number in range(60)]
    baskets = []
    for number in range(training + samples * size):
        first = chance.choices(range(60), weights)[0]
        near = [
            (first + step) % 60 for step in chance.sample(range(1, 9), chance.choice([0, 1, 2]))
        ]
        far = chance.choices(range(60), weights, k=chance.choice([1, 1, 3]))
        baskets.append(Basket(number, None, frozenset(map(str, [first, *near, *far]))))
    evaluation = Evaluation(compiled["default"])
    evaluation.given(baskets, {product for basket in baskets for product in basket.products})
    evaluation.table(
        "int_evaluation_baskets_split",
        "order_id bigint, is_test boolean",
        [(basket.order_id, basket.order_id >= training) for basket in baskets],
    )
    evaluation.run(*MODELS[1:-1])
    true = evaluation.keyed("recommendation_quality", 1)
    evaluation.connection.execute(
        "create table scored_baskets as from int_evaluation_baskets_scored"
    )
    held = {"hit_rate": 0, "difference": 0}
    for sample in range(samples):
        first = training + sample * size
        evaluation.connection.execute(
            "create or replace table int_evaluation_baskets_scored as from scored_baskets"
            f" where order_id >= {first} and order_id < {first + size}"
        )
        evaluation.run("recommendation_quality")
        found = evaluation.keyed("recommendation_quality", 1)
        for name, rule, figure in (
            ("hit_rate", "count", "hit_rate"),
            ("difference", "best_sellers", "difference_to_count"),
        ):
            row = found[(rule,)]
            held[name] += row[f"{name}_low"] <= true[(rule,)][figure] <= row[f"{name}_high"]
    for name, count in held.items():
        assert 0.92 <= count / samples <= 0.98, (name, count / samples)
