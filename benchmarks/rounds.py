"""Run the contenders in turn, and compare each answer with the first one."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from benchmarks.agreement import (
    Counting,
    TopCounts,
    counting_disagreement,
    disagreement,
    read_top_counts,
)
from benchmarks.lineup import Contender
from benchmarks.measure import Measurement, measure

NOT_AN_ANSWER = (OSError, ValueError, LookupError, TypeError, duckdb.Error)


@dataclass(frozen=True)
class Limits:
    seconds: float
    bytes: float


@dataclass
class Entry:
    """A contender and its runs; after a failure it does not run again."""

    contender: Contender
    runs: list[Measurement] = field(default_factory=list)
    countings: list[Counting] = field(default_factory=list)
    failure: str | None = None


@dataclass
class Expected:
    """The answers of the first contender that has one."""

    top_counts: TopCounts | None = None
    counting: Counting | None = None


def run_round(
    entries: list[Entry],
    scratch: Path,
    limits: Limits,
    expected: Expected,
    tell: Callable[[Entry], None] = lambda entry: None,
) -> None:
    """Run each contender that has not failed before once, in an empty scratch folder.

    `tell` is called after each run; the first answers fill `expected`.
    """
    for entry in entries:
        if entry.failure:
            continue
        empty(scratch)
        try:
            run_once(entry, scratch, limits, expected)
        except NOT_AN_ANSWER as error:
            first_line = str(error).split("\n", 1)[0]
            entry.failure = f"failed: {type(error).__name__}: {first_line}"
        tell(entry)
    shutil.rmtree(scratch, ignore_errors=True)


def run_once(entry: Entry, scratch: Path, limits: Limits, expected: Expected) -> None:
    """Run a contender once and keep its measurement; raises NOT_AN_ANSWER without an answer."""
    contender = entry.contender
    environment = os.environ | {"TMPDIR": str(scratch)} | contender.environment
    run = measure(contender.command, environment, scratch, limits.seconds, limits.bytes)
    entry.runs.append(run)
    entry.failure = run.failure
    if entry.failure is None and contender.output:
        found = read_top_counts(scratch / contender.output)
        expected.top_counts = expected.top_counts or found
        entry.failure = disagreement(expected.top_counts, found)
    if entry.failure is None and contender.read_counting:
        counting = contender.read_counting(scratch)
        if counting.pairs is not None:
            expected.counting = expected.counting or counting
        if expected.counting:
            entry.failure = counting_disagreement(expected.counting, counting)
        entry.countings.append(counting)


def empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
