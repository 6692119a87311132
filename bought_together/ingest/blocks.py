"""Turn one block of transaction records into columns, with a fast reader where the block is clean.

`flatten_lines` gives a block to pyarrow's JSON reader. When a guard or the reader objects, the
block is halved until only small pieces around the trouble are left. `record_rules.py`, which knows
every reason for a reject, reads those pieces record by record. Both readers give the same rows.
"""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from bought_together.ingest import record_rules
from bought_together.ingest.line_items import (
    ORDER_ID_OFFSET_BITS,
    Columns,
    Flattened,
    as_columns,
    assemble,
    order_ids,
)
from bought_together.ingest.mapped_dates import parse_mapped_dates
from bought_together.ingest.mapped_records import read_mapped_basket
from bought_together.ingest.mapping import OrderMapping
from bought_together.ingest.record_rules import (
    PLAIN_ID,
    Basket,
    CutOff,
    RecordRejected,
    TooDeep,
    as_json,
    clean_id,
    cut_off,
    decode_record,
    read_basket,
)
from bought_together.ingest.reject_rows import reject

# A block of at most this many bytes that the fast reader refuses is read record by record.
SMALL_BLOCK = 64 * 1024
# The reader is a quarter faster on pieces that fit in the processor's cache. It refuses a longer
# record, which is then read on its own.
READER_CHUNK = 4 << 20
NEWLINE, CARRIAGE_RETURN, OPEN, CLOSE = b"\n\r{}"

# Product ids and store ids are text in most exports and numbers in some: one schema for each
# combination.
FAST_SCHEMAS = [
    pa.schema(
        [
            ("itemList", pa.list_(pa.struct([("item", item), ("quantity", pa.float64())]))),
            ("date", pa.string()),
            ("store", store),
        ]
    )
    for item, store in product((pa.string(), pa.int64()), repeat=2)
]
# How the reader refuses a number where FAST_SCHEMAS[0] has text.
NUMBER_AMONG_TEXT = re.compile(
    r"Column\(/(itemList/\[\]/item|store)\) changed from string to number"
)
# A number where an id belongs, in JSON's grammar. In a valid record, `"item"` with both quotes and
# a colon is (the end of) a name: inside a string its quotes would be escaped.
NUMERIC_ID = re.compile(
    rb'("(?:item|store)"[ \t]*:[ \t]*)(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?)(?=[ \t\r\n,}])'
)


class NotClean(Exception):
    """The fast reader leaves this block to the record-by-record reader."""


