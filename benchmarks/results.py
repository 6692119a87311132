"""Summarise the runs: medians, ratios, and the tables that show them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import median

from tabulate import tabulate

from benchmarks.lineup import BASELINE, COUNTING, END_TO_END
from benchmarks.rounds import Entry

HEADERS = {
    END_TO_END: ["contender", "wall s", "CPU s", "peak memory MiB", "ratio of wall time"],
    COUNTING: ["contender", "counting s", "pairs", "peak memory MiB", "ratio of time"],
}


@dataclass(frozen=True)
class Row:
    """The medians of one contender; after a failure it has none."""

    name: str
    is_ours: bool
    failure: str | None = None
    seconds: float | None = None  # wall, of the whole job or of counting alone
    cpu_seconds: float | None = None
    peak_bytes: int | None = None
    pairs: int | None = None
    ratio: float | None = None  # of `seconds` to those of the baseline of the suite


def rows_of(entries: Iterable[Entry], suite: str) -> list[Row]:
    """Return the rows of a suite, the fastest first and failures last."""
    entries = [entry for entry in entries if suite in entry.contender.suites]
    times = {
        entry.contender.name: seconds_of(entry, suite) for entry in entries if not entry.failure
    }
    baseline = times.get(BASELINE[suite])
    rows = [row_of(entry, suite, times.get(entry.contender.name), baseline) for entry in entries]
    return sorted(rows, key=lambda row: (row.seconds is None, row.seconds or 0, row.name))


def seconds_of(entry: Entry, suite: str) -> float:
    timed = entry.countings if suite == COUNTING else entry.runs
    return median(run.seconds for run in timed)


def row_of(entry: Entry, suite: str, seconds: float | None, baseline: float | None) -> Row:
    contender = entry.contender
    if seconds is None:
        return Row(contender.name, contender.is_ours, entry.failure)
    # A job that does more than counting has no memory of its counting alone.
    has_memory = suite == END_TO_END or END_TO_END not in contender.suites
    is_whole = suite == END_TO_END
    return Row(
        name=contender.name,
        is_ours=contender.is_ours,
        seconds=seconds,
        cpu_seconds=median(run.cpu_seconds for run in entry.runs) if is_whole else None,
        peak_bytes=int(median(run.peak_bytes for run in entry.runs)) if has_memory else None,
        pairs=None if is_whole else entry.countings[-1].pairs,
        ratio=seconds / baseline if baseline else None,
    )


def to_table(rows: list[Row], suite: str, style: str) -> str:
    """Return the rows as a table in a style of tabulate; a failure replaces the time."""
    return tabulate(
        [[row.name, *cells_of(row, suite)] for row in rows],
        headers=HEADERS[suite],
        tablefmt=style,
        disable_numparse=True,
        colalign=("left", "right", "right", "right", "right"),
    )


def cells_of(row: Row, suite: str) -> list[str]:
    if row.failure:
        return [row.failure.replace("|", "/"), "", "", ""]
    mebibytes = None if row.peak_bytes is None else row.peak_bytes / 2**20
    return [
        show(row.seconds, ".1f" if suite == END_TO_END else ".2f"),
        show(row.cpu_seconds, ".1f") if suite == END_TO_END else show(row.pairs, ","),
        show(mebibytes, ",.0f"),
        show(row.ratio, ".2f"),
    ]


def show(figure: float | None, form: str) -> str:
    return "" if figure is None else format(figure, form)


def to_json(rows: list[Row], entries: Iterable[Entry], suite: str, about: dict) -> str:
    """Return the facts of the measurement (`about`), the medians and every run behind them."""
    behind = {entry.contender.name: entry for entry in entries}
    contenders = [
        asdict(row)
        | {
            "runs": [asdict(run) for run in behind[row.name].runs],
            "countings": [asdict(run) for run in behind[row.name].countings],
        }
        for row in rows
    ]
    return json.dumps({"suite": suite, **about, "contenders": contenders}, indent=2) + "\n"
