"""Order lines as tables, and JSON under other names: what is read, set aside, and counted.

Orders are the shop's own: their lines may stand in any file, be exported twice, cancelled, and
taken back. The counts are compared with a few lines of Python that know nothing of our SQL.
"""

import csv
import gzip
import io
import json
import random
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bought_together.errors import CannotRun, Refused
from bought_together.ingest import byte_ranges, csv_rows, json_lists
from bought_together.ingest.byte_ranges import ByteRange, plan_byte_ranges
from bought_together.ingest.csv_rows import flatten_csv
from bought_together.ingest.inputs import InputFile
from bought_together.ingest.line_items import ORDER_LINES
from bought_together.ingest.mapping import parse_mapping
from bought_together.ingest.products import read_products
from bought_together.ingest.run import flatten
from tests.support.compression import zstd
from tests.support.oracle import recommend
from tests.support.real_data import real
from tests.support.shop import Shop

HEADER = ["order", "sku", "units", "at", "shop", "state"]
MAPPING = """
transactions:
  order_id: order
  product_id: sku
  quantity: units
  date: at
  store: shop
  cancelled: {field: state, values: [cancelled]}
"""
Rows = list[list[Any]]
CLEAN: Rows = [
    ["1", "011", "2", "2026-01-05T10:00:00", "s1", "paid"],
    ["1", "b", "1", "2026-01-05T10:00:00", "s1", "paid"],
    ["2", "011", "", "", "", ""],
]
# What the lake holds of CLEAN: key, product, quantity, date, shop, cancelled.
KEPT = [
    ("1", "011", 2.0, "2026-01-05 10:00:00", "s1", False),
    ("1", "b", 1.0, "2026-01-05 10:00:00", "s1", False),
    ("2", "011", None, "None", None, False),
]


def as_csv(rows: Iterable[Iterable[Any]], **options: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, **{"lineterminator": "\n"} | options).writerows([HEADER, *rows])
    return text.getvalue().encode()


def as_parquet(rows: Rows, **types: pa.DataType) -> bytes:
    columns = {
        name: pa.array([row[place] or None for row in rows], types.get(name, pa.string()))
        for place, name in enumerate(HEADER)
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=2)
    return sink.getvalue()


def flatten_files(
    shop: Shop, files: dict[str, bytes], mapping: str = MAPPING, **options: Any
) -> dict[str, Any]:
    """Flatten files of these names; returns the manifest."""
    folder = shop.folder / "in"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (shop.folder / "input.yml").write_text(mapping)
    shop.write_products(["011\tC\tTea", "b\tC\tBread"])
    return flatten(
        str(folder / "*"),
        str(shop.products),
        str(shop.lake),
        input_mapping=str(shop.folder / "input.yml"),
        **{"max_reject_fraction": 1.0} | options,
    )


def lines(shop: Shop) -> list[tuple[Any, ...]]:
    """Return the lines of the lake without their places, in the order of the input."""
    rows = sorted(shop.table("line_items").to_pylist(), key=lambda row: row["order_id"])
    return [
        (
            row["order_key"],
            row["product_id"],
            row["quantity"],
            str(row["ordered_at"]),
            row["store_id"],
            row["is_cancelled"],
        )
        for row in rows
    ]


def rejects(shop: Shop) -> list[tuple[int | None, str]]:
    found = shop.table("rejects").to_pylist()
    return sorted((row["line_number"] or 0, row["reason"]) for row in found)


RETURNS = as_csv(CLEAN, lineterminator="\r\n")
SAME = {
    "comma": as_csv(CLEAN),
    "semicolon": as_csv(CLEAN, delimiter=";"),
    "tab": as_csv(CLEAN, delimiter="\t"),
    "quoted": as_csv(CLEAN, quoting=csv.QUOTE_ALL),
    "windows line ends": RETURNS,
    "no last line end": as_csv(CLEAN).rstrip(b"\n"),
    "blank lines": as_csv(CLEAN).replace(b"\n", b"\n\n"),
    "utf-8 with a mark": b"\xef\xbb\xbf" + as_csv(CLEAN),
    "utf-16": as_csv(CLEAN).decode().encode("utf-16"),
    "gzip": gzip.compress(as_csv(CLEAN)),
    "zstd": zstd(as_csv(CLEAN)),
    "zstd of utf-16": zstd(as_csv(CLEAN).decode().encode("utf-16")),
    "spaces around ids": as_csv([[f" {row[0]} ", f" {row[1]}", *row[2:]] for row in CLEAN]),
    "columns in another order": b"\n".join(
        b",".join(reversed(line.split(b","))) for line in as_csv(CLEAN).splitlines()
    ),
    "parquet": as_parquet(CLEAN),
}


