"""The recommendations computed another way: a Counter over the combinations of each basket."""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any

Row = tuple[str, int, str, str, str, int]


@dataclass
class Steering:
    """What merchandisers have set, by default nothing. Days are inclusive, None is open.

    `blocks` are (product or None for all, recommended, first day, last day, reason), and `pins`
    (product, recommended, position, first day, last day, reason).
    """

    as_of: date = date(2026, 6, 15)
    least: int = 1
    fill: bool = False
    blocks: list[tuple[Any, ...]] = field(default_factory=list)
    pins: list[tuple[Any, ...]] = field(default_factory=list)
    excluded: set[str] = field(default_factory=set)

    def is_on(self, first: date | None, last: date | None) -> bool:
        return (first or date.min) <= self.as_of <= (last or date.max)

    def blocked_of(self, product: str) -> set[str]:
        return {
            other
            for of, other, first, last, _ in self.blocks
            if self.is_on(first, last) and of in (product, None)
        }

    def pins_of(self, product: str) -> dict[int, str]:
        return {
            position: other
            for of, other, position, first, last, _ in self.pins
            if self.is_on(first, last) and of == product
        }


def read_baskets(path: Path) -> Iterator[set[str]]:
    """Yield the distinct products bought in each record of clean JSON lines, gzipped or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for line in file:
            yield {
                str(item["item"]).strip()
                for item in json.loads(line)["itemList"]
                if item.get("quantity") is None or item["quantity"] > 0
            }


def read_catalogue(path: Path) -> dict[str, list[str]]:
    """Return product id -> [category code, name] of a clean product list."""
    lines = path.read_text().split("\n")
    rows = ([field.strip() for field in line.split("\t")] for line in lines if line)
    return {product_id: category_and_name for product_id, *category_and_name in rows}


def count(
    baskets: Iterable[set[str]], excluded: Iterable[str] = ()
) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Return baskets per unordered pair (ids ascending) and per product."""
    pairs: Counter[tuple[str, str]] = Counter()
    singles: Counter[str] = Counter()
    for basket in baskets:
        items = sorted(basket - set(excluded))
        singles.update(items)
        pairs.update(combinations(items, 2))
    return pairs, singles


def recommend(
    baskets: Iterable[set[str]],
    catalogue: dict[str, list[str]],
    wanted: int = 5,
    excluded: Iterable[str] = (),
) -> set[Row]:
    """Return the rows that `product_recommendations` must hold, no more and no fewer."""
    pairs, singles = count(baskets, excluded)
    partners: dict[str, list[Any]] = defaultdict(list)
    for (left, right), baskets_with_both in pairs.items():
        for product, other in ((left, right), (right, left)):
            if other in catalogue:
                partners[product].append((-baskets_with_both, -singles[other], other))
    return {
        (product, rank, other, catalogue[other][1], catalogue[other][0], -negative)
        for product, ranked in partners.items()
        for rank, (negative, _, other) in enumerate(sorted(ranked)[:wanted], start=1)
    }


def steer(
    baskets: Iterable[set[str]],
    catalogue: dict[str, list[str]],
    steering: Steering,
    wanted: int = 5,
) -> set[tuple[Any, ...]]:
    """Return the rows that `product_recommendations` must hold, with their source."""
    pairs, singles = count(baskets, steering.excluded)
    together: dict[str, Counter[str]] = defaultdict(Counter)
    of_category: dict[str, Counter[str]] = defaultdict(Counter)
    for (left, right), baskets_with_both in pairs.items():
        for product, other in ((left, right), (right, left)):
            together[product][other] = baskets_with_both
            if category := catalogue.get(product, [""])[0]:
                of_category[category][other] += baskets_with_both

    def best_first(counts: Counter[str]) -> list[str]:
        listed = [other for other in counts if other in catalogue]
        return sorted(listed, key=lambda other: (-counts[other], -singles[other], other))

    rows = set()
    best_sellers = best_first(singles)
    for product in (catalogue.keys() | singles.keys()) - steering.excluded:
        counts, pins = together[product], steering.pins_of(product)
        unwanted = {product, *pins.values(), *steering.blocked_of(product)}
        found = Counter({o: n for o, n in counts.items() if n >= steering.least})
        offers = [("copurchase", best_first(found))]
        if steering.fill:
            category = catalogue.get(product, [""])[0]
            offers += [("category", best_first(of_category[category] if category else Counter()))]
            offers += [("bestseller", best_sellers)]
        chosen: dict[str, str] = {}
        for source, others in offers:
            for other in others:
                if other not in unwanted and len(chosen) + len(pins) < wanted:
                    chosen.setdefault(other, source)
        unpinned = iter(chosen.items())
        listed = [
            (pins[place], "pinned") if place in pins else next(unpinned, None)
            for place in range(1, wanted + 1)
        ]
        rows |= {
            (product, rank, other, *catalogue[other][::-1], counts[other], source)
            for rank, (other, source) in enumerate(filter(None, listed), start=1)
        }
    return rows
