"""Turn the columns of kept records into rows of the table `line_items`."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bought_together.errors import CannotRun
from bought_together.ingest.record_rules import Basket
from bought_together.storage.lake import ORDER_ID_OFFSET_BITS

LINE_ITEMS = pa.schema(
    [
        ("order_id", pa.int64()),
        ("product_id", pa.string()),
        ("quantity", pa.float64()),
        ("ordered_at", pa.timestamp("us")),
        ("store_id", pa.string()),
    ]
)
# Where an order id is mapped.
ORDER_LINES = LINE_ITEMS.append(pa.field("order_key", pa.string())).append(
    pa.field("is_cancelled", pa.bool_())
)
# What is left of a signed 64-bit integer.
FILE_NUMBER_LIMIT = 1 << (63 - ORDER_ID_OFFSET_BITS)


@dataclass
class Flattened:
    """The result of one block: rows, rejects and counts.

    The line numbers in `rejects` count from the first line of the block.
    """

    line_items: list[pa.Table] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Flattened") -> None:
        self.line_items += other.line_items
        self.rejects += other.rejects
        self.counts += other.counts


@dataclass
class Columns:
    """Kept records as columns.

    `order_ids`, `line_counts`, `dates` and `store_ids` have one entry per record, in input order;
    `product_ids` and `quantities` have one entry per line, record by record.
    """

    order_ids: np.ndarray
    line_counts: np.ndarray
    dates: pa.Array
    store_ids: pa.Array
    product_ids: pa.Array
    quantities: pa.Array
    order_keys: pa.Array | None = None
    are_cancelled: pa.Array | None = None


def as_columns(baskets: list[Basket], ids: np.ndarray, orders: bool = False) -> Columns:
    """Return baskets as columns, with the keys of their `orders` where these are mapped."""
    return Columns(
        order_ids=ids,
        line_counts=np.array([len(basket.product_ids) for basket in baskets], "int64"),
        dates=pa.array([basket.date for basket in baskets], pa.string()),
        store_ids=pa.array([basket.store_id for basket in baskets], pa.string()),
        product_ids=pa.array([i for basket in baskets for i in basket.product_ids], pa.string()),
        quantities=pa.array([q for basket in baskets for q in basket.quantities], pa.float64()),
        order_keys=pa.array([basket.order_key for basket in baskets], pa.string())
        if orders
        else None,
        are_cancelled=pa.array([basket.is_cancelled for basket in baskets], pa.bool_()),
    )


def order_ids(file_number: int, places: np.ndarray) -> np.ndarray:
    """Return `file number << 40 | place` (int64), a key that leads back to the record.

    Raises CannotRun when a place does not fit in 40 bits.
    """
    if len(places) and int(places.max()) >> ORDER_ID_OFFSET_BITS:
        raise CannotRun("a file of TRANSACTIONS is larger than 1 TiB: split it")
    return places.astype("int64") | (file_number << ORDER_ID_OFFSET_BITS)


def assemble(
    columns: Columns, read_dates: Callable[[pa.Array], pa.Array] | None = None
) -> Flattened:
    """Turn kept records into rows of `LINE_ITEMS` and their counts; dates are as `read_dates` says.

    Rows of records whose order has a key are those of `ORDER_LINES`.
    """
    ordered_at = (read_dates or parse_dates)(columns.dates)
    record_of_line = np.repeat(np.arange(len(columns.line_counts)), columns.line_counts)
    table = pa.table(
        [
            pa.array(columns.order_ids[record_of_line]),
            columns.product_ids.dictionary_encode(),
            columns.quantities,
            ordered_at.take(pa.array(record_of_line)),
            columns.store_ids.dictionary_encode().take(pa.array(record_of_line)),
        ],
        names=LINE_ITEMS.names,
    )
    if columns.order_keys is not None and columns.are_cancelled is not None:
        lines = pa.array(record_of_line)
        table = table.append_column("order_key", columns.order_keys.take(lines))
        table = table.append_column("is_cancelled", columns.are_cancelled.take(lines))
    counts = Counter(
        lines_written=table.num_rows,
        dates_missing=columns.dates.null_count,
        dates_unreadable=ordered_at.null_count - columns.dates.null_count,
    )
    return Flattened([table], [], counts)


def parse_dates(text: pa.Array) -> pa.Array:
    """Return `YYYY.MM.DD HH:MM:SS` as timestamp[us], null for a missing or impossible date."""
    pattern = r"^\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d$"
    year_zero = pc.starts_with(text, "0000")
    is_date = pc.and_not(pc.match_substring_regex(text, pattern), year_zero)
    well_formed = pc.if_else(is_date, text, None)
    iso = pc.replace_substring(well_formed, ".", "-")
    try:
        return iso.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return pa.array([parse_date(value) for value in iso], pa.timestamp("us"))


def parse_date(iso: pa.StringScalar) -> pa.TimestampScalar | None:
    try:
        return iso.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None
