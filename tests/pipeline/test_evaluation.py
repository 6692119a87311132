"""The evaluation against an independent computation: sample, real data, small worlds.

The compiled SQL of the models runs here on tables of the test's own: a build for each of fifty
worlds would take minutes.
"""

import json
import random
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

import duckdb
import numpy as np
import pytest

from tests.support import ROOT
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
SETTINGS = {"default": (5, Fraction(1, 5)), "other": (2, Fraction(3, 10))}
FIRST_DAY = datetime(2024, 3, 1)


class Evaluation:
    """The compiled models, on a database of the test's own."""

    def __init__(self, compiled: dict[str, str]) -> None:
        self.compiled = compiled
        self.connection = duckdb.connect()
        self.connection.execute("attach ':memory:' as warehouse; use warehouse")

    def given(self, baskets: Iterable[Basket], catalogue: Iterable[str], gone: str = "") -> None:
        """Make the tables that the models read; with `gone`, also lines of a removed file."""
        baskets = list(baskets)
        products = sorted({product for basket in baskets for product in basket.products})
        numbers = list(range(1, len(products) + 1))
        random.Random(len(products)).shuffle(numbers)
        lines = [
            (basket.order_id, product, 0 if basket.order_id % 2 else 1)
            for basket in baskets
            for product in sorted(basket.products)
        ]
        if gone:
            lines += [(10_000_000 + basket.order_id, product, -1) for basket in baskets for product in basket.products]
        self.table("int_line_items_kept", "order_id bigint, product_id varchar, change integer", lines)
        self.table("stg_line_items", "order_id bigint, ordered_at timestamp", [(basket.order_id, basket.date) for basket in baskets])
        self.table("stg_products", "product_id varchar", [(product,) for product in catalogue])
        self.table("int_products_numbered", "product_id varchar, product_number integer", list(zip(products, numbers, strict=True)))

    def table(self, name: str, columns: str, rows: list[tuple[object, ...]]) -> None:
        self.connection.execute(f"create or replace table {name} ({columns})")
        names = [column.split()[0] for column in columns.split(", ")]
        values = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else None
        if values:
            types = ", ".join(f"unnest(${name}::{kind}[])" for name, kind in (column.split() for column in columns.split(", ")))
            self.connection.execute(f"insert into {name} select {types}", {key: list(found) for key, found in values.items()})

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
    for name, (wanted, share) in SETTINGS.items():
        variables = {"recommendations_per_product": wanted, "evaluation_test_share": float(share)}
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
        evaluation.given(baskets, catalogue, gone="yes")
        evaluation.run()
        expected = evaluate(baskets, catalogue, *SETTINGS[setting])
        assert_same(evaluation.rows(), expected)
        kinds.add(bool(expected[0]))
    assert kinds == {True, False} or setting == "default"
