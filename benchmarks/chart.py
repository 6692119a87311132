"""Draw the results: bars of time, with bars of peak memory beside them."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "bought-together",  # the same numbers draw the same file
        "svg.fonttype": "none",  # text stays text
        "font.family": "sans-serif",
        "font.size": 10,
        "text.parse_math": False,
    }
)

import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)
from matplotlib.axes import Axes  # noqa: E402

from benchmarks.results import Row  # noqa: E402

OURS, OTHERS, INK, FAINT = "#d9480f", "#adb5bd", "#212529", "#868e96"
INCHES_A_BAR = 0.34
LONGEST_REASON = 48


def draw(rows: list[Row], title: str, caption: str, time_label: str, path: Path) -> None:
    """Write the chart, with one bar per row from the top down."""
    has_memory = any(row.peak_bytes for row in rows)
    figure, (time_axes, memory_axes) = plt.subplots(
        1,
        2,
        sharey=True,
        figsize=(10, 1.5 + INCHES_A_BAR * len(rows)),
        width_ratios=(3, 1.4),
        layout="constrained",
    )
    seconds = [row.seconds for row in rows]
    longest = max((each for each in seconds if each), default=0)
    draw_bars(time_axes, rows, seconds, "{:,.1f}" if longest >= 10 else "{:,.2f}")
    gibibytes = [row.peak_bytes and row.peak_bytes / 2**30 for row in rows]
    draw_bars(memory_axes, rows, gibibytes, "{:,.2f}")
    for place, row in enumerate(rows):
        if row.failure:
            reason = row.failure[:LONGEST_REASON]
            time_axes.annotate(
                reason, (0, place), (4, 0), textcoords="offset points", va="center", color=FAINT
            )
    time_axes.set_yticks(range(len(rows)), [row.name for row in rows], color=INK)
    for label, row in zip(time_axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.is_ours else "normal")
    time_axes.invert_yaxis()
    time_axes.set_title(time_label, loc="left", fontsize=10, color=INK)
    memory_axes.set_title("peak memory, GiB", loc="left", fontsize=10, color=INK)
    memory_axes.set_visible(has_memory)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=9, color=FAINT)
    figure.savefig(path, format="svg", metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def draw_bars(axes: Axes, rows: list[Row], widths: list[float | None], form: str) -> None:
    """Draw bars with their values at the ends, without axes."""
    colors = [OURS if row.is_ours else OTHERS for row in rows]
    bars = axes.barh(range(len(rows)), [width or 0 for width in widths], 0.68, color=colors)
    labels = ["" if width is None else form.format(width) for width in widths]
    axes.bar_label(bars, labels, padding=4, color=INK)
    axes.margins(x=0.14)
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    axes.spines["left"].set_visible(True)
    axes.spines["left"].set_color(FAINT)
