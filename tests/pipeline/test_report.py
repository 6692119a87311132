"""The report says what the data hold, is one file that opens offline, and is about one build."""

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bought_together.errors import CannotRun
from bought_together.export.quality import keep_quality
from bought_together.export.read import read_published
from bought_together.report.figures import read_figures
from bought_together.report.page import render_report
from tests.support import ROOT
from tests.support.shop import Shop

HOSTILE = {
    "x1": "</style><script>alert(1)</script> & \"quoted\" 'name' {{ 7 * 7 }}",
    "x2": "<img src=x onerror=alert(2)>",
}
TOGETHER = 60  # baskets with the two, more than with any other pair of the sample
VOID = {"meta", "br", "img", "link", "hr", "input"}
Table = list[list[str]]


def quality() -> dict[str, list[dict[str, Any]]]:
    """An evaluation in which the count beats best sellers by ten points."""
    rules = {"count": (0.4, 0.0), "best_sellers": (0.3, -0.1)}
    return {
        "recommendation_quality": [
            {
                "rule": rule,
                "baskets": 1234,
                "seeds": 5678,
                "hit_rate": rate,
                "hit_rate_low": rate - 0.02,
                "hit_rate_high": rate + 0.02,
                "difference_to_count": difference,
                "difference_low": difference - 0.01 if difference else 0.0,
                "difference_high": difference + 0.01 if difference else 0.0,
                "mean_reciprocal_rank": rate / 2,
                "coverage": 0.5,
                "top_one_percent_share": 0.1,
            }
            for rule, (rate, difference) in rules.items()
        ],
        "recommendation_quality_by_popularity": [
            {"rule": rule, "popularity_decile": decile, "seeds": 10, "hit_rate": 0.01 * decile}
            for rule in rules
            for decile in (1, 2)
        ],
    }


@dataclass
class Report(HTMLParser):
    """What a reader finds in a report, by the elements that it is made of."""

    html: str
    headings: list[tuple[int, str]] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    charts: list[str] = field(default_factory=list)
    charts_without_table: set[str] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)
    elements: Counter[str] = field(default_factory=Counter)
    addresses: list[str] = field(default_factory=list)
    inline: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.caption = ""
        self.section = ""
        self.feed(self.html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements[tag] += 1
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.addresses += [
            f"{name}={value}"
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster")
        ]
        self.inline += [name for name in found if name == "style" or name.startswith("on")]
        if tag == "svg":
            assert found["role"] == "img"
            self.charts.append(str(found["aria-labelledby"]))
            self.charts_without_table.add(self.charts[-1])
        if tag == "table" and any(name == "figure" for name, _ in self.open):
            self.charts_without_table.discard(self.charts[-1])
        if tag in ("h1", "h2", "h3"):
            self.headings.append((int(tag[1]), ""))
        if tag == "caption":
            self.caption = ""
        if tag == "tr":
            self.tables.setdefault(self.caption, []).append([])
        if tag in ("td", "th"):
            self.tables[self.caption][-1].append("")
        if tag not in VOID:
            self.open.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.open]
        if tags and tags[-1] in ("h1", "h2", "h3"):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)
            self.section = text + data if level == 2 else self.section
        elif "caption" in tags:
            self.caption += data
        elif "td" in tags or "th" in tags:
            self.tables[self.caption][-1][-1] += data
        elif "p" in tags:
            self.texts[self.section] = self.texts.get(self.section, "") + data

    def rows(self, caption: str) -> Table:
        return self.tables[caption][1:]

    def says(self, section: str) -> str:
        return " ".join(self.texts[section].split())


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    sample = (ROOT / "data" / "transactions.txt").read_text("utf-8").splitlines()
    dated = {"itemList": [{"item": item} for item in HOSTILE], "date": "2024.03.17 23:59:59"}
    return [*map(json.loads, sample), *[dated] * TOGETHER]


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, dbt_folder: Path, records: list[dict[str, Any]]
) -> Shop:
    """The sample with hostile names and a bad record, built and evaluated."""
    shop = Shop(tmp_path_factory.mktemp("shop"), dbt_folder)
    shop.write_records([*records, "no record"])
    listed = (ROOT / "data" / "products.txt").read_text("utf-8").splitlines()
    shop.write_products([*listed, *(f"{key}\tC\t{name}" for key, name in HOSTILE.items())])
    shop.build(MIN_COPURCHASE_COUNT=2)
    keep_quality(str(shop.lake), read_published(str(shop.lake)), {}, quality())
    return shop


@pytest.fixture(scope="module")
def report(shop: Shop) -> Report:
    finished = shop.run("report")
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stderr
    assert str(shop.published / "report.html") in finished.stdout
    return Report((shop.published / "report.html").read_text("utf-8"))


