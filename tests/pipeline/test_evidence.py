"""Evidence against an independent computation, scipy's: the sample, real data, small numbers."""

import random
import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy.stats import chi2_contingency
from scipy.stats.contingency import expected_freq

from bought_together.pairs.model_sql import render_jinja
from tests.support import ROOT
from tests.support.oracle import read_baskets
from tests.support.real_data import real
from tests.support.shop import Shop

COLUMNS = (
    "total_basket_count, basket_count, {other}_basket_count, copurchase_count, support, confidence,"
    " expected_count, lift, log_likelihood_ratio, evidence"
)
SAMPLED = 1_000


def expected_measures(total: int, with_left: int, with_right: int, with_both: int) -> list[Any]:
    """Return support, confidence, expected count, lift, signed log-likelihood ratio, evidence."""
    table = np.array(
        [
            [with_both, with_left - with_both],
            [with_right - with_both, total - with_left - with_right + with_both],
        ]
    )
    expected = expected_freq(table)[0, 0]
    has_all_margins = 0 < with_left < total and 0 < with_right < total
    ratio, chance = 0.0, 1.0
    if has_all_margins:
        found = chi2_contingency(table, correction=False, lambda_="log-likelihood")
        ratio, chance = found.statistic, found.pvalue
    is_above = with_both > expected
    evidence = "clear" if is_above and chance < 0.01 else "weak"
    return [
        with_both / total,
        with_both / with_left if with_left else None,
        expected,
        with_both / expected if expected else None,
        ratio if is_above else -ratio,
        "one basket" if with_both == 1 else evidence,
    ]


def assert_measured(rows: list[tuple[Any, ...]]) -> None:
    """Compare the measures of rows with COLUMNS with those of their counts."""
    assert rows
    for row in rows:
        counts, measures, evidence = row[:4], row[4:-1], row[-1]
        *expected, expected_evidence = expected_measures(*counts)
        assert [value is None for value in measures] == [value is None for value in expected]
        np.testing.assert_allclose(
            np.array(measures, float), np.array(expected, float), rtol=1e-9, atol=1e-9
        )
        assert evidence == expected_evidence, row


def published(shop: Shop, mart: str) -> duckdb.DuckDBPyRelation:
    return duckdb.read_parquet(str(shop.published / f"{mart}.parquet"))


def assert_evidence(shop: Shop, transactions: Path) -> dict[str, int]:
    """Compare the published evidence, and that of some pairs; returns the rows of each class.

    The counts of pairs are those of the recommendations, which have an oracle of their own.
    """
    singles: Counter[str] = Counter()
    for basket in read_baskets(transactions):
        singles.update(basket)
    total = sum(1 for basket in read_baskets(transactions) if basket)
    key = "product_id, recommendation_rank, recommended_product_id, copurchase_count"
    rows = published(shop, "recommendation_evidence")
    recommendations = published(shop, "product_recommendations")
    assert rows.project(key).order("all").fetchall() == (
        recommendations.project(key).order("all").fetchall()
    )
    columns = COLUMNS.format(other="recommended")
    measured = rows.project(f"product_id, recommended_product_id, {columns}").fetchall()
    for left, right, *counts in measured:
        assert counts[:3] == [total, singles[left], singles[right]]
    assert_measured([row[2:] for row in random.Random(0).sample(measured, min(SAMPLED, len(rows)))])
    assert_measured(
        shop.query(
            f"select {COLUMNS.format(other='other')} from product_pairs"
            f" where product_id = (select max(product_id) from products) limit {SAMPLED}"
        )
    )
    return dict(rows.aggregate("evidence, count(*)").fetchall())


def test_sample(shop: Shop) -> None:
    transactions = ROOT / "data/transactions.txt"
    shop.build(TRANSACTIONS=transactions, PRODUCTS=ROOT / "data/products.txt")
    classes = assert_evidence(shop, transactions)
    page = (ROOT / "docs/evidence.md").read_text()
    told = re.search(r"has (\d+) clear rows, (\d+) weak ones and (\d+) of one basket", page)
    assert classes == dict(
        zip(("clear", "weak", "one basket"), map(int, told.groups()), strict=True)
    )
    example = dict(re.findall(r"^\| `(\w+)` \|.*\| (?:.* = )?([^|]+) \|$", page, re.MULTILINE))
    (found,) = (
        published(shop, "recommendation_evidence")
        .filter("product_id = '5010' and recommended_product_id = '3010'")
        .project("* exclude (product_id, recommended_product_id, recommendation_rank)")
        .fetchall()
    )
    rounded = [str(round(value, 3)) if isinstance(value, float) else str(value) for value in found]
    assert list(example.values()) == rounded


@pytest.mark.parametrize(
    ("data_set", "transactions", "classes"),
    [
        ("groceries", "transactions.txt", {"one basket": 19, "weak": 387, "clear": 439}),
        (
            "online_retail",
            "transactions.txt.gz",
            {"one basket": 1187, "weak": 888, "clear": 17468},
        ),
    ],
)
def test_real_data(shop: Shop, data_set: str, transactions: str, classes: dict[str, int]) -> None:
    path = real(data_set, transactions)
    shop.build(TRANSACTIONS=path, PRODUCTS=real(data_set, "products.txt"))
    assert assert_evidence(shop, path) == classes


def test_every_table_of_few_baskets() -> None:
    """Empty cells, products in all baskets or in none, counts exactly as expected."""
    tables = [
        (total, left, right, both)
        for total in range(1, 9)
        for left, right, both in product(range(total + 1), repeat=3)
        if max(0, left + right - total) <= both <= min(left, right)
    ]
    macros = (ROOT / "macros/evidence.sql").read_text()
    sql = (
        "select total_basket_count, basket_count, other_basket_count, copurchase_count,"
        " {{ evidence_measures('other_basket_count') }}, {{ evidence_class() }} as evidence"
        " from counted"
    )
    with duckdb.connect() as connection:
        names = "total_basket_count, basket_count, other_basket_count, copurchase_count"
        values = ", ".join(map(str, tables))
        connection.execute(f"create table counted as from (values {values}) as t ({names})")
        assert_measured(connection.execute(render_jinja(macros + sql, {})).fetchall())