@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
@pytest.mark.parametrize("block_size", [1, 40, 1 << 20])
def test_order_lines_are_the_same_in_every_form(
    shop: Shop, content: bytes, block_size: int
) -> None:
    manifest = flatten_files(shop, {"orders": content}, block_size=block_size)
    assert lines(shop) == KEPT
    counts = manifest["counts"]["transactions"]
    assert (counts["records_read"], counts["records_kept"], counts["records_rejected"]) == (3, 3, 0)
    assert (counts["dates_missing"], counts["dates_unreadable"]) == (1, 0)


def test_numbers_and_times_of_parquet_are_ids_and_dates(shop: Shop) -> None:
    columns = {
        "order": pa.array([1, 1, 2], pa.int64()),
        "sku": pa.array([11.0, 7.0, 11.0]),  # a whole number that a tool made a float
        "units": pa.array([2, 1, None], pa.int32()),
        "at": pa.array([0, 1_000_000, None], pa.timestamp("us", "UTC")),
        "shop": pa.array(["s1", "s1", None]).dictionary_encode(),
        "state": pa.array([None, "cancelled", None]),
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    flatten_files(shop, {"orders.parquet": sink.getvalue()})
    assert lines(shop) == [
        ("1", "11", 2.0, "1970-01-01 00:00:00", "s1", False),
        ("1", "7", 1.0, "1970-01-01 00:00:01", "s1", True),
        ("2", "11", None, "None", None, False),
    ]


BAD = {
    "too few columns": (b"3,c", "record: 2 columns where 6 belong"),
    "too many columns": (b"3,c,1,,,,", "record: 7 columns where 6 belong"),
    "no order": (b",c,1,,,", "record: order id is empty"),
    "blank order": (b"  ,c,1,,,", "record: order id is empty"),
    "control character": (b"3\x01,c,1,,,", "record: order id holds a control character"),
    "no product": (b"3,,1,,,", "line: item is empty"),
    "control character in product": (b"3,c\x07d,1,,,", "line: item holds a control character"),
    "text for units": (b"3,c,many,,,", "line: quantity is not a number"),
    "NaN": (b"3,c,NaN,,,", "line: quantity is not finite"),
    "too many units": (b"3,c,1e999,,,", "line: quantity is not finite"),
    "other encoding": (b"3,caf\xe9,1,,,", "record: not UTF-8"),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("long_rows", [False, True])
def test_a_bad_row_is_set_aside_with_its_place(
    shop: Shop, line: bytes, reason: str, long_rows: bool
) -> None:
    before = as_csv(CLEAN[:2]) + (b'9,"a\nb",1,,,\n' if long_rows else b"")
    after = b"2,011,,,,\n"
    manifest = flatten_files(shop, {"orders.csv": before + line + b"\n" + after})
    number = 4 + 2 * long_rows
    control = [(4, "line: item holds a control character")] if long_rows else []
    assert rejects(shop) == [*control, (number, reason)]
    [row] = [one for one in shop.table("rejects").to_pylist() if one["line_number"] == number]
    assert row["byte_offset"] == len(before)
    assert row["raw_text"].encode("utf-8") == line.replace(b"\xe9", b"\\xe9")
    assert [one[:3] for one in lines(shop)] == [one[:3] for one in KEPT]
    counts = manifest["counts"]["transactions"]
    assert counts["records_read"] == counts["records_kept"] + counts["records_rejected"]
    assert counts["records_touched"] == counts["records_rejected"] == 1 + long_rows


UNREADABLE = {
    "missing column": (b"order,product\n1,2\n", "has no column sku; it has order, product"),
    "a name of two lines": (b'"or\nder",sku\n1,2\n', "has no column order; it has or der, sku"),
    "no header": (b"1,2,3,4,5,6\n", "has no column order"),
    "two columns of a name": (
        as_csv(CLEAN).replace(b"shop", b"sku"),
        "has two columns sku: give its number",
    ),
    "open quote": (as_csv(CLEAN) + b'3,"c,1,,,\n4,d,1,,,\n', "line 5 has a quote that is never"),
    "truncated gzip": (gzip.compress(as_csv(CLEAN * 999))[:-30], "cannot read"),
    "truncated zstd": (zstd(as_csv(CLEAN * 999))[:-3], "cannot read"),
    "parquet with a name that is no text": (
        as_parquet(CLEAN).replace(b"shop", b"\x80hop"),
        "cannot read",
    ),
    "truncated parquet": (as_parquet(CLEAN)[:-9], "cannot read"),
    "empty": (b"", "contain no records"),
    "header alone": (as_csv([]), "contain no records"),
}


@pytest.mark.parametrize(("content", "said"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_cannot_be_read_is_one_line(shop: Shop, content: bytes, said: str) -> None:
    with pytest.raises(CannotRun) as error:
        flatten_files(shop, {"orders": content})
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(shop.lake.glob("parts/*/*"))


def test_parquet_of_lists_is_one_line(shop: Shop) -> None:
    sink = io.BytesIO()
    table = {name: pa.array([["a"]]) if name == "sku" else pa.array(["1"]) for name in HEADER}
    pq.write_table(pa.table(table), sink)
    with pytest.raises(CannotRun, match=r"the column sku holds list<.*> and not one|write a row"):
        flatten_files(shop, {"orders.parquet": sink.getvalue()})


@pytest.mark.parametrize("block_size", [30, 1 << 20])
def test_rows_that_span_lines_are_read_from_the_start(shop: Shop, block_size: int) -> None:
    """A range of a file may begin inside quotes, where a line looks like a row."""
    wide = '"\n7,b,1,,,\n'
    rows = [*CLEAN, ["3", "c", "1", "", "", wide], ["4", 'd 12" x', "1", "", "", ""]] * 3
    content = as_csv(rows)
    flatten_files(shop, {"orders.csv": content}, block_size=block_size)
    assert [one[:2] for one in lines(shop)] == [(row[0], row[1]) for row in rows]
    offsets = shop.table("line_items")["order_id"].to_pylist()
    places = sorted(each & ((1 << 40) - 1) for each in offsets)
    assert content[places[3] : places[3] + 4] == b"3,c,"
    held = {part.name for part in shop.lake.glob("parts/line_items/*")}
    assert held == {part.name for part in shop.parts("line_items")}


FIELDS = [b"1", b"2", b"a", b"011", b"", b" ", b" a ", b"-1", b"1.5", b"nan", b"x" * 40]
# fmt: off
FIELDS += [
    b'"q,"', b'"a""b"', b'"a\nb"', b'"\r\n"', b'5" x', b'"', b'""', b'"a"b', b'"a"b"c', b"'a'",
    b"\xff", b"\0", b"\r", b"\t", b";", b"\xc3\xa9", b"\xc2\xa0", b"a\rb",
]
# fmt: on
ENDS = [b"\n"] * 12 + [b"\r\n", b"\n\n", b"\r", b" \n", b"\r\n\r\n", b",\n"]


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Write rows of mostly six fields, of which some are odd in every way that CSV knows."""
    odd = draw(st.booleans())
    texts = st.sampled_from(FIELDS if odd else FIELDS[:11])
    rows = draw(st.lists(st.lists(texts, min_size=5 if odd else 6, max_size=6), max_size=8))
    return b"".join(b",".join(row) + draw(st.sampled_from(ENDS)) for row in rows)


@given(table=tables(), block_size=st.integers(1, 60))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_both_readers_of_csv_give_the_same_rows(table: bytes, block_size: int) -> None:
    """Whatever the bytes, in blocks of any size, as a stream and in ranges."""
    content = b"order,sku,units,at,shop,state\n" + table
    mapping = parse_mapping(MAPPING, "input.yml").transactions
    assert mapping
    stream = InputFile(3, "x", len(content), None, False, kind="csv", has_long_rows=True)

    def read(ranges: list[ByteRange], size: int) -> Any:
        parts = [one for part in ranges for one in flatten_csv(part, size, content, mapping)]
        tables = [table.cast(ORDER_LINES) for one in parts for table in one.line_items]
        rejected = [(row["byte_offset"], row["reason"]) for one in parts for row in one.rejects]
        rows = pa.concat_tables(tables).to_pylist() if tables else []
        return sorted(rows, key=lambda row: row["order_id"]), sorted(rejected)

    def outcome(ranges: list[ByteRange], size: int) -> Any:
        try:
            return read(ranges, size)
        except CannotRun as error:
            return str(error)

    whole = ByteRange(stream, 0, stream.size)
    with patch.object(csv_rows, "read_block", side_effect=csv_rows.NotClean):
        expected = outcome([whole], 1 << 20)
    assert outcome([whole], 1 << 20) == expected
    assert outcome([whole], block_size) == expected
    with suppress(csv_rows.LongRows):
        ranges = plan_byte_ranges([replace(stream, has_long_rows=False)], block_size)
        assert outcome(ranges, block_size) == expected


@pytest.mark.parametrize("name", ["orders.csv", "orders.CSV.zst", "orders.tsv.gz"])
def test_a_name_says_what_the_first_bytes_do_not(shop: Shop, name: str) -> None:
    content = as_csv(CLEAN).replace(b"order", b"[order]", 1)
    pack = {".zst": zstd, ".gz": gzip.compress}.get(Path(name).suffix, bytes)
    flatten_files(
        shop, {name: pack(content)}, MAPPING.replace("order_id: order", "order_id: '[order]'")
    )
    assert lines(shop) == KEPT


def test_days_without_orders_are_no_copies(shop: Shop) -> None:
    flatten_files(
        shop, {"a.csv": as_csv([]), "b.csv": as_csv([]), "c.csv": as_csv(CLEAN), "d.csv": b""}
    )
    assert lines(shop) == KEPT
    mapping = "transactions: {records: orders, order_id: id, product_id: sku}\n"
    for name in ("a", "b", "c", "d"):
        (shop.folder / f"in/{name}.csv").unlink()
    page = json.dumps({"orders": [{"id": 1, "sku": "b"}]}).encode()
    flatten_files(
        shop, {"a.json": b'{"orders": []}', "b.json": b'{"orders": []}', "c.json": page}, mapping
    )
    assert [one[:2] for one in lines(shop)] == [("1", "b")]
    with pytest.raises(CannotRun, match="have the same content"):
        flatten_files(shop, {"d.json": page}, mapping)


def test_an_encoding_is_named_in_the_mapping(shop: Shop) -> None:
    content = as_csv([["1", "café", "1", "", "Zürich", ""]]).decode().encode("windows-1252")
    flatten_files(shop, {"orders.csv": content}, MAPPING + "  encoding: windows-1252\n")
    assert [(one[1], one[4]) for one in lines(shop)] == [("café", "Zürich")]


def test_columns_by_number_and_an_order_of_two_columns(shop: Shop) -> None:
    mapping = "transactions: {header: false, order_id: [1, 4], product_id: 2, quantity: 3}\n"
    content = as_csv(CLEAN).split(b"\n", 1)[1]
    flatten_files(shop, {"orders.csv": content}, mapping)
    keys = [one[0] for one in lines(shop)]
    assert keys[0] == keys[1] == "1\x1f2026-01-05T10:00:00"
    assert rejects(shop) == [(3, "record: order id is empty")]


def test_a_mapping_that_changes_flattens_everything(shop: Shop) -> None:
    flatten_files(shop, {"orders.csv": as_csv(CLEAN)})
    again = flatten_files(shop, {})
    assert again["refresh"] == {"unchanged": 1, "again": 0, "new": 0, "gone": 0}
    other = flatten_files(shop, {}, MAPPING.replace("units", "shop"))
    assert other["refresh"] == {"full": "the mapping of the transactions has changed"}


def test_too_many_bad_rows_are_refused(shop: Shop) -> None:
    with pytest.raises(Refused, match="1 of 4 records are rejected"):
        flatten_files(
            shop,
            {"orders.csv": as_csv([*CLEAN, ["3", "", "", "", "", ""]])},
            max_reject_fraction=0.2,
        )


JSON_MAPPING = """
transactions:
  order_id: id
  items: line.items
  product_id: product.sku
  quantity: n
  date: created_at
  store: location.id
  cancelled: {field: cancelled_at}
  only: {field: kind, values: [order]}
"""


def test_json_under_other_names(shop: Shop) -> None:
    records = [
        {
            "id": 7,
            "kind": "order",
            "created_at": "2026-01-05T10:00:00-05:00",
            "location": {"id": 3},
            "line": {"items": [{"product": {"sku": "011"}, "n": "2"}, {"product": {}, "n": 1}]},
        },
        {"kind": "page_view"},
        {
            "id": "8",
            "kind": "order",
            "cancelled_at": "2026-01-06",
            "line": {"items": [{"product": {"sku": "b"}}]},
        },
        {"id": 9, "kind": "order", "line": {}},
        {"id": None, "kind": "order", "line": {"items": []}},
    ]
    manifest = flatten_files(
        shop,
        {
            "a.json": "".join(json.dumps(one) + "\n" for one in records).encode(),
            "b.json": json.dumps(records[:1]).encode(),
        },
        JSON_MAPPING,
    )
    tea = ("7", "011", 2.0, "2026-01-05 10:00:00", "3", False)
    assert lines(shop) == [tea, ("8", "b", None, "None", None, True), tea]
    assert [reason for _, reason in rejects(shop)] == [
        "line: no item",
        "line: no item",
        "record: no line.items",
        "record: order id is empty",
    ]
    counts = manifest["counts"]["transactions"]
    assert (counts["records_left_out"], counts["records_rejected"]) == (1, 2)
    assert counts["records_read"] == 6 == counts["records_kept"] + 3


def test_json_lines_of_a_line_each(shop: Shop) -> None:
    mapping = "transactions: {order_id: order, product_id: sku}\n"
    content = b'{"order": 1, "sku": "011"}\n{"order": 1, "sku": "b"}\n'
    flatten_files(shop, {"orders.json": content}, mapping)
    assert [one[:2] for one in lines(shop)] == [("1", "011"), ("1", "b")]


ORDERS = [
    {"id": 1, "lines": [{"sku": "011"}, {"sku": "b"}]},
    {"id": 2, "lines": [{"sku": "b", "n": "2"}], "note": 'orders": [ \\'},
    {"id": None, "lines": []},
]
WRAPPED_MAPPING = """
transactions: {records: data.orders, order_id: id, items: lines, product_id: sku, quantity: n}
"""
# Around the list, whatever an API may say.
AROUND = {
    "orders": ["no"],
    "n": None,
    "x": [{"data": {"orders": [1]}}, "orders", []],
    "note": '"data": {"orders": [',
    "data": {"a": {"orders": [2]}, "next\\": "]}", "orders": ORDERS, "last": [[{}], "}"]},
    "z": {"data": {"orders": [3]}},
}
WRAPPED = {
    "pretty": json.dumps(AROUND, indent=2),
    "escaped": json.dumps(AROUND).replace('"data"', '"d\\u0061ta"'),
    "documents": "\n".join(json.dumps({"data": {"orders": [one]}}) for one in ORDERS),
    "an empty answer": " ".join(
        json.dumps({"data": {"orders": some}}) for some in (ORDERS[:1], [], ORDERS[1:])
    ),
    "utf-8 with a mark": "\ufeff" + json.dumps(AROUND),
    "a list of a name": json.dumps(AROUND).replace(
        '"data": {"a"', '"data": ["a", "orders", [4]], "data": {"a"'
    ),
}


@pytest.mark.parametrize("characters_read", [1, 7, 1 << 20])
@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_records_stand_in_a_list_of_a_document(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, text: str, characters_read: int, pack: Any
) -> None:
    monkeypatch.setattr(byte_ranges, "CHARACTERS_READ", characters_read)
    monkeypatch.setattr(json_lists, "LONGEST_NAME_OF_A_FIELD", 12)
    manifest = flatten_files(
        shop, {"orders.json": pack(text.encode())}, WRAPPED_MAPPING, block_size=40
    )
    assert [one[:3] for one in lines(shop)] == [
        ("1", "011", None),
        ("1", "b", None),
        ("2", "b", 2.0),
    ]
    places = [each & ((1 << 40) - 1) for each in shop.table("line_items")["order_id"].to_pylist()]
    assert sorted(places) == [0, 0, 1]
    [row] = shop.table("rejects").to_pylist()
    assert (row["reason"], row["byte_offset"]) == ("record: order id is empty", 2)
    assert manifest["counts"]["transactions"]["records_read"] == 3


NOT_WRAPPED = {
    "another name": ('{"data": {"order": []}}', "document 1 holds no list data.orders"),
    "null": ('{"data": {"orders": null}}', "document 1 holds no list data.orders"),
    "an object": ('{"data": {"orders": {"id": [1]}}}', "document 1 holds no list data.orders"),
    "an error after a page": (
        '{"data": {"orders": [{}]}}\n{"errors": "busy"}',
        "document 2 holds no list data.orders",
    ),
    "an array": ('[{"data": {"orders": []}}]', "document 1 holds no list data.orders"),
    "a word": ('null {"data": {"orders": []}}', "document 1 holds no list data.orders"),
    "a bracket": ("]", "document 1 holds no list data.orders"),
    "a wrong bracket": ("{]]", "document 1 holds no list data.orders"),
    "cut in the list": (
        '{"data": {"orders": [{}, {"id"',
        "data.orders is not complete, broken after 1",
    ),
    "cut after it": ('{"data": {"orders": [{}]}', "data.orders is not complete, broken after 1"),
    "cut before it": ('{"data": {"ord', "document 1 holds no list data.orders"),
    "rubbish after it": ('{"data": {"orders": [{}]}} x', "document 2 holds no list data.orders"),
    "two orders": ('{"data": {"orders": []}}', "contain no records"),
}


@pytest.mark.parametrize(("text", "said"), NOT_WRAPPED.values(), ids=NOT_WRAPPED)
def test_a_document_without_its_list_is_one_line(shop: Shop, text: str, said: str) -> None:
    with pytest.raises(CannotRun) as error:
        flatten_files(shop, {"orders.json": text.encode()}, WRAPPED_MAPPING)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_holds_no_list_of_records(shop: Shop) -> None:
    with pytest.raises(CannotRun, match=r"is a table, in which no list is called data\.orders"):
        mapping = WRAPPED_MAPPING.replace("items: lines, ", "")
        flatten_files(shop, {"orders.csv": as_csv(CLEAN)}, mapping)


DECIMALS = {
    "1,5": 1.5,
    "-0,25": -0.25,
    ",5": 0.5,
    "2": 2.0,
    "": None,
    "1.5": "line: quantity is not a number",
    "1.000,5": "line: quantity is not a number",
    "1,000,5": "line: quantity is not a number",
}


@pytest.mark.parametrize("form", ["csv", "long rows", "json"])
def test_a_decimal_comma_is_named_in_the_mapping(shop: Shop, form: str) -> None:
    rows: Rows = [[text, "011", text, "", "", ""] for text in DECIMALS if text]
    content = as_csv([*rows, ["", "", "", "", "", "a\nb"]] if form == "long rows" else rows)
    if form == "json":
        records = [{"order": row[0], "sku": row[1], "units": row[2]} for row in rows]
        content = json.dumps([*records, {"order": "n", "sku": "b", "units": 2.5}]).encode()
    flatten_files(shop, {"orders": content}, MAPPING + "  decimal: ','\n")
    found = {one[0]: one[2] for one in lines(shop)}
    kept = {text: units for text, units in DECIMALS.items() if isinstance(units, float)}
    assert found == kept | ({"n": 2.5} if form == "json" else {})
    reasons = [reason for _, reason in rejects(shop) if reason.startswith("line")]
    assert reasons == ["line: quantity is not a number"] * 3


def test_a_decimal_comma_that_no_mapping_names_is_a_reject(shop: Shop) -> None:
    flatten_files(shop, {"orders.csv": as_csv([*CLEAN, ["3", "b", "1,5", "", "", ""]])})
    assert rejects(shop) == [(5, "line: quantity is not a number")]


PRODUCT_MAPPING = (
    MAPPING
    + """
products: {product_id: code, name: title, category: kind}
"""
)


def test_a_product_list_as_csv(shop: Shop) -> None:
    (shop.folder / "list.csv").write_bytes(
        b'title,code,kind\n"Tea, ""black""\nloose",011,C\nBread,b,\nToast,b,\n,,\nx\n'
    )
    (shop.folder / "orders.csv").write_bytes(as_csv(CLEAN))
    (shop.folder / "input.yml").write_text(PRODUCT_MAPPING)
    flatten(
        str(shop.folder / "orders.csv"),
        str(shop.folder / "list.csv"),
        str(shop.lake),
        input_mapping=str(shop.folder / "input.yml"),
    )
    assert shop.table("products").to_pylist() == [
        {"product_id": "011", "category_code": "C", "product_name": 'Tea, "black" loose'},
        {"product_id": "b", "category_code": "", "product_name": "Bread"},
    ]
    assert rejects(shop) == [
        (5, "product: duplicate id"),
        (6, "product: id is empty"),
        (7, "product: 1 column where 3 belong"),
    ]


PRODUCT_RECORDS: list[Any] = [
    {"sku": "011", "text": {"en": "Tea,\nloose"}, "kind": "C"},
    {"sku": 7, "text": {"en": 1.50}},
    {"sku": 7.50, "text": None},
    {"sku": "b", "text": {"en": "Bread"}, "kind": None},
    {"sku": "b", "text": {"en": "Toast"}},
    {"text": {"en": "x"}},
    {"sku": None},
    {"sku": True},
    {"sku": "c", "text": {"en": ["x"]}},
    {"sku": "d", "kind": "\ud800"},
    {"sku": "e\x01"},
    ["f"],
]
PRODUCT_REASONS = [
    "product: duplicate id",
    "product: no id",
    "product: id is empty",
    "product: id is neither text nor a number",
    "product: name is neither text nor a number",
    "product: category holds half a surrogate pair",
    "product: id holds a control character",
    "product: not an object",
]
PRODUCT_FORMS = {
    "lines": ("\n".join(map(json.dumps, PRODUCT_RECORDS)), ""),
    "array": (json.dumps(PRODUCT_RECORDS, indent=1), ""),
    "wrapped": (json.dumps({"next": 2, "products": PRODUCT_RECORDS}), "records: products, "),
}


@pytest.mark.parametrize(("text", "records"), PRODUCT_FORMS.values(), ids=PRODUCT_FORMS)
@pytest.mark.parametrize("pack", [bytes, zstd])
def test_a_product_list_as_json(shop: Shop, text: str, records: str, pack: Any) -> None:
    path = shop.folder / "products.json"
    path.write_bytes(pack(text.encode()))
    content = f"products: {{{records}product_id: sku, name: text.en, category: kind}}"
    mapping = parse_mapping(content, "input.yml").products
    products, rejected, counts = read_products([str(path)], mapping)
    assert products.to_pylist() == [
        {"product_id": "011", "category_code": "C", "product_name": "Tea, loose"},
        {"product_id": "7", "category_code": "", "product_name": "1.5"},
        {"product_id": "7.5", "category_code": "", "product_name": ""},
        {"product_id": "b", "category_code": "", "product_name": "Bread"},
    ]
    found = sorted(rejected.to_pylist(), key=lambda row: row["byte_offset"])
    assert [row["reason"] for row in found] == PRODUCT_REASONS
    numbers = [row["line_number"] for row in found]
    assert numbers == (list(range(5, 13)) if text.startswith('{"sku') else [None] * 8)
    assert json.loads(found[1]["raw_text"]) == PRODUCT_RECORDS[5]
    assert counts == {"lines_read": 12, "lines_rejected": 8, "products": 4}


UNREADABLE_PRODUCTS = {
    "other names": (b'[{"id": 1}]', Refused, "1 of 1 lines are rejected; each row or record needs"),
    "cut off": (b'[{"sku": 1}, {"sku"', CannotRun, "broken after 1 elements"),
    "broken zst": (zstd(b'{"sku": 1}\n')[:-2], CannotRun, "cannot read"),
    "empty": (b"", CannotRun, "contain no usable product and no line with text; each row"),
}


@pytest.mark.parametrize(
    ("content", "error", "said"), UNREADABLE_PRODUCTS.values(), ids=UNREADABLE_PRODUCTS
)
def test_a_product_list_as_json_that_is_of_no_use_is_one_line(
    shop: Shop, content: bytes, error: type[Exception], said: str
) -> None:
    (shop.folder / "products.json").write_bytes(content)
    (shop.folder / "input.yml").write_text("products: {product_id: sku}")
    shop.write([["a", "b"]], [])
    with pytest.raises(error, match=said):
        flatten(
            str(shop.transactions),
            str(shop.folder / "products.json"),
            str(shop.lake),
            input_mapping=str(shop.folder / "input.yml"),
        )


def test_products_may_stand_in_the_order_lines(shop: Shop) -> None:
    (shop.folder / "orders.csv").write_bytes(as_csv(CLEAN))
    mapping = MAPPING + "products: {product_id: sku, name: state, repeats: true}\n"
    (shop.folder / "input.yml").write_text(mapping)
    path = str(shop.folder / "orders.csv")
    manifest = flatten(path, path, str(shop.lake), input_mapping=str(shop.folder / "input.yml"))
    assert manifest["counts"]["products"] == {"lines_read": 3, "lines_rejected": 0, "products": 2}


def resolve(files: dict[str, Rows]) -> list[set[str]]:
    """Return the baskets of order lines in files, by the rules of docs/input.md."""
    orders: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(files):
        for row in files[name]:
            orders[row[0]][name].append(row)
    baskets = []
    for exports in orders.values():
        kept = []
        for name, rows in exports.items():
            repeated = any(
                name < other and {(r[1], r[2]) for r in rows} & {(r[1], r[2]) for r in more}
                for other, more in exports.items()
            )
            kept += [] if repeated else rows
        units: dict[str, float] = defaultdict(float)
        for row in kept:
            units[row[1]] += 1.0 if row[2] == "" else float(row[2])
        if not any(row[5] == "cancelled" for row in kept):
            baskets.append({product for product, left in units.items() if left > 0})
    return baskets


def random_files(seed: int) -> dict[str, Rows]:
    """Draw orders whose lines are split, repeated, cancelled and returned across three files."""
    chance = random.Random(seed)
    files: dict[str, Rows] = {"a.csv": [], "b.csv": [], "c.csv": []}
    for order in range(400):
        names = chance.choices(sorted(files), k=chance.choice([1, 1, 2, 3]))
        for name in names:
            for _ in range(chance.randint(1, 5)):
                units = chance.choice(["1", "1", "2", "", "-1", "0", "0.5"])
                state = "cancelled" if chance.random() < 0.02 else "paid"
                product = f"{chance.randint(0, 12):03}"
                files[name].append([f"O-{order}", product, units, "2026-01-05", "s", state])
    for rows in files.values():
        chance.shuffle(rows)
    return files


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_orders_are_baskets(shop: Shop, engine: str) -> None:
    """Whatever file their lines stand in; and as much when a file comes or goes."""
    shop = replace(shop, engine=engine)
    files = random_files(1)
    folder = shop.folder / "in"
    folder.mkdir()
    (shop.folder / "input.yml").write_text(MAPPING)
    products = [f"{number:03}" for number in range(12)]
    shop.write([], products)
    for left_out in ("b.csv", None):
        for name, rows in files.items():
            (folder / name).write_bytes(as_csv(rows))
        if left_out:
            (folder / left_out).unlink()
        given = {name: rows for name, rows in files.items() if name != left_out}
        shop.build(
            TRANSACTIONS=folder / "*",
            INPUT_MAPPING=shop.folder / "input.yml",
            MIN_BASKETS_SHARE=0,
        )
        [(summary,)] = shop.query("select summary from lake.mounted_count")
        assert summary.startswith("everything" if left_out else "1 file added, 0 removed since")
        catalogue = {product: ["C", f"Name of {product}"] for product in products}
        rows = shop.recommendations()
        assert set(rows) == recommend(resolve(given), catalogue)
        assert len(rows) == len(set(rows))


def test_records_replace_older_ones_that_they_repeat(shop: Shop) -> None:
    """What a newer export of an order no longer holds is gone; parts of it are together."""
    mapping = "transactions: {order_id: id, items: items, product_id: sku, quantity: n}\n"
    (shop.folder / "input.yml").write_text(mapping)
    orders = {
        "2026-01.json": [(1, "ab"), (2, "ab"), (3, "a")],
        "2026-02.json": [(2, "ac"), (3, "b"), (3, "c")],
    }
    for name, records in orders.items():
        (shop.folder / name).write_text(
            "".join(
                json.dumps({"id": order, "items": [{"sku": item, "n": 1} for item in items]}) + "\n"
                for order, items in records
            )
        )
    shop.write([], "abc")
    shop.build(
        TRANSACTIONS=shop.folder / "*.json",
        INPUT_MAPPING=shop.folder / "input.yml",
    )
    catalogue = {product: ["C", f"Name of {product}"] for product in "abc"}
    baskets = [{"a", "b"}, {"a", "c"}, {"a", "b", "c"}]
    assert set(shop.recommendations()) == recommend(baskets, catalogue)


def test_online_retail_as_order_lines_is_the_same_table(shop: Shop, tmp_path: Path) -> None:
    """Its invoices hold either purchases or returns, so that netting changes nothing."""
    source = real("online_retail", "transactions.txt.gz")
    products = real("online_retail", "products.txt")
    shop.build(TRANSACTIONS=source, PRODUCTS=products)
    expected = shop.recommendations()
    path = tmp_path / "lines.csv"
    with gzip.open(source, "rt") as records, path.open("w", newline="") as file:
        rows = [
            [number, item["item"], item["quantity"], record["date"], record["store"], ""]
            for number, record in enumerate(map(json.loads, records))
            for item in record["itemList"]
        ]
        random.Random(0).shuffle(rows)
        csv.writer(file).writerows([HEADER, *rows])
    (tmp_path / "input.yml").write_text(MAPPING + '  date_formats: ["%Y.%m.%d %H:%M:%S"]\n')
    shop.build(TRANSACTIONS=path, PRODUCTS=products, INPUT_MAPPING=tmp_path / "input.yml")
    assert shop.recommendations() == expected
