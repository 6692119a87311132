"""The recommendations computed another way: a Counter over the combinations of each basket."""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

Row = tuple[str, int, str, str, str, int]


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
