"""The report's charts, as SVG in the colours of the page that they stand in."""

import xml.etree.ElementTree as ET
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

ChartRows = list[dict[str, Any]]
Chart = alt.Chart | alt.LayerChart

WIDTH, HEIGHT = 370, 180  # of all that is drawn, and of what is inside the axes
LETTER = 7  # width of a letter of a label; the reader's font is another than that of this machine
SVG = "http://www.w3.org/2000/svg"
# CSS variables of the page: an SVG that is part of it follows its light and dark colours.
FIRST, SECOND, THIRD = "var(--left)", "var(--right)", "var(--third)"
QUIET, LINE, EDGE = "var(--quiet)", "var(--line)", "var(--edge)"
NOT_NEEDED = ("class", "role", "pointer-events", "version")
OPAQUE = ("opacity", "1")


def svg(chart: Chart, name: str) -> Markup:
    """Return a chart as an SVG element whose title has the id `<name>-title`."""
    configured = (
        chart.properties(width=WIDTH, autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
        .configure(background="transparent", aria=False, font="sans-serif", padding=2)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=QUIET,
            titleColor=QUIET,
            gridColor=LINE,
            domainColor=EDGE,
            tickColor=EDGE,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=220,
        )
        .configure_legend(
            labelColor=QUIET, labelFontSize=12, title=None, orient="top", labelLimit=220
        )
    )
    drawn = vl_convert.vegalite_to_svg(configured.to_dict())
    ET.register_namespace("", SVG)
    root = ET.fromstring(drawn)
    tidy(root)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title"}
    return Markup(ET.tostring(root, encoding="unicode"))


def tidy(element: ET.Element) -> None:
    """Remove what Vega draws for its own events, which a third of an SVG consists of."""
    for child in list(element):
        if child.get("class") in ("background", "foreground"):
            element.remove(child)
        else:
            tidy(child)
    for attribute, value in list(element.attrib.items()):
        if attribute in NOT_NEEDED or attribute.startswith("aria-") or (attribute, value) == OPAQUE:
            del element.attrib[attribute]


def data(rows: ChartRows) -> alt.InlineData:
    return alt.InlineData(values=rows)


def axis(title: str | None = None, **extra: Any) -> alt.Axis:
    return alt.Axis(title=title, **extra)


def columns(rows: ChartRows, label: str, value: str, title: str) -> alt.Chart:
    """Return vertical bars in the order of the rows."""
    return (
        alt.Chart(data(rows), height=HEIGHT)
        .mark_bar(color=FIRST)
        .encode(
            x=alt.X(f"{label}:N", sort=None, axis=axis(title, labelAngle=0, labelOverlap=True)),
            y=alt.Y(f"{value}:Q", axis=axis(None, format="~s", tickCount=5)),
        )
    )


def bars(rows: ChartRows, label: str, value: str, form: str = "~s") -> alt.Chart:
    """Return horizontal bars in the order of the rows."""
    return (
        alt.Chart(data(rows), height=alt.Step(26))
        .mark_bar(color=FIRST)
        .encode(
            x=alt.X(f"{value}:Q", axis=axis(None, format=form, tickCount=3, labelOverlap=True)),
            y=names(rows, label),
        )
    )


def names(rows: ChartRows, label: str) -> alt.Y:
    """Return an axis of names, with room for the longest."""
    room = LETTER * max(len(row[label]) for row in rows)
    axis_of_names = axis(None, ticks=False, domain=False, minExtent=room)
    return alt.Y(f"{label}:N", sort=None, axis=axis_of_names)


def weeks(rows: ChartRows) -> alt.Chart:
    form = "%-d %b" if len(rows) <= 26 else "%b %Y"
    return (
        alt.Chart(data(rows), height=HEIGHT)
        .mark_bar(color=FIRST)
        .encode(
            x=alt.X(
                "week:T",
                scale=alt.Scale(type="utc"),
                axis=axis(None, format=form, tickCount=4, grid=False, labelOverlap=True),
            ),
            x2="next_week:T",
            y=alt.Y("baskets:Q", axis=axis(None, format="~s", tickCount=5)),
            y2=alt.datum(0),
        )
    )


def ranks(rows: ChartRows) -> alt.Chart:
    scale = alt.Scale(type="log", nice=False)
    return (
        alt.Chart(data(rows), height=HEIGHT)
        .mark_line(color=FIRST, strokeWidth=2.5, interpolate="monotone")
        .encode(
            x=alt.X("rank:Q", scale=scale, axis=axis("Rank of the product", **POWERS)),
            y=alt.Y("baskets:Q", scale=scale, axis=axis("Baskets with it", **POWERS)),
        )
    )


POWERS: dict[str, Any] = {"format": "~s", "tickCount": 4, "labelOverlap": True}


def intervals(rows: ChartRows) -> alt.LayerChart:
    """Return a point per rule with its 95 % interval."""
    base = alt.Chart(data(rows), height=alt.Step(26)).encode(y=names(rows, "rule"))
    zero = alt.Scale(zero=False)
    hits = alt.X("hit_rate:Q", scale=zero, axis=axis("Hit rate", format=".0%", tickCount=4))
    ends = base.mark_rule(color=FIRST, strokeWidth=2).encode(
        x=alt.X("hit_rate_low:Q", scale=zero), x2="hit_rate_high:Q"
    )
    return ends + base.mark_point(color=FIRST, filled=True, size=70, opacity=1).encode(x=hits)


def deciles(rows: ChartRows, rules: list[str]) -> alt.LayerChart:
    """Return the hit rate by tenth of popularity, a line per rule, at most three."""
    base = alt.Chart(data(rows), height=HEIGHT).encode(
        x=alt.X(
            "popularity_decile:O",
            axis=axis("Tenth of the products, the most popular first", labelAngle=0),
        ),
        y=alt.Y("hit_rate:Q", axis=axis("Hit rate", format=".0%", tickCount=5)),
        color=alt.Color(
            "rule:N",
            sort=None,
            scale=alt.Scale(domain=rules, range=[FIRST, SECOND, THIRD][: len(rules)]),
        ),
        shape=alt.Shape("rule:N", sort=None, scale=alt.Scale(domain=rules)),
    )
    return base.mark_line(strokeWidth=2.5) + base.mark_point(filled=True, size=60, opacity=1)