def test_tables_hold_what_the_records_do(report, records):
    baskets = [
        {line["item"] for line in record["itemList"] if line.get("quantity", 1) > 0}
        for record in records
    ]
    sizes = Counter(len(basket) for basket in baskets if basket)
    assert report.rows("Baskets by number of products") == [
        [str(size), f"{count}"] for size, count in sorted(sizes.items())
    ]
    middle = sorted(sizes.elements())[(sizes.total() - 1) // 2]
    assert (
        f"Half of the {sizes.total()} baskets hold at most {middle} distinct products,"
        f" and the largest holds {max(sizes)}. Of all, {sizes[1]} "
    ) in report.says("Baskets")
    pairs = Counter(pair for basket in baskets for pair in combinations(sorted(basket), 2))
    found = report.rows("Strongest pairs by count")
    assert [int(row[2]) for row in found] == [count for _, count in pairs.most_common(10)]
    assert (found[0][:2], found[0][5]) == ([*HOSTILE.values()], "clear")
    products = Counter(product for basket in baskets for product in basket)
    lifts = {
        pair: count * sum(sizes.values()) / (products[pair[0]] * products[pair[1]])
        for pair, count in pairs.items()
        if count >= 10
    }
    assert [row[4] for row in report.rows("Strongest pairs by lift")] == [
        f"{lift:,.2f}" for lift in sorted(lifts.values(), reverse=True)[:10]
    ]
    ranked = report.rows("Baskets with the product of a rank")
    assert ranked[0] == ["1", str(max(products.values()))]
    assert ranked[-1] == [str(len(products)), str(min(products.values()))]


def test_weeks_begin_on_monday_and_hold_every_basket(report, records):
    days = [
        datetime.strptime(record["date"], "%Y.%m.%d %H:%M:%S").date()
        for record in records
        if any(line.get("quantity", 1) > 0 for line in record["itemList"])
    ]
    weeks = Counter(str(day - timedelta(day.weekday())) for day in days)
    assert report.rows("Baskets by week, from Monday") == [
        [week, f"{count}"] for week, count in sorted(weeks.items())
    ]


def test_what_was_set_aside_and_the_settings_are_named(report):
    assert report.rows("What was set aside, by reason") == [
        ["transactions", "record: not JSON", "1"]
    ]
    assert "1 record and 0 lines of kept records were set aside" in report.says("What came in")
    assert ["min_copurchase_count", "2"] in report.rows("Settings")


def test_lists_and_evidence_are_those_of_the_warehouse(report, shop):
    ((sold, lists),) = shop.query(
        "select count(*), count(list.product_id) from products left join"
        " (select distinct product_id from product_recommendations) as list"
        " using (product_id) where basket_count > 0"
    )
    assert report.rows("Coverage")[0][1:3] == [str(lists), str(sold)]
    evidence = shop.query(
        "select count(*) as rows from recommendation_evidence group by evidence order by rows desc"
    )
    found = report.rows("Recommendations by evidence")
    assert [int(row[1]) for row in found] == [count for (count,) in evidence]


def test_quality_is_that_of_the_build(report):
    told = report.says("How good they are")
    assert "The count beats best sellers (+10.0 points" in told
    assert "1,234 baskets with 5,678 products were held out" in told
    assert report.rows("Hit rate by rule")[1][:3] == ["best sellers", "30.0%", "28.0% to 32.0%"]


def test_the_file_needs_no_other_and_runs_nothing(report):
    assert len(report.html.encode()) < 2_000_000
    assert not {"script", "img", "iframe", "object", "image", "use"} & report.elements.keys()
    assert (report.addresses, report.inline) == (["href=data:,"], [])
    assert "url(" not in report.html.replace("url(#", "")
    assert "@import" not in report.html
    assert report.elements["style"] == 1


def test_headings_are_in_order_and_every_chart_has_a_title_and_a_table(report):
    levels = [level for level, _ in report.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(report.charts) == 7
    assert report.charts_without_table == set()
    assert set(report.charts) <= set(report.ids)
    assert len(report.ids) == len(set(report.ids))


def test_what_a_build_lacks_is_said_in_a_sentence(shop):
    published = read_published(str(shop.lake))
    figures = read_figures(str(shop.warehouse), str(shop.lake), published, {})
    lacking = {"baskets_by_week": [], "quality": None, "settings": None, "pairs_by_lift": []}
    report = Report(render_report({**figures, **lacking}))
    assert "No basket has a date" in report.says("Baskets")
    assert "make evaluate" in report.says("How good they are")
    assert "first build" in report.says("What changed")
    assert "No pair is in so many baskets" in report.says("Strongest pairs")
    assert "did not record" in report.says("Settings in force")
    assert len(report.charts) == 4
    later = {**figures["data"], "published_build": "BUILD"}
    report = Report(render_report({**figures, "data": later}))
    assert "Compared with build BUILD, 0 of 42 lists are unchanged" in report.says("What changed")
    assert report.rows("Lists by change") == [["new: no list before", "42"]]


def test_the_biggest_moves_have_their_reasons(shop):
    published = read_published(str(shop.lake))
    figures = read_figures(str(shop.warehouse), str(shop.lake), published, {})
    assert figures["moves"] == []
    move = {"product": "<b>Bread", "recommended": "Milk", "before": "-", "now": "2"}
    changed = {
        "data": {**figures["data"], "published_build": "before"},
        "changes": [{"list_change": "changed", "lists": 1}],
        "moves": [move | {"move_reason": "new sales"}],
    }
    report = Report(render_report({**figures, **changed}))
    assert report.rows("Biggest moves") == [["<b>Bread", "Milk", "-", "2", "new sales"]]


def test_a_warehouse_of_another_build_is_refused(shop, tmp_path):
    published = read_published(str(shop.lake))
    other = tmp_path / "other.duckdb"
    for change, message in [
        ("update product_recommendations set copurchase_count = 1", "other recommendations"),
        ("create or replace view lake.mounted_run as select 'r' as run", "built from run r"),
    ]:
        shutil.copy(shop.warehouse, other)
        with duckdb.connect(str(other)) as connection:
            connection.execute(change)
        with pytest.raises(CannotRun, match=message):
            read_figures(str(other), str(shop.lake), published, {})
    finished = shop.run("report", DUCKDB_PATH=other)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1
