"""The report as an HTML page, which needs no other file and no script."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bought_together.export.quality import rule_name, verdict
from bought_together.report import charts
from bought_together.report.figures import (
    LEAST_COUNT_OF_LIFT,
    SIZES_SHOWN,
    WEEKS_SHOWN,
    Figures,
)

DASH = "\N{EN DASH}"
FOLDER = Path(__file__).parent / "templates"
EVIDENCE_IN_WORDS = {
    "clear": "clear",
    "weak": "weak: may be chance",
    "one basket": "one basket only",
    "pinned": "pinned by the shop",
    "category": "filled by category",
    "bestseller": "filled by best sellers",
}
CHANGES_IN_WORDS = {
    "unchanged": "unchanged",
    "reordered": "same products, other order",
    "changed": "other products",
    "new": "new: no list before",
    "gone": "gone: no list now",
}
RULES_BY_POPULARITY = ["count", "best_sellers"]


def grouped(number: float) -> str:
    return f"{number:,.0f}"


def share_of(part: float, of_all: float = 1) -> str:
    """Return a share in percent, with one decimal; a dash where there is nothing to share."""
    return f"{part / of_all:.1%}" if of_all else DASH


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def decimal(number: float | None) -> str:
    return DASH if number is None else f"{number:,.2f}"


environment = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.filters |= {
    each.__name__: each for each in (grouped, share_of, counted, decimal, rule_name)
}


def render_report(figures: Figures) -> str:
    """Return the page."""
    shown = {**figures, **worded(figures)}
    return environment.get_template("report.html").render(
        **shown,
        charts=drawn(shown),
        style=Markup((FOLDER / "report.css").read_text("utf-8")),
        least_count_of_lift=LEAST_COUNT_OF_LIFT,
    )


def worded(figures: Figures) -> dict[str, Any]:
    """Return the rows that need words of their own, and the sentence on quality."""
    weeks = figures["baskets_by_week"]
    quality = figures["quality"]
    rules = quality["recommendation_quality"] if quality else []
    return {
        "baskets_by_size": [
            {**row, "products": size_shown(row["products"])} for row in figures["baskets_by_size"]
        ],
        "has_more_weeks": len(weeks) > WEEKS_SHOWN,
        "baskets_by_week": [
            {**row, "next_week": (date.fromisoformat(row["week"]) + timedelta(6)).isoformat()}
            for row in reversed(weeks[:WEEKS_SHOWN])
        ],
        "evidence": [
            {**row, "evidence": EVIDENCE_IN_WORDS.get(row["evidence"], row["evidence"])}
            for row in figures["evidence"]
        ],
        "changes": [
            {**row, "in_words": CHANGES_IN_WORDS[row["list_change"]]} for row in figures["changes"]
        ],
        "coverage_rows": coverage_rows(figures["coverage"]),
        "verdict": verdict(rules) if rules else "",
    }


def size_shown(products: int) -> str:
    return f"{products}+" if products > SIZES_SHOWN else str(products)


def coverage_rows(coverage: dict[str, int]) -> list[dict[str, Any]]:
    sold, listed = coverage["sold"], coverage["listed"]
    rows = [
        ("sold, with a list", coverage["sold_with_list"], sold),
        ("sold, with a full list", coverage["sold_with_full_list"], sold),
        ("listed, recommended somewhere", coverage["listed_recommended"], listed),
    ]
    return [
        {"products": words, "number": number, "of": of, "share": number / of if of else 0}
        for words, number, of in rows
    ]


def drawn(figures: Figures) -> dict[str, Markup]:
    """Return a chart for each part that has rows to draw."""
    found: dict[str, charts.Chart] = {
        "sizes": charts.columns(
            figures["baskets_by_size"], "products", "baskets", "Distinct products in the basket"
        ),
        "popularity": charts.ranks(figures["products_by_rank"]),
        "coverage": charts.bars(figures["coverage_rows"], "products", "share", ".0%"),
        "evidence": charts.bars(figures["evidence"], "evidence", "recommendations"),
    }
    if figures["baskets_by_week"]:
        found["weeks"] = charts.weeks(figures["baskets_by_week"])
    if figures["data"]["published_build"]:
        found["changes"] = charts.bars(figures["changes"], "in_words", "lists")
    if quality := figures["quality"]:
        rules = [
            {**row, "rule": rule_name(row["rule"])} for row in quality["recommendation_quality"]
        ]
        found["quality"] = charts.intervals(rules)
        found["by_popularity"] = charts.deciles(
            [
                {**row, "rule": rule_name(row["rule"])}
                for row in quality["recommendation_quality_by_popularity"]
                if row["rule"] in RULES_BY_POPULARITY
            ],
            list(map(rule_name, RULES_BY_POPULARITY)),
        )
    return {name: charts.svg(chart, name) for name, chart in found.items()}
