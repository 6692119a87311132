"""The fast reader must never differ from the record-by-record one, whatever the bytes.

pyarrow's JSON reader accepts more than JSON: NaN and Infinity in several spellings, bytes that are
not UTF-8, several records on a line, null lines. Here records are written from a JSON-like grammar
full of edge cases, broken by random edits, joined into files, and read in all ways: fast, record by
record, in blocks of any size, gzipped, split into several files.
"""

import gzip
import json
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bought_together.ingest import blocks, byte_ranges
from bought_together.ingest.blocks import NotClean, flatten_fast, flatten_lines
from bought_together.ingest.byte_ranges import plan_byte_ranges
from bought_together.ingest.inputs import InputFile
from bought_together.ingest.json_lists import array_elements
from bought_together.ingest.line_items import LINE_ITEMS, Flattened
from bought_together.ingest.record_rules import CONTROL_CHARACTER
from bought_together.ingest.run import Tally, count_lines_before, read_ranges
from tests.support.compression import zstd

thoroughly = settings(max_examples=200, deadline=None, derandomize=True)
slowly = settings(thoroughly, max_examples=100)

# fmt: off
SCALARS = [
    b"null", b"true", b"false", b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"Inf", b"nan",
    b"0", b"-0", b"1", b"-1", b"11", b"1.50", b"-0.0", b"1e3", b"1E+3", b"1e-5", b"1e400",
    b"1e-400", b"5e-324", b"2.2250738585072011e-308", b"9007199254740993", b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775808", b"12345678901234567890", b"9" * 400,
    b'"A"', b'"11"', b'"-0"', b'"011"', b'""', b'" "', b'" A"', b'"A\\t"', b'"A\\tB"',
    b'"A\\u0000"',
    b'"\\u00a0A"', b'"\xc2\xa0A"', b'"\xc2\x85"', b'"\xe2\x80\xa8"', b'"A\xe2\x80\xa8B"', b'"\x7f"',
    b'"\\ud83d\\ude00"', b'"\\ud83d"', b'"\\ude00"', b'"\xc3\xa9"', b'"\xff"', b'"\xed\xa0\x80"',
    b'"\xc0\x80"', b'"\xef\xbb\xbfA"', b'"}"', b'"{"', b'"]["', b'"\\""', b'"\\\\"', b'"\\/"',
    b'"\\q"',
    b'"Infinity"', b'"2020.01.31 23:59:59"', b'"2020.02.30 00:00:00"', b'"2020.01.01 24:00:00"',
    b'"0000.01.01 00:00:00"', b'"9999.12.31 23:59:60"', b'"2020-01-01 00:00:00"', b'"x"', b"'A'",
]
CONTAINERS = [
    b"{}", b"[]", b"[[]]", b"[null]", b"[1]", b'{"x": {}}', b'{"item": "A"}', b'[{"item": "A"}]',
    b"[" * 30 + b"]" * 30, b"[" * 1100 + b"]" * 1100, b'{"x":' * 1100 + b"1" + b"}" * 1100,
]
PIECES = [
    b"-", b"+", b".5", b"1.", b"01", b"00", b"1e", b"0x1", b"1_0", b"-Inf", b"-I",
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\u0020", b"//", b"/**/",
    b"\0", b"\x01", b"\x1f", b"\t", b"\r", b"\n", b"\r\n", b"\x0b", b"\x0c", b" ", b"\xc2\xa0",
    b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\x80", b"\xf4\x90\x80\x80",
    b"}{", b"} {", b"}\n{", b"}\r{", b"},{", b"}null{", b"}\0{", b"}\0}", b'{"itemList":[]}',
    b'"item":', b'"item":null,', b'"item":"A",', b'"it\\u0065m":2,', b'"item\\u0000":1,',
    b'"quantity":', b'"quantity":1,', b'"quantity":null,', b'"itemList":', b'"itemList":null,',
    b'"itemList":[],', b'"date":', b'"date":null,', b'"store":', b'"store":null,', b'"x":NaN,',
    b'"":1,',
]
# fmt: on
NAMES = [b"itemList", b"item", b"quantity", b"date", b"store", b"x", b"", b"it\\u0065m", b"Item"]
LINE_ENDS = [b"\n"] * 60 + [b"\r\n", b"\n\n", b" \n", b"\n ", b"\r", b" ", b""]
SPACES = [b""] * 12 + [b" ", b"\t", b"\r", b"  "]
TOKENS = SCALARS + CONTAINERS + PIECES
ODD = SCALARS + CONTAINERS + [b"null", b"NaN", b"-NaN", b"Infinity", b"true"] * 4

