"""Turn order lines, a row each, into rows of the table `line_items` with the key of their order.

Whatever format the rows come from, this module holds every reason for setting one aside.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bought_together.errors import CannotRun
from bought_together.ingest.line_items import ORDER_LINES, Flattened, order_ids
from bought_together.ingest.mapped_dates import as_times, parse_mapped_dates
from bought_together.ingest.mapped_records import NUMBER, SEPARATOR, with_point
from bought_together.ingest.mapping import Condition, FieldName, OrderMapping
from bought_together.ingest.record_rules import PLAIN_ID, clean_id, clean_text
from bought_together.ingest.reject_rows import reject

LARGEST_EXACT = 1 << 53
# The texts of a column are hardly repeated when this share of its first ones is not.
SAMPLE, DISTINCT = 20_000, 0.9
NOT_UTF8 = "record: not UTF-8"
BYTES_OR_TEXT = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
)


@dataclass
class TableRows:
    """Rows of a table as columns.

    `places` holds where each row is in its file, `line_numbers` its line in the range, None in
    formats without lines. `fields` has a column per field of the mapping, bytes where the format
    has no types. `raw_text` returns the text of one row, for rejects.
    """

    places: np.ndarray
    line_numbers: np.ndarray | None
    fields: dict[FieldName, pa.Array]
    raw_text: Callable[[int], bytes]
    encoding: str = "utf-8"


def no_column(path: str, field: FieldName, names: list[str]) -> CannotRun:
    there = clean_text(", ".join(names[:20])) + (", …" if len(names) > 20 else "")
    return CannotRun(
        f"{path} has no column {field}; it has {there}:"
        " `python scripts/inspect_input.py` shows what it sees in a file"
    )


class Rejections:
    """Why rows are set aside: the first reason of each row counts."""

    def __init__(self, count: int) -> None:
        self.reasons: list[str] = []
        self.of_row = np.full(count, -1)

    def add(self, reason: str, rows: np.ndarray) -> None:
        """Note a reason for the rows of a mask."""
        if rows.any():
            self.of_row[rows & (self.of_row < 0)] = len(self.reasons)
            self.reasons.append(reason)


def flatten_rows(rows: TableRows, file_number: int, mapping: OrderMapping) -> Flattened:
    """Return the line items of rows: each is kept, set aside with a reason, or left out."""
    count = len(rows.places)
    texts = {
        field: as_text(column, rows.encoding)
        for field, column in rows.fields.items()
        if needs_text(field, column.type, mapping)
    }
    rejections = Rejections(count)
    undecodable = NOT_UTF8 if codec_is_utf8(rows.encoding) else f"record: not {rows.encoding}"
    for _, broken in texts.values():
        rejections.add(undecodable, broken)
    keys = [clean(texts[field][0], "record", "order id", rejections) for field in mapping.order_id]
    order_keys = (
        keys[0] if len(keys) == 1 else pc.binary_join_element_wise(*map(decoded, keys), SEPARATOR)
    )
    product_ids = clean(texts[mapping.product_id][0], "line", "item", rejections)
    quantities = read_quantities(rows, texts, mapping, rejections)
    store_ids, unreadable = clean_stores(texts, mapping, count)
    dates, dates_missing = read_dates(rows, texts, mapping, count)
    cancelled = holds(mapping.cancelled, texts, count)
    left_out = ~holds(mapping.only, texts, count) if mapping.only else np.zeros(count, bool)
    rejected = (rejections.of_row >= 0) & ~left_out
    kept = ~rejected & ~left_out
    table = pa.table(
        [
            pa.array(order_ids(file_number, rows.places)),
            product_ids,
            quantities,
            dates,
            store_ids,
            order_keys,
            pa.array(cancelled),
        ],
        names=ORDER_LINES.names,
    )
    mask = pa.array(kept)
    table = encode(table if kept.all() else table.filter(mask))
    is_missing = np.asarray(dates_missing)
    flattened = Flattened([table])
    flattened.counts = Counter(
        records_read=count,
        records_rejected=int(rejected.sum()),
        records_touched=int(rejected.sum()),
        records_left_out=int(left_out.sum()),
        lines_written=table.num_rows,
        dates_missing=int((is_missing & kept).sum()),
        dates_unreadable=table["ordered_at"].null_count - int((is_missing & kept).sum()),
        stores_unreadable=int((unreadable & kept).sum()),
    )
    for row in np.flatnonzero(rejected):
        number = None if rows.line_numbers is None else int(rows.line_numbers[row])
        reason = rejections.reasons[rejections.of_row[row]]
        text = rows.raw_text(int(row))
        flattened.rejects.append(reject(number, int(rows.places[row]), reason, text))
    return flattened


def encode(table: pa.Table) -> pa.Table:
    """Return the table with texts as dictionaries, as other readers have; not those of orders."""
    place = table.column_names.index("order_key")
    table = table.set_column(place, "order_key", decoded(table["order_key"].combine_chunks()))
    for name in ("product_id", "store_id"):
        column = table[name].combine_chunks()
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        elif len(column.dictionary) >= len(column):  # which may hold a text twice
            column = column.dictionary_decode().dictionary_encode()
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def needs_text(field: FieldName, kind: pa.DataType, mapping: OrderMapping) -> bool:
    """Return whether a field is read as text: it has no type, or is more than units or a time."""
    conditions = [one.field for one in (mapping.cancelled, mapping.only) if one]
    if field in (*mapping.order_id, mapping.product_id, mapping.store, *conditions):
        return True
    if field == mapping.quantity:
        return not (pa.types.is_integer(kind) or pa.types.is_floating(kind))
    return not (pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def as_text(column: pa.Array, encoding: str = "utf-8") -> tuple[pa.Array, np.ndarray]:
    """Return a column as text in dictionary form, and a mask of what is not in the encoding.

    An empty text is null.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    first = column.slice(0, SAMPLE)
    if len(first.unique()) > DISTINCT * SAMPLE:
        # Looking for repeats would take longer than treating each text by itself.
        codes, texts = pa.array(np.arange(len(column), dtype=np.int32)), column
    else:
        encoded = column.dictionary_encode()
        codes, texts = encoded.indices, encoded.dictionary
    broken = np.zeros(len(texts), bool)
    if pa.types.is_floating(kind):
        texts = floats_as_text(texts)
    elif any(is_one(kind) for is_one in BYTES_OR_TEXT):
        # Text in Parquet is whatever bytes its writer took for text.
        texts, broken = decode(texts.cast(pa.binary()), encoding)
    else:
        texts = texts.cast(pa.string())
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    return dictionary_array(codes, texts), of_rows(broken, codes)