def flatten_lines(
    data: bytes,
    offset: int,
    file_number: int,
    line_number: int = 0,
    fast: bool = True,
    mapping: OrderMapping | None = None,
) -> Flattened:
    """Flatten a block of whole lines.

    `offset` is where `data` starts in its file, in (decompressed) bytes; `line_number` counts the
    lines of the block before `data`. `fast=False`, or a mapping, reads record by record from the
    start.
    """
    if fast and not mapping and data and not isinstance(data, CutOff) and not data.isspace():
        try:
            return flatten_fast(data, offset, file_number)
        except (NotClean, pa.ArrowInvalid):
            pass
        middle = data.find(b"\n", len(data) // 2) + 1
        if len(data) > SMALL_BLOCK and 0 < middle < len(data):
            flattened = flatten_lines(data[:middle], offset, file_number, line_number)
            lines_before = line_number + flattened.counts["newlines"]
            flattened.add(flatten_lines(data[middle:], offset + middle, file_number, lines_before))
            return flattened
    flattened = flatten_records(numbered_lines(data, offset, line_number), file_number, mapping)
    flattened.counts["newlines"] = count_newlines(data)
    return flattened


def flatten_fast(
    data: bytes, offset: int, file_number: int, chunk: int = READER_CHUNK
) -> Flattened:
    """Flatten a block in which every line is one clean record.

    Raises NotClean or pyarrow.ArrowInvalid when any record needs a closer look.
    """
    starts = record_starts(data)
    table = read_json_lines(data, chunk)
    if table.num_rows != len(starts):
        raise NotClean("a line with more than one record")
    items = table["itemList"].combine_chunks()
    lines = items.flatten()
    quantities = lines.field("quantity")
    if items.null_count or lines.null_count or lines.field("item").null_count:
        raise NotClean("a list, line or item that is null or missing")
    if not pc.all(pc.is_finite(quantities), min_count=0).as_py():
        raise NotClean("a quantity that is not finite")
    columns = Columns(
        order_ids=order_ids(file_number, starts + offset),
        line_counts=items.value_lengths().to_numpy(),
        dates=table["date"].combine_chunks(),
        store_ids=clean_ids(table["store"].combine_chunks(), data),
        product_ids=clean_ids(lines.field("item"), data),
        quantities=quantities,
    )
    flattened = assemble(columns)
    flattened.counts.update(
        records_read=len(starts),
        newlines=len(starts) - (not data.endswith(b"\n")),
        baskets_empty=int(np.count_nonzero(columns.line_counts == 0)),
    )
    return flattened


def flatten_joined(blocks: list[tuple[int, int, bytes]]) -> Flattened:
    """Flatten blocks of several files in one go; `blocks` holds (file number, offset, data).

    A small file takes as long as thousands of records. Raises NotClean or pyarrow.ArrowInvalid when
    any record needs a closer look.
    """
    if any(isinstance(data, CutOff) for _, _, data in blocks):
        raise NotClean("a line that is too long")
    if any((offset + len(data)) >> ORDER_ID_OFFSET_BITS for _, offset, data in blocks):
        raise NotClean("a place that does not fit in an order id")
    texts = [data if data.endswith(b"\n") else data + b"\n" for _, _, data in blocks]
    flattened = flatten_fast(b"".join(texts), 0, 0)
    flattened.counts["newlines"] = sum(count_newlines(data) for _, _, data in blocks)
    [table] = flattened.line_items
    starts = np.cumsum([0, *map(len, texts)][:-1])
    first_ids = [(number << ORDER_ID_OFFSET_BITS) + offset for number, offset, _ in blocks]
    places = table["order_id"].to_numpy()  # in the joined text
    block = np.searchsorted(starts, places, side="right") - 1
    ids = places + (np.array(first_ids) - starts)[block]
    flattened.line_items = [table.set_column(0, "order_id", pa.array(ids))]
    return flattened


def count_newlines(data: bytes) -> int:
    """Return the number of lines of a block that end; a CutOff stands for one."""
    return 1 if isinstance(data, CutOff) else data.count(b"\n")


def record_starts(data: bytes) -> np.ndarray:
    """Return where each line starts, in bytes; raises NotClean unless every line is `{...}`.

    A line break between `}` and `{` always separates two records: the two are never neighbours
    inside a JSON value, and the reader refuses a line break inside a string.
    """
    if b"\n\n" in data:  # many blank lines would take many times their size here
        raise NotClean("a blank line")
    characters = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(characters == NEWLINE)
    if len(ends) == 0 or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    starts = np.concatenate(([0], ends[:-1] + 1))
    last = characters[np.maximum(ends - 1, 0)]
    last = np.where(last == CARRIAGE_RETURN, characters[np.maximum(ends - 2, 0)], last)
    if not ((characters[starts] == OPEN) & (last == CLOSE)).all():
        raise NotClean("a blank line, or a line that is not one object")
    if (ends - starts).max() > record_rules.LONGEST_RECORD:
        raise NotClean("a line that is too long")
    return starts


def read_json_lines(data: bytes, chunk: int) -> pa.Table:
    """Read whole lines of JSON, `chunk` bytes at a time; raises NotClean or ArrowInvalid."""
    buffer = pa.py_buffer(data)
    offsets = pa.array([0, len(data)], pa.int64()).buffers()[1]
    text = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, buffer])
    text.cast(pa.large_string())  # raises for bytes that are not UTF-8, which the reader accepts
    if b"Inf" in data or b"-NaN" in data:
        raise NotClean("the reader accepts these as numbers, JSON does not")
    refusals = []
    for schema in FAST_SCHEMAS:
        try:
            return parse_json(data, schema, chunk)
        except pa.ArrowInvalid as refusal:
            refusals.append(refusal)
    if not NUMBER_AMONG_TEXT.search(str(refusals[0])):
        raise refusals[-1]
    # Some ids are numbers and others text, or not integers: quotes make them text as written.
    quoted = NUMERIC_ID.sub(rb'\1"\2"', data)
    return parse_json(quoted, FAST_SCHEMAS[0], chunk + len(quoted) - len(data))


def parse_json(data: bytes, schema: pa.Schema, chunk: int) -> pa.Table:
    return pyarrow.json.read_json(
        pa.BufferReader(pa.py_buffer(data)),
        read_options=pyarrow.json.ReadOptions(
            use_threads=False, block_size=min(chunk, len(data) + 1)
        ),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore"
        ),
    )


