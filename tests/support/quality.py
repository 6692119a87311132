"""An evaluation computed another way: NumPy on a matrix of counts, and textbook formulae."""

import gzip
import json
from collections.abc import Callable, Iterable
from datetime import datetime
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Basket(NamedTuple):
    order_id: int
    date: datetime | None
    products: frozenset[str]


Rows = dict[tuple[object, ...], dict[str, Any]]
Scores = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def x_log_x(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x * np.log(np.maximum(x, 1)), 0)


def likelihood_ratio(c: np.ndarray, a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """Dunning's G2, halved, by entropies; to six decimals, since logarithms are not exact."""
    cells = x_log_x(c) + x_log_x(a - c) + x_log_x(b - c) + x_log_x(n - a - b + c)
    sums = x_log_x(a) + x_log_x(n - a) + x_log_x(b) + x_log_x(n - b)
    return np.round(cells - sums + x_log_x(np.float64(n)), 6)


# c baskets with both, a with the product, b with the other, of n.
RULES: dict[str, Scores] = {
    "count": lambda c, a, b, n: c,
    "leverage": lambda c, a, b, n: np.round(c - a * b / n, 9),
    "cosine": lambda c, a, b, n: c / np.sqrt(a * b),
    "jaccard": lambda c, a, b, n: c / (a + b - c),
    "llr": likelihood_ratio,
    "lift": lambda c, a, b, n: (c / n) / (a / n * b / n),
}


def read_dated_baskets(path: Path) -> list[Basket]:
    """Return the baskets of clean JSON lines, gzipped or not, numbered in their order."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        records = [json.loads(line) for line in file]
    return [
        Basket(
            number,
            datetime.strptime(record["date"], "%Y.%m.%d %H:%M:%S") if record["date"] else None,
            frozenset(
                str(item["item"]).strip()
                for item in record["itemList"]
                if item["quantity"] is None or item["quantity"] > 0
            ),
        )
        for number, record in enumerate(records)
    ]


def split(baskets: Iterable[Basket], share: Fraction) -> tuple[list[Basket], list[Basket]]:
    """Return the training and the test baskets."""
    bought = sorted(basket for basket in baskets if basket.products)
    dated = [basket for basket in bought if basket.date]
    if 10 * len(dated) >= 9 * len(bought):
        dated.sort(key=lambda basket: (basket.date, basket.order_id))
        test = dated[len(dated) - floor(len(dated) * share) :]
    else:
        every = round(1 / share)
        test = bought[every - 1 :: every]
    held_out = set(test)
    return [basket for basket in bought if basket not in held_out], test


def evaluate(
    baskets: Iterable[Basket],
    catalogue: Iterable[str],
    wanted: int = 5,
    share: Fraction = Fraction(1, 5),
) -> tuple[Rows, Rows]:
    """Return the rows of both marts: by rule, and by rule and decile."""
    training, test = split(baskets, share)
    sold = np.array(
        sorted({product for basket in [*training, *test] for product in basket.products}), object
    )
    place = {product: number for number, product in enumerate(sold)}
    counts = np.zeros(len(sold), int)
    for basket in training:
        counts[[place[product] for product in basket.products]] += 1
    # By baskets, then by id: a stable sort keeps the order of ids.
    by_popularity = np.argsort(-counts, kind="stable")
    sold, counts = sold[by_popularity], counts[by_popularity]
    place = {product: number for number, product in enumerate(sold)}
    listed = np.isin(sold, list(catalogue)) if len(sold) else np.zeros(0, bool)

    pairs = np.zeros((len(sold), len(sold)), np.int32)
    for basket in training:
        items = [place[product] for product in basket.products]
        pairs[np.ix_(items, items)] += 1
    np.fill_diagonal(pairs, 0)
    lists = {
        rule: make_lists(score, pairs, counts, listed, len(training), wanted)
        for rule, score in RULES.items()
    }
    sellers = [number for number in np.flatnonzero(listed) if counts[number]]
    lists["best_sellers"] = padded(
        [[each for each in sellers if each != seed][:wanted] for seed in range(len(sold))], wanted
    )

    tested = [
        np.array([place[product] for product in basket.products])
        for basket in test
        if len(basket.products) > 1
    ]
    if not tested:
        return {}, {}
    seeds = np.unique(np.concatenate(tested))
    decile = np.zeros(len(sold), int)
    for number, group in enumerate(np.array_split(seeds, 10), 1):
        decile[group] = number
    ranks = {
        rule: [first_ranks(found[items], items) for items in tested]
        for rule, found in lists.items()
    }
    by_rule, by_decile = {}, {}
    basis = np.array([np.mean(rank > 0) for rank in ranks["count"]])
    best = ceil(np.count_nonzero(counts) / 100)
    for rule, found in lists.items():
        hit_rates = np.array([np.mean(rank > 0) for rank in ranks[rule]])
        reciprocal = [
            np.mean(np.where(rank > 0, 1 / np.maximum(rank, 1), 0)) for rank in ranks[rule]
        ]
        slots = found[found >= 0]
        by_rule[(rule,)] = {
            "baskets": len(tested),
            "seeds": sum(map(len, tested)),
            **interval("hit_rate", "hit_rate", hit_rates),
            **interval("difference_to_count", "difference", hit_rates - basis),
            "mean_reciprocal_rank": np.mean(reciprocal),
            "coverage": len(np.unique(slots)) / max(np.count_nonzero(counts), 1),
            "top_one_percent_share": np.mean(slots < best) if len(slots) else None,
        }
        for number in np.unique(decile[seeds]):
            group = seeds[decile[seeds] == number]
            inside = [decile[items] == number for items in tested]
            rates = [
                np.mean(rank[mine] > 0)
                for rank, mine in zip(ranks[rule], inside, strict=True)
                if mine.any()
            ]
            by_decile[(rule, number)] = {
                "products": len(group),
                "least_basket_count": counts[group].min(),
                "most_basket_count": counts[group].max(),
                "baskets": len(rates),
                "seeds": sum(mine.sum() for mine in inside),
                "hit_rate": np.mean(rates),
            }
    return by_rule, by_decile


def make_lists(
    score: Scores,
    pairs: np.ndarray,
    counts: np.ndarray,
    listed: np.ndarray,
    baskets: int,
    wanted: int,
) -> np.ndarray:
    """Return the lists of all products, -1 where a list ends; ties go to the smaller number."""
    found = []
    for product, row in enumerate(pairs):
        others = np.flatnonzero((row > 0) & listed)
        scores = score(
            row[others].astype(float), float(counts[product]), counts[others].astype(float), baskets
        )
        # To ten digits, so that scores that are equal are equal numbers.
        exponent = np.floor(np.log10(np.maximum(np.abs(scores), 1e-30)))
        rounded = np.round(scores / 10**exponent, 10) * 10**exponent
        found.append(others[np.argsort(-rounded, kind="stable")[:wanted]])
    return padded(found, wanted)


def padded(lists: Iterable[Any], wanted: int) -> np.ndarray:
    return np.array([[*found, *[-1] * (wanted - len(found))] for found in lists], int).reshape(
        -1, wanted
    )


def first_ranks(lists: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the rank of the first item in each list, 0 where there is none."""
    hits = np.isin(lists, items)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)


def interval(name: str, prefix: str, values: np.ndarray) -> dict[str, float | None]:
    mean = np.mean(values)
    if len(values) == 1:
        return {name: mean, f"{prefix}_low": None, f"{prefix}_high": None}
    margin = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return {name: mean, f"{prefix}_low": mean - margin, f"{prefix}_high": mean + margin}