def dictionary_array(codes: pa.Array, texts: pa.Array) -> pa.DictionaryArray:
    """Return texts by code; a row is null where its code or its text is, the dictionary nowhere."""
    if texts.null_count:
        codes = pc.if_else(pa.array(of_rows(texts.is_null().to_numpy(False), codes)), None, codes)
        texts = texts.fill_null("")
    return pa.DictionaryArray.from_arrays(codes, texts)


def of_rows(mask: np.ndarray, codes: pa.Array) -> np.ndarray:
    """Return a mask of rows from one of their codes."""
    if not mask.any():
        return np.zeros(len(codes), bool)
    return mask[codes.fill_null(0).to_numpy()] & codes.is_valid().to_numpy(False)


def decode(values: pa.Array, encoding: str) -> tuple[pa.Array, np.ndarray]:
    """Return bytes as text, and a mask of those that are not in the encoding."""
    none = np.zeros(len(values), bool)
    if codec_is_utf8(encoding):
        try:
            return values.cast(pa.string()), none
        except pa.ArrowInvalid:
            pass
    texts: list[str | None] = []
    for value in values.to_pylist():
        try:
            texts.append(value.decode(encoding))
        except UnicodeDecodeError:
            none[len(texts)] = True
            texts.append(None)
    return pa.array(texts, pa.string()), none


def codec_is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii")


def floats_as_text(column: pa.Array) -> pa.Array:
    """Return floats as ids: a whole number has no point, since the floats are no one's choice."""
    values = column.to_numpy(zero_copy_only=False).astype(float)
    whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < LARGEST_EXACT)
    texts = [
        None if math.isnan(value) else str(int(value)) if is_whole else repr(float(value))
        for value, is_whole in zip(values, whole, strict=True)
    ]
    return pa.array(texts, pa.string())


def clean(column: pa.Array, level: str, what: str, rejections: Rejections) -> pa.DictionaryArray:
    """Return ids as trimmed text; notes why some are unusable: `level: what is empty`."""
    rejections.add(f"{level}: {what} is empty", column.is_null().to_numpy(False))
    cleaned, reasons = clean_distinct(column.dictionary)
    for reason, bad in reasons.items():
        rejections.add(f"{level}: {what} {reason}", of_rows(bad, column.indices))
    return dictionary_array(column.indices, cleaned)