# Line items with times as numbers: the year 0 is more than Python's datetime can hold.
COUNTED_TIME = pa.schema(
    [(field.name, field.type if field.name != "ordered_at" else pa.int64()) for field in LINE_ITEMS]
)
Texts = st.SearchStrategy[bytes]


def odd_at_times(usual: list[bytes], odd: bool) -> Texts:
    """Draw a usual text; where `odd` is set one time in six any text at all."""
    repeats = 5 * len(ODD) // len(usual)
    return st.sampled_from(usual * repeats + ODD if odd else usual)


@st.composite
def objects(draw: st.DrawFn, odd: bool, **members: Texts) -> bytes:
    """Write an object with most of `members` in any order; where `odd`, others at times."""
    names = draw(st.permutations([name.encode() for name in members]))
    if odd:
        names = names[draw(st.sampled_from([0] * 7 + [1])) :]
    space = draw(st.sampled_from(SPACES))
    texts = [b'"%s"%s:%s' % (name, space, draw(members[name.decode()])) for name in names]
    if odd and not draw(st.integers(0, 15)):
        texts.append(b'"%s":%s' % (draw(st.sampled_from(NAMES)), draw(st.sampled_from(ODD))))
    return b"{" + space + b",".join(texts) + space + b"}"


def records(ids: list[bytes], stores: list[bytes], odd: bool) -> Texts:
    items = objects(
        odd,
        item=odd_at_times(ids, odd),
        quantity=odd_at_times([b"1", b"2.0", b"0.5", b"-1", b"0", b"null"], odd),
        price=odd_at_times([b"1.88"], odd),
    )
    baskets = st.lists(items, min_size=0 if odd else 1, max_size=3)
    return objects(
        odd,
        itemList=baskets.map(lambda texts: b"[" + b",".join(texts) + b"]"),
        date=odd_at_times([b'"2017.04.06 12:09:32"', b"null", b'"yesterday"'], odd),
        store=odd_at_times(stores, odd),
        x=odd_at_times([b"1", b'"text"', b"[1, 2]", b'{"x": []}'], odd),
    )


SHOPS = [
    ([b'"A"', b'"B"', b'"ITEM_CODE_1"', b'" A"', b'"\xc3\xa9"'], [b'"0001"', b'" 2"', b"null"]),
    ([b"1", b"22", b"0", b"-3"], [b"1", b"2", b"null"]),
]
CLEAN_RECORDS = [records(*shop, odd=False) for shop in SHOPS]
ODD_RECORDS = [records(*shop, odd=True) for shop in SHOPS]
KINDS = ["clean"] * 6 + ["odd"] * 8 + ["broken"] * 3 + ["no object"]
EDITS = ["insert", "insert", "overwrite", "overwrite", "delete", "repeat", "cut"]


def edit(draw: st.DrawFn, text: bytes) -> bytes:
    """Break a text at one place."""
    place = draw(st.integers(0, len(text)))
    kind = draw(st.sampled_from(EDITS))
    if kind == "insert":
        return text[:place] + draw(st.sampled_from(TOKENS)) + text[place:]
    if kind == "overwrite":
        new = draw(st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=1))
        return text[:place] + new + text[place + len(new) :]
    if kind == "delete":
        return text[:place] + text[place + draw(st.integers(1, 4)) :]
    if kind == "repeat":
        return text[:place] + text[place : place + draw(st.integers(1, 30))] + text[place:]
    return text[:place]


