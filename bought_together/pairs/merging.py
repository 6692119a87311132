"""Add up the counts of pairs from several sorted sources: a state, and chunks of baskets."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow.parquet as pq

from bought_together.errors import CannotRun
from bought_together.pairs.kernels import merge_rows
from bought_together.storage.filesystem import locate

Rows = tuple[np.ndarray, ...]  # left products, right products, counts (int32)


class Source:
    """Sorted rows that arrive in batches; what has arrived is taken product by product."""

    def __init__(self, batches: Iterator[Rows], end: int) -> None:
        self.batches = batches
        self.end = end
        self.held: Rows = tuple(np.empty(0, np.int32) for _ in range(3))
        self.read()

    def read(self) -> None:
        """Add a batch to what is held; `last` is then the left product that may go on after it."""
        batch = next(self.batches, None)
        if batch is not None:
            self.held = tuple(map(np.concatenate, zip(self.held, batch, strict=True)))
        self.last = self.end if batch is None else int(self.held[0][-1])

    def take(self, limit: int) -> Rows:
        """Return the rows whose left product is less than `limit`, and hold the others."""
        place = np.searchsorted(self.held[0], limit)
        taken = tuple(column[:place] for column in self.held)
        self.held = tuple(column[place:] for column in self.held)
        return taken


def merged_rows(sources: list[Iterator[Rows]], product_count: int) -> Iterator[Rows]:
    """Yield the sums of the sources' counts, sorted by both products, without those that are 0.

    Raises CannotRun when a sum is below 0.
    """
    totals = np.zeros(product_count + 1, np.int32)
    touched = np.zeros(product_count // 64 + 1, np.uint64)
    end = product_count + 1
    reading = [Source(source, end) for source in sources]
    while any(len(source.held[0]) for source in reading):
        limit = min(source.last for source in reading)
        taken = [source.take(limit) for source in reading]
        columns = tuple(map(np.concatenate, zip(*taken, strict=True)))
        ends = np.cumsum([len(rows[0]) for rows in taken])
        starts = np.concatenate([[0], ends[:-1]])
        merged = tuple(np.empty(len(columns[0]), np.int32) for _ in columns)
        size = merge_rows(*columns, starts, ends, totals, touched, *merged)
        if size < 0:
            raise CannotRun(
                "more pairs were removed than were there: the published state is wrong;"
                " set FULL_REFRESH=1 to count from scratch"
            )
        if size:
            yield tuple(column[:size] for column in merged)
        for source in reading:
            if source.last == limit and limit < end:
                source.read()


def sorted_rows(paths: Iterable[str], low: int, high: int, sign: int = 1) -> Iterator[Rows]:
    """Yield the rows of the left products from `low` to below `high`, a row group at a time.

    The files are sorted, one after the other. Counts are multiplied by `sign`.
    """
    for file, group, first, last in row_groups(paths):
        if first < high and low <= last:
            rows = [column.to_numpy() for column in file.read_row_group(group).columns]
            places = slice(*np.searchsorted(rows[0], [low, high]))
            left, right, counts = (column[places].astype(np.int32) for column in rows)
            if len(left):
                yield left, right, sign * counts


def state_effort(paths: Iterable[str], edges: np.ndarray) -> np.ndarray:
    """Return the number of rows of each range of left products that begins at one of `edges`.

    Roughly: the rows of a row group are taken to be those of its first left product.
    """
    effort = np.zeros(len(edges), np.int64)
    for file, group, first, _ in row_groups(paths):
        place = np.searchsorted(edges, first, side="right") - 1
        effort[place] += file.metadata.row_group(group).num_rows
    return effort


def row_groups(paths: Iterable[str]) -> Iterator[tuple[pq.ParquetFile, int, int, int]]:
    """Yield the row groups of files that are not empty, with the first and last left product."""
    for path in paths:
        fs, name = locate(path)
        with fs.open(name, "rb") as opened, pq.ParquetFile(opened) as file:
            for group in range(file.num_row_groups):
                found = file.metadata.row_group(group)
                if found.num_rows:
                    statistics = found.column(0).statistics
                    yield file, group, statistics.min, statistics.max
