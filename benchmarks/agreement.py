"""Check that all contenders give the same counts; they may break ties differently."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

TopCounts = dict[str, tuple[int, ...]]

# A product with itself, or the same pair again, is no recommendation and makes the list short.
TOP_COUNTS = """
select
    product_id,
    list(copurchase_count::bigint order by copurchase_count desc)
from (
    select distinct
        product_id,
        recommended_product_id,
        copurchase_count
    from read_parquet(?)
    where product_id <> recommended_product_id
)
group by product_id
"""


@dataclass(frozen=True)
class Counting:
    """The totals of a program that only counts; None where it keeps no pairs."""

    seconds: float
    pairs: int | None = None
    occurrences: int | None = None


def read_top_counts(output: Path) -> TopCounts:
    """Return the counts of each product's recommendations, the highest first."""
    rows = duckdb.connect().execute(TOP_COUNTS, [str(output)]).fetchall()
    return {product_id: tuple(counts) for product_id, counts in rows}


def products_that_differ(expected: TopCounts, found: TopCounts) -> int:
    """Return the number of products whose counts differ, or that only one of the two has."""
    return sum(
        expected.get(product_id) != found.get(product_id)
        for product_id in expected.keys() | found.keys()
    )


def disagreement(expected: TopCounts, found: TopCounts) -> str | None:
    """Return how a contender's top five differ from the expected ones, None if they agree."""
    differing = products_that_differ(expected, found)
    return f"disagrees: {differing:,} products" if differing else None


def counting_disagreement(expected: Counting, found: Counting) -> str | None:
    """Return how the numbers of pairs and occurrences differ, where both sides have them."""
    told = [
        f"{there:,} {what} for {here:,}"
        for what in ("pairs", "occurrences")
        if None not in (here := getattr(expected, what), there := getattr(found, what))
        and here != there
    ]
    return f"disagrees: {', '.join(told)}" if told else None