@st.composite
def record_lines(draw: st.DrawFn) -> list[bytes]:
    """Write records with their line ends: clean ones, odd ones, and broken ones."""
    shop = draw(st.integers(0, len(SHOPS) - 1))
    lines = []
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6)):
        if kind == "no object":
            text = draw(st.sampled_from(ODD))
        else:
            text = draw((ODD_RECORDS if kind == "odd" else CLEAN_RECORDS)[shop])
        if kind == "broken":
            text = edit(draw, text)
        lines.append(text + draw(st.sampled_from(LINE_ENDS)))
    return lines


@st.composite
def files(draw: st.DrawFn) -> bytes:
    text = b"".join(draw(record_lines()))
    if draw(st.integers(0, 5)) == 5:
        text = edit(draw, text)
    return text.rstrip(b"\r\n") if draw(st.booleans()) else text


def comparable(order_id: int, product_id: str, quantity: float | None, *rest: Any) -> tuple:
    """Return a row in which quantities 0.0 and -0.0 differ."""
    bits = None if quantity is None else struct.pack(">d", quantity)
    return order_id, product_id, bits, *rest


def rows(flattened: Iterable[Flattened]) -> list[tuple[Any, ...]]:
    """Return (order id, product id, bits of quantity, microseconds, store) of each line item."""
    tables = [table for one in flattened for table in one.line_items]
    found = [row for table in tables for row in table.cast(COUNTED_TIME).to_pylist()]
    return sorted((comparable(*row.values()) for row in found), key=repr)


def rejects(flattened: Iterable[Flattened]) -> list[str]:
    return sorted(repr(row) for one in flattened for row in one.rejects)


def counts(flattened: Iterable[Flattened]) -> Counter[str]:
    return +sum((one.counts for one in flattened), Counter())


def outcome(*flattened: Flattened) -> tuple[Any, ...]:
    return rows(flattened), rejects(flattened), counts(flattened)


def record_by_record(data: bytes, offset: int = 0) -> Flattened:
    return flatten_lines(data, offset, file_number=1, fast=False)


def assert_fast_is_right(data: bytes) -> bool:
    """Check what the fast reader gives for a block, if it takes it, and say whether it does."""
    try:
        fast = flatten_fast(data, 1 << 33, file_number=1)
    except (NotClean, pa.ArrowInvalid):
        return False
    assert outcome(fast) == outcome(record_by_record(data, 1 << 33)), data
    return True