def clean_distinct(texts: pa.Array) -> tuple[pa.Array, dict[str, np.ndarray]]:
    """Return ids trimmed, null where unusable, with masks of them by reason."""
    reasons: dict[str, np.ndarray] = {}
    plain = pc.match_substring_regex(texts, PLAIN_ID).fill_null(True)
    if pc.all(plain, min_count=0).as_py():
        return texts, reasons
    cleaned = texts.to_pylist()
    for place in np.flatnonzero(~plain.to_numpy(False)):
        try:
            cleaned[place] = clean_id(cleaned[place])
        except ValueError as error:
            reasons.setdefault(str(error), np.zeros(len(texts), bool))[place] = True
            cleaned[place] = None
    return pa.array(cleaned, pa.string()), reasons


def read_quantities(
    rows: TableRows,
    texts: dict[FieldName, tuple[pa.Array, np.ndarray]],
    mapping: OrderMapping,
    rejections: Rejections,
) -> pa.Array:
    """Return units as floats, null where a row has none; notes what is no finite number."""
    count = len(rows.places)
    if mapping.quantity is None:
        return pa.nulls(count, pa.float64())
    column = rows.fields[mapping.quantity]
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        units = column.cast(pa.float64(), safe=False)
        finite = pc.is_finite(units).fill_null(True)
        rejections.add("line: quantity is not finite", ~finite.to_numpy(False))
        return units
    text, _ = texts[mapping.quantity]
    distinct = [read_number(value, mapping.decimal) for value in text.dictionary.to_pylist()]
    for reason in ("line: quantity is not a number", "line: quantity is not finite"):
        bad = np.array([value == reason for value in distinct], bool)
        rejections.add(reason, of_rows(bad, text.indices))
    numbers = [None if isinstance(value, str) else value for value in distinct]
    return pa.DictionaryArray.from_arrays(
        text.indices, pa.array(numbers, pa.float64())
    ).dictionary_decode()


def read_number(text: str | None, decimal: str = ".") -> float | str | None:
    """Return a number, or the reason why the text is none; null and blank are null.

    With a comma as the decimal mark, a point has no meaning.
    """
    if text is None or not text.strip():
        return None
    text = with_point(text, decimal)
    if not NUMBER.fullmatch(text.strip()):
        not_finite = text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity")
        return f"line: quantity is not {'finite' if not_finite else 'a number'}"
    number = float(text)
    return number if math.isfinite(number) else "line: quantity is not finite"


def clean_stores(
    texts: dict[FieldName, tuple[pa.Array, np.ndarray]], mapping: OrderMapping, count: int
) -> tuple[pa.Array, np.ndarray]:
    """Return store ids, null where there is none or none usable, and a mask of the latter."""
    if mapping.store is None:
        return pa.nulls(count, pa.string()), np.zeros(count, bool)
    ignored = Rejections(count)
    column, _ = texts[mapping.store]
    cleaned = clean(column, "record", "store id", ignored)
    return cleaned, (ignored.of_row >= 0) & column.is_valid().to_numpy(False)


def read_dates(
    rows: TableRows,
    texts: dict[FieldName, tuple[pa.Array, np.ndarray]],
    mapping: OrderMapping,
    count: int,
) -> tuple[pa.Array, np.ndarray]:
    """Return the dates as timestamp[us], and a mask of rows that have none."""
    if mapping.date is None:
        return pa.nulls(count, pa.timestamp("us")), np.ones(count, bool)
    column = rows.fields[mapping.date]
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        return as_times(column), column.is_null().to_numpy(False)
    text, _ = texts[mapping.date]
    dates = parse_mapped_dates(text.dictionary, mapping.date_formats)
    taken = pa.DictionaryArray.from_arrays(text.indices, dates).dictionary_decode()
    return taken, text.is_null().to_numpy(False)


def holds(
    condition: Condition | None,
    texts: dict[FieldName, tuple[pa.Array, np.ndarray]],
    count: int,
) -> np.ndarray:
    """Return a mask of the rows of which a condition is true; of none without one."""
    if condition is None:
        return np.zeros(count, bool)
    column, _ = texts[condition.field]
    distinct = np.array([condition.holds(text) for text in column.dictionary.to_pylist()], bool)
    return of_rows(distinct, column.indices)
