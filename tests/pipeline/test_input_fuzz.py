"""Whatever a mapped file holds: its rows and rejects add up, or one line says what is wrong.

JSON, tables of odd types and damaged bytes go through everything that a task of a run does, up to
the Parquet of a part of the lake. An exception that is not ours would be a call stack.
"""

import io
import json
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bought_together.errors import CannotRun, Refused
from bought_together.ingest.csv_rows import LongRows
from bought_together.ingest.inputs import inspect_files
from bought_together.ingest.line_items import ORDER_LINES
from bought_together.ingest.mapping import parse_mapping
from bought_together.ingest.products import read_products
from bought_together.ingest.proposals import propose
from bought_together.ingest.reject_rows import REJECTS
from bought_together.ingest.run import plan_file_ranges, read_ranges
from tests.support.compression import zstd

sparingly = settings(
    max_examples=100, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
MAPPING = """
transactions:
  order_id: order
  product_id: sku
  quantity: units
  date: at
  store: shop
  cancelled: {field: state, values: [cancelled]}
  only: {field: kind, values: [sale, "1", true]}
products: {product_id: sku, name: at, category: shop}
"""
WITH_ITEMS = MAPPING.replace("  product_id", "  items: lines\n  product_id", 1)
WRAPPED = WITH_ITEMS.replace("transactions:", "transactions:\n  records: data.orders")
WRAPPED = WRAPPED.replace("products: {", "products: {records: data.orders, ")
NAMES = ["order", "sku", "units", "at", "shop", "state", "kind"]


def stored(name: str, data: bytes) -> str:
    fsspec.filesystem("memory").pipe_file(f"/{name}", data)
    return f"memory://{name}"


def read_file(name: str, data: bytes, mapping: str, block_size: int) -> Counter[str] | None:
    """Read a file as the tasks of a run do; return its counts, None where one line refuses it.

    Checks that all counts add up, and that rows and rejects can be written.
    """
    parsed = parse_mapping(mapping, "input.yml").transactions
    try:
        files = inspect_files([stored(name, data)])
        ranges = plan_file_ranges(files, block_size, parsed)
        found = [one for part in ranges for one in read_ranges([part], block_size, True, parsed)]
    except LongRows:  # a run reads such a file again, from its start
        return None
    except CannotRun as error:
        assert "\n" not in str(error)
        return None
    counts = sum((one.counts for one in found), Counter())
    tables = [table.cast(ORDER_LINES) for one in found for table in one.line_items]
    rejects = [row for one in found for row in one.rejects]
    for table in (*tables, pa.Table.from_pylist(rejects, REJECTS)):
        pq.write_table(table, io.BytesIO())
    reasons = [row["reason"].split(":")[0] for row in rejects]
    by_row = counts["lines_rejected"] == 0  # of a table, where a row is both
    assert reasons.count("record") + by_row * reasons.count("line") == counts["records_rejected"]
    assert by_row or reasons.count("line") == counts["lines_rejected"]
    assert sum(table.num_rows for table in tables) == counts["lines_written"]
    kept = {one for table in tables for one in table["order_id"].to_pylist()}
    assert all(one["order_key"] for table in tables for one in table.to_pylist())
    out = counts["records_rejected"] + counts["records_left_out"]
    assert len(kept) <= counts["records_read"] - out
    return counts


# fmt: off
ODD_VALUES = [
    None, True, False, 0, -0.0, 1, -1, 1.5, 1e300, 10**30, float("nan"), float("inf"), "", " ",
    "1", "-1", "1,5", "NaN", "1e999", "a", "é", "a\tb", "\ud800", "\u2028", "x" * 300,
    "cancelled", "sale", "2026-01-05", "2026-01-05T10:00:00Z", "0000-01-01",
    [], {}, [[]], [{}], ["a"], {"a": 1},
    [{"sku": "a"}, None, 1, {"sku": ["b"]}, {"sku": "c", "units": {}}],
]
# fmt: on
values = st.sampled_from(ODD_VALUES)
lines = st.lists(
    st.fixed_dictionaries({}, optional={"sku": values, "units": values}) | values, max_size=3
)
usual = {"order": st.sampled_from(["1", "2", 3]), "kind": st.just("sale"), "sku": st.just("a")}
records = st.fixed_dictionaries(
    {}, optional={name: usual.get(name, values) | values for name in NAMES} | {"lines": lines}
)
TOKENS = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\n", b"\xff", b"null", b"NaN", b"\0"]


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Cut, overwrite or repeat a part of some bytes, or leave them as they are."""
    kind = draw(st.sampled_from(["whole", "whole", "cut", "overwrite", "insert", "repeat"]))
    place = draw(st.integers(0, len(data)))
    if kind == "cut":
        return data[:place]
    if kind == "overwrite":
        new = draw(st.binary(min_size=1, max_size=4))
        return data[:place] + new + data[place + len(new) :]
    if kind == "insert":
        return data[:place] + draw(st.sampled_from(TOKENS)) + data[place:]
    if kind == "repeat":
        return data[:place] + data[max(0, place - 40) :]
    return data


@st.composite
def json_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Write records as lines, as an array, or in documents; return a mapping that fits, too."""
    written = draw(st.lists(records | values, max_size=5))
    form = draw(st.sampled_from(["lines", "items", "array", "wrapped", "documents"]))
    mapping = WRAPPED if form in ("wrapped", "documents") else WITH_ITEMS
    text = json.dumps(written, indent=draw(st.sampled_from([None, 1])))
    if form in ("lines", "items"):
        text = "\n".join(map(json.dumps, written))
        mapping = MAPPING if form == "lines" else WITH_ITEMS
    elif form == "wrapped":
        text = json.dumps({"n": [draw(values)], "data": {"orders": written, "next": draw(values)}})
    elif form == "documents":
        text = "\n".join(json.dumps({"data": {"orders": [one]}}) for one in written)
    data = draw(damaged(text.encode()))
    pack = draw(st.sampled_from([None, None, zstd]))
    return mapping, draw(damaged(pack(data))) if pack else data


@given(file=json_files(), block_size=st.sampled_from([30, 1 << 20]))
@sparingly
def test_json_adds_up_or_is_one_line(file: tuple[str, bytes], block_size: int) -> None:
    mapping, data = file
    read_file("orders.json", data, mapping, block_size)
    read_list("products.json", data, mapping)
    look_at("unknown", data)


def read_list(name: str, data: bytes, mapping: str) -> None:
    """Read a product list; checks that its counts add up, and that it can be written."""
    parsed = parse_mapping(mapping, "input.yml").products
    try:
        products, rejects, counts = read_products([stored(name, data)], parsed)
    except (CannotRun, Refused) as error:
        assert "\n" not in str(error)
        return
    assert counts["lines_read"] == products.num_rows + rejects.num_rows
    for table in (products, rejects):
        pq.write_table(table, io.BytesIO())
    for row in rejects.to_pylist():
        assert row["reason"].startswith("product: ")


def look_at(name: str, data: bytes) -> None:
    """Propose a mapping, which is one that can be read."""
    try:
        text = propose([stored(name, data)])
    except CannotRun as error:
        assert "\n" not in str(error)
        return
    if yaml.safe_load(text) is not None:
        parse_mapping(text, "input.yml")


DAYS = [date(2026, 1, 5), date(1, 1, 1), date(9999, 12, 31), None]
TIMES = [datetime(2026, 1, 5, 10), datetime(1970, 1, 1), None]
NUMBERS = [0, 1, 2, 11, None]
TEXTS = ["a", "b", "011", "", " a ", "1.5", "-1", "nan", "a\tb", "sale", "2026-01-05", None]
REALS = [1.0, 1.5, -1.0, 1e300, float("nan"), float("inf"), None]
TYPES: list[tuple[pa.DataType, list[Any]]] = [
    *((kind, TEXTS) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *((kind, [b"a", b"\xff", b"", None]) for kind in (pa.binary(), pa.large_binary())),
    (pa.binary_view(), [b"a", b"\xff", None]),
    (pa.binary(2), [b"ab", b"\xff\xfe", None]),
    *((kind, NUMBERS) for kind in (pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64())),
    (pa.uint64(), [2**64 - 1, 1, None]),
    *((kind, REALS) for kind in (pa.float32(), pa.float64())),
    (pa.float16(), [1.0, 1.5, float("nan"), None]),
    (pa.bool_(), [True, False, None]),
    (pa.decimal128(12, 2), [Decimal("1.50"), Decimal("-1"), None]),
    (pa.decimal256(50, 0), [Decimal(10**40), None]),
    *((kind, DAYS) for kind in (pa.date32(), pa.date64())),
    *((pa.timestamp(unit), TIMES) for unit in ("s", "ms", "us", "ns")),
    (pa.timestamp("us", "Europe/Zurich"), TIMES),
    (pa.timestamp("s"), [2**50, -(2**50), None]),
    (pa.timestamp("s", "UTC"), [2**50, None]),
    (pa.date32(), [2**31 - 1, -(2**31), None]),
    (pa.time32("ms"), [1, None]),
    (pa.time64("us"), [1, None]),
    (pa.duration("s"), [timedelta(1), None]),
    (pa.dictionary(pa.int8(), pa.string()), TEXTS),
    (pa.dictionary(pa.int32(), pa.int64()), NUMBERS),
    (pa.null(), [None]),
    (pa.list_(pa.string()), [["a"], [], None]),
    (pa.large_list(pa.int64()), [[1], None]),
    (pa.struct([("a", pa.int8())]), [{"a": 1}, None]),
    (pa.map_(pa.string(), pa.int8()), [[("a", 1)], None]),
]


@st.composite
def parquet_files(draw: st.DrawFn) -> tuple[bytes, int]:
    """Write a table of mostly the usual columns; return it with its number of rows."""
    count = draw(st.integers(0, 6))
    broken = not draw(st.integers(0, 5))
    names = [name for name in NAMES if draw(st.integers(0, 30))]
    if names and not draw(st.integers(0, 20)):
        names.append(names[0])
    columns = []
    for name in names:
        plain = name in ("order", "kind", "sku") and draw(st.integers(0, 3))
        kind, some = (pa.string(), TEXTS) if plain else draw(st.sampled_from(TYPES))
        chosen = draw(st.lists(st.sampled_from(some), min_size=count, max_size=count))
        columns.append(pa.array(chosen, kind))
    if broken and columns:
        place = draw(st.integers(0, len(columns) - 1))
        columns[place] = pa.array([b"\xffa"] * count, pa.binary()).view(pa.string())
    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(columns, names), sink, row_group_size=draw(st.integers(1, 6))
    )
    return sink.getvalue(), count


@given(file=parquet_files(), block_size=st.sampled_from([300, 1 << 20]))
@sparingly
def test_parquet_of_any_types_adds_up_or_is_one_line(
    file: tuple[bytes, int], block_size: int
) -> None:
    data, rows = file
    counts = read_file("orders.parquet", data, MAPPING, block_size)
    assert counts is None or counts["records_read"] == rows
    read_list("products.parquet", data, MAPPING)
    look_at("unknown", data)


@given(file=parquet_files(), data=st.data())
@sparingly
def test_damaged_parquet_adds_up_or_is_one_line(
    file: tuple[bytes, int], data: st.DataObject
) -> None:
    changed = data.draw(damaged(file[0]))
    read_file("orders.parquet", changed, MAPPING, 1 << 20)
    read_list("products.parquet", changed, MAPPING)
    look_at("unknown", changed)


OF_PARQUET_ALONE: dict[str, tuple[str, pa.Array, tuple[Any, ...] | str]] = {
    "text that is no UTF-8": (
        "sku",
        pa.array([b"\xffa"], pa.binary()).view(pa.string()),
        "record: not UTF-8",
    ),
    "text of a fixed width": ("sku", pa.array([b"ab"], pa.binary(2)), ("ab", 1.0, None)),
    "a view of text": ("sku", pa.array(["a"], pa.string_view()), ("a", 1.0, None)),
    "more units than are exact": (
        "units",
        pa.array([2**64 - 1], pa.uint64()),
        ("b", 2.0**64, None),
    ),
    "a day too far": ("at", pa.array([2**31 - 1], pa.date32()), ("b", 1.0, None)),
    "a time too far": ("at", pa.array([2**60], pa.timestamp("ms")), ("b", 1.0, None)),
    "nanoseconds": (
        "at",
        pa.array([1_999], pa.timestamp("ns")),
        ("b", 1.0, datetime(1970, 1, 1, microsecond=1)),
    ),
}


@pytest.mark.parametrize(
    ("name", "column", "expected"), OF_PARQUET_ALONE.values(), ids=OF_PARQUET_ALONE
)
def test_what_only_parquet_can_hold(
    name: str, column: pa.Array, expected: tuple[Any, ...] | str
) -> None:
    usual = {
        "order": ["1"],
        "sku": ["b"],
        "units": [1],
        "at": [None],
        "shop": [None],
        "state": [None],
    }
    sink = io.BytesIO()
    pq.write_table(pa.table({**usual, "kind": ["sale"], name: column}), sink)
    mapping = parse_mapping(MAPPING, "input.yml").transactions
    files = inspect_files([stored("orders.parquet", sink.getvalue())])
    ranges = plan_file_ranges(files, 1 << 20, mapping)
    [found] = [one for part in ranges for one in read_ranges([part], 1 << 20, True, mapping)]
    if isinstance(expected, str):
        assert [row["reason"] for row in found.rejects] == [expected]
    else:
        [row] = found.line_items[0].to_pylist()
        assert (row["product_id"], row["quantity"], row["ordered_at"]) == expected


def test_a_reject_of_parquet_shows_what_python_cannot_hold() -> None:
    sink = io.BytesIO()
    table = {name: [None] for name in NAMES} | {
        "at": pa.array([2**31 - 1], pa.date32()),
        "sku": pa.array([b"\xffa"], pa.binary()).view(pa.string()),
        "kind": ["sale"],
    }
    pq.write_table(pa.table(table), sink)
    mapping = parse_mapping(MAPPING, "input.yml").transactions
    [part] = plan_file_ranges(
        inspect_files([stored("orders.parquet", sink.getvalue())]), 1 << 20, mapping
    )
    [found] = read_ranges([part], 1 << 20, True, mapping)
    [row] = found.rejects
    assert "value out of range: 2147483647" in row["raw_text"]
    assert r"\xffa" in row["raw_text"]