PLACES = {
    "line": b"@",
    "itemlist": b'{"itemList":@}',
    "entry": b'{"itemList":[@]}',
    "item": b'{"itemList":[{"item":@,"quantity":1}]}',
    "quantity": b'{"itemList":[{"item":"A","quantity":@},{"item":"B"}]}',
    "price": b'{"itemList":[{"item":"A","price":@}]}',
    "name-in-a-line": b'{"itemList":[{@:1,"item":"A"}]}',
    "date": b'{"itemList":[{"item":"A"}],"date":@}',
    "store": b'{"itemList":[{"item":"A"}],"store":@}',
    "other": b'{"itemList":[{"item":"A"}],"x":@}',
    "nested": b'{"itemList":[{"item":"A"}],"x":{"y":[@,1]}}',
    "name": b'{"itemList":[{"item":"A"}],@:1}',
    "first-of-two-itemlists": b'{"itemList":@,"itemList":[{"item":"A"}]}',
    "last-of-two-itemlists": b'{"itemList":[{"item":"A"}],"itemList":@}',
    "first-of-two-items": b'{"itemList":[{"item":@,"item":"A"}]}',
    "last-of-two-items": b'{"itemList":[{"item":"A","item":@}]}',
    "last-of-two-quantities": b'{"itemList":[{"item":"A","quantity":1,"quantity":@}]}',
    "first-of-two-dates": b'{"itemList":[{"item":"A"}],"date":@,"date":"x"}',
    "last-of-two-stores": b'{"itemList":[{"item":"A"}],"store":"1","store":@}',
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_any_value_at_a_place_of_a_record_is_read_the_same_both_ways(place):
    for value in {*TOKENS, *(b"-" + value for value in SCALARS), *(value * 2 for value in TOKENS)}:
        assert_fast_is_right(place.replace(b"@", value))


def test_any_piece_in_any_gap_of_a_record_is_read_the_same_both_ways():
    clean = b'{"x":NaN,"itemList":[{"item":"A"}]}\n{"itemList":[]}'
    gaps = range(len(clean) + 1)
    broken = {clean[:gap] + piece + clean[gap:] for gap in gaps for piece in PIECES}
    assert sum(map(assert_fast_is_right, broken)) > len(PIECES)


@thoroughly
@given(
    data=files(),
    small_block=st.sampled_from([0, 60, blocks.SMALL_BLOCK]),  # 0: halve down to single lines
    reader_chunk=st.sampled_from([150, 300, blocks.READER_CHUNK]),
)
def test_the_fast_reader_agrees_with_the_record_by_record_reader(data, small_block, reader_chunk):
    in_chunks = partial(flatten_fast, chunk=reader_chunk)
    with patch.multiple(blocks, SMALL_BLOCK=small_block, flatten_fast=in_chunks):
        fast = flatten_lines(data, 1 << 33, file_number=1)
    assert outcome(fast) == outcome(record_by_record(data, 1 << 33))


@thoroughly
@given(lines=record_lines())
def test_a_record_is_read_the_same_alone_and_in_company(lines):
    lines = [line.replace(b"\n", b" ") + b"\n" for line in lines]
    alone, offset = [], 0
    for number, line in enumerate(lines):
        alone.append(flatten_lines(line, offset, file_number=1, line_number=number))
        offset += len(line)
    assert outcome(*alone) == outcome(flatten_lines(b"".join(lines), 0, file_number=1))


@thoroughly
@given(data=files())
def test_every_record_is_kept_or_rejected_and_every_line_too(data):
    flattened = flatten_lines(data, 0, file_number=1)
    reasons = Counter(row["reason"].split(":")[0] for row in flattened.rejects)
    found = flattened.counts
    texts = [line for line in data.split(b"\n") if line.strip()]
    assert found["records_read"] == len(texts)
    assert found["records_rejected"] == reasons["record"]
    assert found["lines_rejected"] == reasons["line"]
    assert found["lines_written"] == len(rows([flattened]))
    places = {kind: set() for kind in ("record", "line")}
    for row in flattened.rejects:
        places[row["reason"].split(":")[0]].add(row["byte_offset"])
        assert data[: row["byte_offset"]].count(b"\n") == row["line_number"]
    baskets = {row[0] & ((1 << 40) - 1) for row in rows([flattened])}
    assert places["record"].isdisjoint(places["line"] | baskets)
    kept = len(baskets | places["line"]) + found["baskets_empty"]
    assert found["records_read"] == kept + found["records_rejected"]
    assert found["records_touched"] == len(places["record"] | places["line"])


@slowly
@given(
    data=files() | files().map(lambda text: b"\xef\xbb\xbf" + text),
    block_size=st.sampled_from([1, 40, 70, 90, 100, 130, 170, 230, 310, 500]),
    compression=st.sampled_from([None, "gzip", "zstd"]),
)
def test_block_size_and_compression_change_nothing(data, block_size, compression):
    pack = {None: bytes, "gzip": gzip.compress, "zstd": zstd}[compression]
    whole = InputFile(1, stored(pack(data)), len(data), compression, False)
    bom = len(data) - len(data.removeprefix(b"\xef\xbb\xbf"))
    assert read_in_blocks(whole, block_size) == outcome(record_by_record(data[bom:], bom))


def stored(data: bytes) -> str:
    fsspec.filesystem("memory").pipe_file("/transactions.txt", data)
    return "memory://transactions.txt"


def read_in_blocks(source: InputFile, block_size: int) -> tuple[Any, ...]:
    """Read a file as the tasks of a run do, its line numbers put together as a run does."""
    ranges = plan_byte_ranges([source], block_size)
    parts = [list(read_ranges([part], block_size, fast=True)) for part in ranges]
    tallies = [Tally(counts(part)) for part in parts]
    flattened = []
    for part, before in zip(parts, count_lines_before(ranges, tallies), strict=True):
        for one in part:
            for row in one.rejects:
                row["line_number"] += before
                assert row.pop("source_file") == source.path
        flattened += part
    return outcome(*flattened)


@thoroughly
@given(
    elements=st.lists(st.sampled_from(CLEAN_RECORDS + ODD_RECORDS).flatmap(lambda texts: texts)),
    space=st.sampled_from([b"", b" ", b"\n", b"\r\n", b"\n\t"]),
    characters_read=st.sampled_from([1, 2, 7, 60, byte_ranges.CHARACTERS_READ]),
)
def test_an_array_holds_the_elements_that_were_put_in(elements, space, characters_read):
    separator = space + b"," + space
    data = b"[" + space + separator.join(elements) + space + b"]" + space
    with patch.object(byte_ranges, "CHARACTERS_READ", characters_read):
        found = list(array_elements(InputFile(1, stored(data), len(data), None, True)))
    assert found == [(n, text.replace(b"\r", b"\n")) for n, text in enumerate(elements)]


@thoroughly
@given(lines=record_lines(), cuts=st.sets(st.integers(1, 5)))
def test_splitting_a_file_changes_no_basket(lines, cuts):
    lines = [line.replace(b"\n", b" ") + b"\n" for line in lines]
    edges = [0, *sorted(cut for cut in cuts if cut < len(lines)), len(lines)]
    texts = [b"".join(lines[start:stop]) for start, stop in pairwise(edges)]
    split = [flatten_lines(text, 0, file_number) for file_number, text in enumerate(texts)]
    joined = [flatten_lines(b"".join(lines), 0, 0)]
    assert baskets(split) == baskets(joined)
    assert counts(split) == counts(joined)
    assert reasons(split) == reasons(joined)


def baskets(flattened: list[Flattened]) -> Counter[tuple[Any, ...]]:
    """Return how often each basket occurs, whatever its order id."""
    lines = defaultdict(list)
    for order_id, *line in rows(flattened):
        lines[order_id].append(repr(line))
    return Counter(tuple(sorted(basket)) for basket in lines.values())


def reasons(flattened: list[Flattened]) -> Counter[tuple[str, str]]:
    return Counter((row["reason"], row["raw_text"]) for one in flattened for row in one.rejects)


texts = st.text(max_size=8).filter(lambda text: text.strip() and not CONTROL_CHARACTER.search(text))
product_ids = st.one_of(texts, st.integers(-(2**70), 2**70))
units = st.one_of(
    st.none(), st.integers(-5, 10**20), st.floats(allow_nan=False, allow_infinity=False)
)


@thoroughly
@given(
    baskets=st.lists(st.lists(st.tuples(product_ids, units), min_size=1, max_size=4), max_size=5),
    store=product_ids,
    date=st.datetimes().map(lambda date: date.replace(microsecond=0)),
    ascii_only=st.booleans(),
)
def test_what_a_shop_writes_is_what_it_gets(baskets, store, date, ascii_only):
    written = [
        {
            "date": date.isoformat(" ").replace("-", "."),
            "store": store,
            "itemList": [{"item": item, "quantity": quantity} for item, quantity in basket],
        }
        for basket in baskets
    ]
    lines = [json.dumps(record, ensure_ascii=ascii_only).encode() for record in written]
    data = b"".join(line + b"\n" for line in lines)
    offsets = [sum(len(line) + 1 for line in lines[:number]) for number in range(len(lines))]
    time = (date - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    expected = [
        comparable((7 << 40) + offset, str(item).strip(), quantity, time, str(store).strip())
        for offset, basket in zip(offsets, baskets, strict=True)
        for item, quantity in basket
    ]
    expected.sort(key=repr)
    for fast in (True, False):
        assert outcome(flatten_lines(data, 0, 7, fast=fast))[:2] == (expected, [])


def test_the_generated_files_are_worth_reading():
    seen: Counter[str] = Counter()

    @settings(thoroughly, max_examples=400)
    @given(files())
    def look(data):
        flattened = record_by_record(data)
        seen.update({row["reason"] for row in flattened.rejects})
        seen.update(+flattened.counts)
        seen["files"] += 1
        seen["fast"] += assert_fast_is_right(data)

    look()
    reasons = {name for name in seen if ": " in name}
    assert len(reasons) >= 10, reasons
    assert seen["fast"] > seen["files"] / 8
    assert seen["lines_written"] > seen["files"]