def clean_ids(ids: pa.Array, data: bytes) -> pa.DictionaryArray:
    """Return ids as trimmed text, checking each distinct id once; raises NotClean."""
    encoded = ids.dictionary_encode()
    if not pa.types.is_integer(ids.type):
        plain = pc.match_substring_regex(encoded.dictionary, PLAIN_ID)
        if pc.all(plain, min_count=0).as_py():
            return encoded
    written = encoded.dictionary.to_pylist()
    if pa.types.is_integer(ids.type) and 0 in written and b"-0" in data:
        raise NotClean("-0 and 0 are two ids as written")
    try:
        cleaned = [clean_id(str(value)) for value in written]
    except ValueError as error:
        raise NotClean(f"an id {error}") from None
    if cleaned == written:
        return encoded
    return pa.array(cleaned, pa.string()).take(encoded.indices).dictionary_encode()


def numbered_lines(data: bytes, offset: int, number: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield (line number in the block, byte offset in the file, line) of each non-blank line."""
    if isinstance(data, CutOff):
        yield number, offset, data
        return
    if data.isspace() and len(data) <= record_rules.LONGEST_RECORD:
        return
    for place, line in enumerate(data.split(b"\n"), start=number):
        if line.strip() or len(line) > record_rules.LONGEST_RECORD:
            yield place, offset, line
        offset += len(line) + 1


def flatten_records(
    records: Iterable[tuple[int | None, int, bytes]],
    file_number: int,
    mapping: OrderMapping | None = None,
) -> Flattened:
    """Flatten records one by one: keep each, set it aside with a reason, or leave it out.

    `records` holds (line number in the block, place in the file, text). A place is a byte offset,
    or the element number when the file is one JSON array. A text that is too long may be a CutOff.
    """
    flattened = Flattened()
    places: list[int] = []
    baskets: list[Basket] = []
    for line_number, place, text in records:
        flattened.counts["records_read"] += 1
        if isinstance(text, CutOff) or len(text) > record_rules.LONGEST_RECORD:
            flattened.counts.update(records_rejected=1, records_touched=1)
            reason = "record: longer than 16 MiB"
            flattened.rejects.append(reject(line_number, place, reason, cut_off(text)))
            continue
        try:
            record = decode_record(text)
            basket = read_mapped_basket(record, mapping) if mapping else read_basket(record)
        except RecordRejected as error:
            flattened.counts.update(records_rejected=1, records_touched=1)
            flattened.rejects.append(reject(line_number, place, str(error), text))
            continue
        except TooDeep:  # the fast reader has no limit of depth
            flattened.add(flatten_deep(line_number, place, text, file_number, mapping is None))
            continue
        if basket is None:
            flattened.counts["records_left_out"] += 1
            continue
        places.append(place)
        baskets.append(basket)
        flattened.counts["records_touched"] += bool(basket.rejected_lines)
        for reason, item in basket.rejected_lines:
            raw_text = as_json(item).encode("utf-8", "backslashreplace")
            flattened.rejects.append(reject(line_number, place, reason, raw_text))
    flattened.counts["baskets_empty"] += sum(basket.is_empty for basket in baskets)
    flattened.counts["lines_rejected"] += sum(len(basket.rejected_lines) for basket in baskets)
    flattened.counts["stores_unreadable"] += sum(basket.store_id_unreadable for basket in baskets)
    ids = order_ids(file_number, np.array(places, "int64"))
    if mapping is None:
        flattened.add(assemble(as_columns(baskets, ids)))
    else:
        read_dates = partial(parse_mapped_dates, formats=mapping.date_formats)
        flattened.add(assemble(as_columns(baskets, ids, bool(mapping.order_id)), read_dates))
    return flattened


def flatten_deep(
    line_number: int | None, place: int, text: bytes, file_number: int, fast: bool = True
) -> Flattened:
    """Flatten one record that is nested too deeply for `decode_record`."""
    flattened = Flattened()
    try:
        if not fast:
            raise NotClean("only the record-by-record reader knows the mapping")
        flattened = flatten_fast(text.strip(), place, file_number, chunk=len(text) + 1)
    except (NotClean, pa.ArrowInvalid):
        flattened.counts.update(records_rejected=1, records_touched=1)
        reason = "record: nested too deeply"
        flattened.rejects.append(reject(line_number, place, reason, text))
    flattened.counts["records_read"] = 0  # the caller has counted it
    return flattened
