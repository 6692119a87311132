"""How good the recommendations are: an evaluation as people read it, kept beside its build.

The figures are those of the marts recommendation_quality and recommendation_quality_by_popularity;
docs/quality.md has the protocol.
"""

from pathlib import Path
from typing import Any

import duckdb
from tabulate import tabulate

from bought_together.errors import CannotRun, describe
from bought_together.storage.builds import Manifest, add_to_build

QUALITY = "quality.json"
MARTS_OF_QUALITY = {
    # Means that are equal may differ in their last digit.
    "recommendation_quality": "round(hit_rate, 9) desc, rule",
    "recommendation_quality_by_popularity": "rule, popularity_decile",
}
Quality = dict[str, Any]


def check_warehouse(warehouse: str, published: Manifest) -> None:
    """Raise CannotRun where a warehouse has not been built from the published build's run."""
    if not Path(warehouse).exists():
        raise CannotRun(f"there is no warehouse at {warehouse}: run `make build` first")
    try:
        with duckdb.connect(warehouse, read_only=True) as connection:
            ((run,),) = connection.sql("select run from lake.mounted_run").fetchall()
    except duckdb.Error as error:
        raise CannotRun(f"cannot read the warehouse {warehouse}: {describe(error)}") from error
    if run != published["run"]:
        raise CannotRun(
            f"the warehouse {warehouse} was built from run {run}, and the published build"
            f" {published['build']} from run {published['run']}: run `make build` first"
        )


def read_quality(warehouse: str) -> dict[str, list[Quality]]:
    """Return the rows of the marts, by mart.

    Raises CannotRun where no basket could be held out.
    """
    with duckdb.connect(warehouse, read_only=True) as connection:
        found = {
            mart: quality_rows(connection, f"from {mart} order by {order}")
            for mart, order in MARTS_OF_QUALITY.items()
        }
    if not found["recommendation_quality"]:
        raise CannotRun(
            "there is nothing to evaluate: no basket that was held out has two products"
        )
    return found


def quality_rows(
    connection: duckdb.DuckDBPyConnection, sql: str, given: dict[str, Any] | None = None
) -> list[Quality]:
    found = connection.sql(sql, params=given)
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def keep_quality(
    lake_path: str,
    published: Manifest,
    settings: dict[str, Any],
    quality: dict[str, list[Quality]],
) -> str:
    """Write an evaluation beside the build that it is about, and return its path.

    `settings` are the vars that it depends on. Raises CannotRun when the build is gone.
    """
    return add_to_build(lake_path, published["build"], QUALITY, {"settings": settings, **quality})


def quality_table(rows: list[Quality]) -> str:
    """Return the mart recommendation_quality as a text table, in percent."""
    return tabulate(
        [
            [
                rule_name(row["rule"]),
                in_percent(row["hit_rate"]),
                interval(row["hit_rate_low"], row["hit_rate_high"], in_percent),
                "" if row["rule"] == "count" else points(row["difference_to_count"]),
                ""
                if row["rule"] == "count"
                else interval(row["difference_low"], row["difference_high"], points),
                in_percent(row["mean_reciprocal_rank"]),
                in_percent(row["coverage"]),
                in_percent(row["top_one_percent_share"]),
            ]
            for row in rows
        ],
        headers=["rule", "hits %", "95 %", "to count", "95 %", "MRR %", "coverage %", "top 1 %"],
        disable_numparse=True,
        colalign=["left", *["right"] * 7],
    )


def verdict(rows: list[Quality]) -> str:
    """Return in one sentence whether the count beats best sellers, and what beats the count.

    One beats the other where the interval of their difference leaves out zero.
    """
    by_rule = {row["rule"]: row for row in rows}
    sellers = turned(by_rule["best_sellers"])
    first = f"The count {beats(sellers)} ({described(sellers)})"
    better = [row for row in rows if (row["difference_low"] or 0) > 0]
    if not better:
        return f"{first}, and no rule beats the count."
    best = max(better, key=lambda row: row["hit_rate"])
    return f"{first}, and {rule_name(best['rule'])} beats the count ({described(best)})."


def turned(row: Quality) -> Quality:
    """Return a row with the difference of the count to the rule, not of the rule to the count."""
    names = ("difference_to_count", "difference_high", "difference_low")
    difference, low, high = (None if row[name] is None else -row[name] for name in names)
    return {
        **row,
        "difference_to_count": difference,
        "difference_low": low,
        "difference_high": high,
    }


def beats(row: Quality) -> str:
    if (row["difference_low"] or 0) > 0:
        return "beats best sellers"
    if (row["difference_high"] or 0) < 0:
        return "loses to best sellers"
    return "is as good as best sellers, within the interval"


def described(row: Quality) -> str:
    ends = interval(row["difference_low"], row["difference_high"], points)
    return f"{points(row['difference_to_count'])} points, 95 % interval {ends}"


def rule_name(rule: str) -> str:
    return rule.replace("_", " ")


def in_percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f}"


def interval(low: float | None, high: float | None, shown: Any) -> str:
    return "unknown" if low is None or high is None else f"{shown(low)} to {shown(high)}"
