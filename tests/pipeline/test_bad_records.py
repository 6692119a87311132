"""Bad transactions, each with its outcome: what is kept, what is set aside and why, the counts.

Every case is read alone, amid clean records, in a block large enough to be halved around the
trouble, and from a file into the lake; each time the fast reader and the record-by-record reader
must agree, and the counts must add up to the record.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from bought_together.errors import CannotRun, Refused
from bought_together.ingest import blocks
from bought_together.ingest.blocks import SMALL_BLOCK, flatten_lines
from bought_together.ingest.line_items import ORDER_ID_OFFSET_BITS, Flattened
from bought_together.ingest.reject_rows import RAW_TEXT_LIMIT
from bought_together.ingest.run import flatten

DATE = "2017.04.06 12:09:32"
TIME = datetime(2017, 4, 6, 12, 9, 32)
STORE = "0001"
CLEAN = b'{"date": "%s", "itemList": [{"item": "C", "quantity": 2.0}], "store": "%s"}\n' % (
    DATE.encode(),
    STORE.encode(),
)
CLEAN_ROW = ("C", 2.0, TIME, STORE)
FILE_NUMBER = 3

NOT_JSON = "record: not JSON"
NOT_AN_OBJECT = "record: not an object"
TWO_RECORDS = "record: more than one record on the line"
NOT_A_LIST = "record: itemList is not a list"
LINE_NOT_AN_OBJECT = "line: not an object"
NO_ID = "line: item is neither text nor a number"
EMPTY_ID = "line: item is empty"
CONTROL_ID = "line: item holds a control character"
SURROGATE_ID = "line: item holds half a surrogate pair"
NO_NUMBER = "line: quantity is not a number"
NOT_FINITE = "line: quantity is not finite"


@dataclass(frozen=True)
class Case:
    """Text as it stands in a file, and all that must come of it."""

    data: bytes
    lines: list[tuple[str, float | None]] = field(default_factory=list)
    rejects: list[str] = field(default_factory=list)
    records: int = 1
    ordered_at: datetime | None = TIME
    store_id: str | None = STORE
    noted: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        return [(*line, self.ordered_at, self.store_id) for line in self.lines]

    @property
    def counts(self) -> dict[str, int]:
        records_rejected = sum(reason.startswith("record: ") for reason in self.rejects)
        one_record_touched = min(1, len(self.rejects) - records_rejected)
        return self.noted | {
            "records_read": self.records,
            "records_rejected": records_rejected,
            "records_touched": records_rejected + one_record_touched,
            "lines_written": len(self.lines),
            "lines_rejected": len(self.rejects) - records_rejected,
        }


def record(items: str = '[{"item": "A"}]', **members: str | None) -> bytes:
    """Write a record from JSON texts; a member that is None is left out."""
    members = {"date": f'"{DATE}"', "itemList": items, "store": f'"{STORE}"'} | members
    present = (f'"{name}": {value}' for name, value in members.items() if value is not None)
    return ("{" + ", ".join(present) + "}").encode()


def rejected(data: bytes | str, reason: str = NOT_JSON, times: int = 1) -> Case:
    text = data.encode() if isinstance(data, str) else data
    return Case(text, rejects=[reason] * times, records=times)


def kept(data: bytes, *product_ids: str, **more: Any) -> Case:
    return Case(data, [(product_id, None) for product_id in product_ids or ("A",)], **more)


def entry_kept(entry: str, product_id: str = "B", quantity: float | None = None) -> Case:
    """Expect a line to be kept, beside a clean one."""
    data = record(f'[{{"item": "A", "quantity": 2}}, {entry}]')
    return Case(data, [("A", 2.0), (product_id, quantity)])


def entry_rejected(entry: str, reason: str) -> Case:
    """Expect one line to be set aside, and the clean ones around it to be kept."""
    data = record(f'[{{"item": "A", "quantity": 2}}, {entry}, {{"item": "C"}}]')
    return Case(data, [("A", 2.0), ("C", None)], [reason])


def item_kept(item: str, product_id: str) -> Case:
    return entry_kept(f'{{"item": {item}}}', product_id)


def item_rejected(item: str, reason: str) -> Case:
    return entry_rejected(f'{{"item": {item}, "quantity": 1}}', reason)


def quantity_kept(quantity: str, units: float | None) -> Case:
    return entry_kept(f'{{"item": "B", "quantity": {quantity}}}', "B", units)


def quantity_rejected(quantity: str, reason: str) -> Case:
    return entry_rejected(f'{{"item": "B", "quantity": {quantity}}}', reason)


def date_lost(date: str | None, count: str = "dates_unreadable") -> Case:
    return kept(record(date=date), ordered_at=None, noted={count: 1})


def store_lost(store: str) -> Case:
    return kept(record(store=store), store_id=None, noted={"stores_unreadable": 1})


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


RECORDS = {
    "malformed": rejected('{"itemList": [{"item": "A"}'),
    "truncated-in-a-string": rejected('{"itemList": [{"item": "A'),
    "truncated-before-the-brace": rejected(record()[:-1]),
    "trailing-comma": rejected('{"itemList": [{"item": "A"},]}'),
    "single-quotes": rejected("{'itemList': [{'item': 'A'}]}"),
    "brace-alone": rejected("{"),
    "words": rejected("ERROR 500 upstream timed out"),
    "nul-byte-after": rejected(record() + b"\0"),
    "nul-byte-then-more": rejected(record() + b"\0 {}"),
    "control-character-unescaped": rejected(record(x='"\x01"')),
    "unknown-escape": rejected(record(x=r'"\q"')),
    "leading-zero": rejected(record(x="007")),
    "plus-sign": rejected(record(x="+1")),
    "bom-inside-the-file": rejected(b"\xef\xbb\xbf" + record()),
    "number": rejected("12", NOT_AN_OBJECT),
    "string": rejected('"itemList"', NOT_AN_OBJECT),
    "list": rejected("[" + record().decode() + "]", NOT_AN_OBJECT),
    "true": rejected("true", NOT_AN_OBJECT),
    "null": rejected("null", NOT_AN_OBJECT),
    "nan": rejected("NaN", NOT_AN_OBJECT),
    "two-on-a-line": rejected(record() + record(), TWO_RECORDS),
    "two-on-a-line-with-a-space": rejected(record() + b" " + record(), TWO_RECORDS),
    "two-on-a-line-with-accents": rejected(record('[{"item": "éé"}]') + record(), TWO_RECORDS),
    "two-on-a-line-with-emoji": rejected(record('[{"item": "😀"}]') + b" {}", TWO_RECORDS),
    "two-on-a-line-with-a-comma": rejected(record() + b"," + record()),
    "two-on-a-line-with-null-between": rejected(record() + b"null" + record()),
    "one-over-two-lines": rejected(record('[\n{"item": "A"}]'), times=2),
    "one-over-two-lines-between-braces": rejected(
        record('[{"item": "A"}\n,{"item": "B"}]'), times=2
    ),
    # As many records as lines, and the lines begin or end as records do: still no record a line.
    "one-over-two-lines-then-another": rejected(b'{"itemList": [], "x":\n{}}' + record(), times=2),
    "one-then-another-over-two-lines": Case(
        record() + b'{"x": {}\n, "itemList": []}', [], [TWO_RECORDS, NOT_JSON], records=2
    ),
    "no-itemlist": rejected('{"date": "2017.04.06 12:09:32"}', "record: no itemList"),
    "empty-object": rejected("{}", "record: no itemList"),
    "itemlist-in-other-case": rejected('{"ItemList": []}', "record: no itemList"),
    "itemlist-null": rejected(record("null"), "record: itemList is null"),
    "itemlist-object": rejected(record('{"item": "A"}'), NOT_A_LIST),
    "itemlist-text": rejected(record('"A"'), NOT_A_LIST),
    "itemlist-number": rejected(record("1"), NOT_A_LIST),
    "itemlist-true": rejected(record("true"), NOT_A_LIST),
    "itemlist-empty": Case(record("[]"), noted={"baskets_empty": 1}),
    "itemlist-empty-undated": Case(
        record("[]", date=None), noted={"baskets_empty": 1, "dates_missing": 1}
    ),
    "not-utf8": rejected(record(x='"caf?"').replace(b"?", b"\xe9"), "record: not UTF-8"),
    "not-utf8-in-an-id": rejected(b'{"itemList": [{"item": "\xff"}]}', "record: not UTF-8"),
    "not-utf8-overlong": rejected(b'{"itemList": [{"item": "\xc0\x80"}]}', "record: not UTF-8"),
    "not-utf8-surrogate": rejected(b'{"itemList": [], "\xed\xa0\x80": 1}', "record: not UTF-8"),
    "nested-2000-in-itemlist": rejected(record(nested(2000)), "record: nested too deeply"),
}
ENTRIES = {
    "null": entry_rejected("null", LINE_NOT_AN_OBJECT),
    "number": entry_rejected("7", LINE_NOT_AN_OBJECT),
    "text": entry_rejected('"B"', LINE_NOT_AN_OBJECT),
    "list": entry_rejected('[{"item": "B"}]', LINE_NOT_AN_OBJECT),
    "true": entry_rejected("true", LINE_NOT_AN_OBJECT),
    "empty-object": entry_rejected("{}", "line: no item"),
    "no-item": entry_rejected('{"quantity": 1.0}', "line: no item"),
    "every-one-rejected": Case(record("[null, {}]"), [], [LINE_NOT_AN_OBJECT, "line: no item"]),
}
ITEMS = {
    "null": item_rejected("null", "line: item is null"),
    "empty": item_rejected('""', EMPTY_ID),
    "white-space-only": item_rejected('" \\t\u00a0\u2003"', EMPTY_ID),
    "true": item_rejected("true", NO_ID),
    "false": item_rejected("false", NO_ID),
    "object": item_rejected('{"id": "B"}', NO_ID),
    "list": item_rejected('["B"]', NO_ID),
    "nan": item_rejected("NaN", NO_ID),
    "infinity": item_rejected("-Infinity", NO_ID),
    "control-character": item_rejected(r'"B\u0007B"', CONTROL_ID),
    "nul-character": item_rejected(r'"B\u0000"', CONTROL_ID),
    "delete-character": item_rejected('"B\x7fB"', CONTROL_ID),
    "c1-control-character": item_rejected('"B\u0085B"', CONTROL_ID),
    "tab-inside": item_rejected(r'"B\tB"', CONTROL_ID),
    "line-break-inside": item_rejected(r'"B\nB"', CONTROL_ID),
    "lone-high-surrogate": item_rejected(r'"B\ud83d"', SURROGATE_ID),
    "lone-low-surrogate": item_rejected(r'"\ude00B"', SURROGATE_ID),
    "surrogates-in-the-wrong-order": item_rejected(r'"\ude00\ud83d"', SURROGATE_ID),
    "integer": item_kept("11", "11"),
    "decimal-keeps-its-zero": item_kept("1.50", "1.50"),
    "minus-zero": item_kept("-0", "-0"),
    "negative": item_kept("-12", "-12"),
    "exponent": item_kept("1e3", "1e3"),
    "20-digits": item_kept("12345678901234567890", "12345678901234567890"),
    "5000-digits": item_kept("9" * 5000, "9" * 5000),
    "beyond-64-bits": item_kept("9223372036854775808", "9223372036854775808"),
    "leading-zeros": item_kept('"0011"', "0011"),
    "text-that-looks-null": item_kept('"null"', "null"),
    "double-quote": item_kept(r'"B\"B"', 'B"B'),
    "single-quote": item_kept('"B\'B"', "B'B"),
    "backslash": item_kept(r'"B\\B"', "B\\B"),
    "inner-spaces": item_kept('"B  C D"', "B  C D"),
    "padded-with-spaces": item_kept('"  B "', "B"),
    "padded-with-tabs": item_kept(r'"\tB\t"', "B"),
    "padded-with-nbsp": item_kept('"\u00a0B\\u00a0"', "B"),
    "padded-with-line-separator": item_kept('"\u2028B"', "B"),
    "line-separator-inside": item_kept('"B\u2028B"', "B\u2028B"),
    "accents": item_kept('"crème brûlée"', "crème brûlée"),
    "accents-escaped": item_kept(r'"cr\u00e8me"', "crème"),
    "accents-decomposed": item_kept('"cre\u0300me"', "cre\u0300me"),
    "emoji": item_kept('"🛒"', "🛒"),
    "emoji-escaped": item_kept(r'"\ud83d\uded2"', "🛒"),
    "case-sensitive": item_kept('"a"', "a"),
    "braces": item_kept('"}{][,:"', "}{][,:"),
    "named-inf": item_kept('"Infinity"', "Infinity"),
}
QUANTITIES = {
    "missing": item_kept('"B"', "B"),
    "null": quantity_kept("null", None),
    "negative": quantity_kept("-1", -1.0),
    "zero": quantity_kept("0", 0.0),
    "minus-zero": quantity_kept("-0.0", -0.0),
    "fraction": quantity_kept("0.375", 0.375),
    "exponent": quantity_kept("25e-1", 2.5),
    "smallest": quantity_kept("5e-324", 5e-324),
    "too-small-to-hold": quantity_kept("1e-400", 0.0),
    "text": quantity_rejected('"two"', NO_NUMBER),
    "number-as-text": quantity_rejected('"2"', NO_NUMBER),
    "empty-text": quantity_rejected('""', NO_NUMBER),
    "true": quantity_rejected("true", NO_NUMBER),
    "list": quantity_rejected("[2]", NO_NUMBER),
    "object": quantity_rejected('{"units": 2}', NO_NUMBER),
    "nan": quantity_rejected("NaN", NOT_FINITE),
    "infinity": quantity_rejected("Infinity", NOT_FINITE),
    "minus-infinity": quantity_rejected("-Infinity", NOT_FINITE),
    "1e400": quantity_rejected("1e400", NOT_FINITE),
    "5000-digits": quantity_rejected("9" * 5000, NOT_FINITE),
    "inf": rejected(record('[{"item": "A", "quantity": Inf}]')),
    "minus-nan": rejected(record('[{"item": "A", "quantity": -NaN}]')),
}
DATES = {
    "missing": date_lost(None, "dates_missing"),
    "null": date_lost("null", "dates_missing"),
    "empty": date_lost('""'),
    "iso": date_lost('"2017-04-06 12:09:32"'),
    "day-first": date_lost('"06.04.2017 12:09:32"'),
    "slashes": date_lost('"2017/04/06 12:09:32"'),
    "without-time": date_lost('"2017.04.06"'),
    "with-fraction": date_lost('"2017.04.06 12:09:32.5"'),
    "padded": date_lost('" 2017.04.06 12:09:32"'),
    "line-break-after": date_lost(r'"2017.04.06 12:09:32\n"'),
    "30-february": date_lost('"2017.02.30 12:09:32"'),
    "29-february-of-no-leap-year": date_lost('"2017.02.29 12:09:32"'),
    "hour-25": date_lost('"2017.04.06 25:09:32"'),
    "month-13": date_lost('"2017.13.06 12:09:32"'),
    "other-digits": date_lost('"٢٠١٧.04.06 12:09:32"'),
    "number": date_lost("20170406120932"),
    "nan": date_lost("NaN"),
    "true": date_lost("true"),
    "list": date_lost('["2017.04.06 12:09:32"]'),
    "lone-surrogate": date_lost(r'"\ud83d"'),
    "29-february": kept(record(date='"2016.02.29 00:00:00"'), ordered_at=datetime(2016, 2, 29)),
}
STORES = {
    "missing": kept(record(store=None), store_id=None),
    "null": kept(record(store="null"), store_id=None),
    "number": kept(record(store="7"), store_id="7"),
    "decimal": kept(record(store="7.0"), store_id="7.0"),
    "minus-zero": kept(record(store="-0"), store_id="-0"),
    "padded": kept(record(store='"\u00a00007 "'), store_id="0007"),
    "accents": kept(record(store='"Köln"'), store_id="Köln"),
    "true": store_lost("true"),
    "empty": store_lost('""'),
    "blank": store_lost('"  "'),
    "list": store_lost('["0001"]'),
    "object": store_lost("{}"),
    "nan": store_lost("NaN"),
    "control-character": store_lost(r'"1\u0000"'),
    "lone-surrogate": store_lost(r'"\ude00"'),
}
IGNORED = {
    "nan": kept(record(x="NaN")),
    "infinity": kept(record(x="[Infinity, -Infinity]")),
    "inf": rejected(record(x="Inf")),
    "minus-inf": rejected(record(x="-Inf")),
    "minus-nan": rejected(record(x="-NaN")),
    "lowercase-nan": rejected(record(x="nan")),
    "lone-surrogate": kept(record(x=r'"\ud83d"')),
    "lone-surrogate-in-a-key": kept(record(**{r"\udc00": "1"})),
    "1e400": kept(record(x="1e400")),
    "5000-digits": kept(record(x="9" * 5000)),
    "nested-2000": kept(record(x=nested(2000))),
    "nested-2000-objects": kept(record(x='{"x":' * 2000 + "1" + "}" * 2000)),
    "nested-2000-in-a-line": kept(record(f'[{{"item": "A", "x": {nested(2000)}}}]')),
    "nested-2000-unclosed": rejected(record(x="[" * 2000), "record: nested too deeply"),
    "line-separator": kept(record(x='"a\u2028b\u2029c\u0085d"')),
    "named-like-a-line": kept(record(x='{"itemList": [{"item": null}], "quantity": "two"}')),
    "nul-in-a-key": kept(record(**{r"itemList\u0000": "1"})),
}
DUPLICATES = {
    "ignored": kept(record(x="1").replace(b'"x"', b'"x": {}, "x"')),
    "itemlist": kept(b'{"itemList": [{"item": "B"}], ' + record()[1:]),
    "itemlist-null-last": rejected(
        record()[:-1] + b', "itemList": null}', "record: itemList is null"
    ),
    "item": item_kept('"C", "item": "B"', "B"),
    "item-null-last": item_rejected('"C", "item": null', "line: item is null"),
    "item-escaped": item_kept(r'"C", "it\u0065m": "B"', "B"),
    "quantity-null-last": quantity_kept('1, "quantity": null', None),
    "quantity-text-first": quantity_kept('"one", "quantity": 1', 1.0),
    "date-null-last": kept(
        record(date='"2017.04.06 12:09:32", "date": null'),
        ordered_at=None,
        noted={"dates_missing": 1},
    ),
    "store-null-last": kept(record(store='"0002", "store": null'), store_id=None),
}
LARGE = {
    "10-mb-line": kept(record(x='"' + "x" * 10_000_000 + '"')),
    "10-mb-line-truncated": rejected(record(x='"' + "x" * 10_000_000)),
    "basket-of-5000": kept(
        record("[" + ", ".join(f'{{"item": "P{i}"}}' for i in range(5000)) + "]"),
        *(f"P{i}" for i in range(5000)),
    ),
    "basket-of-5000-with-a-null": Case(
        record("[" + ", ".join(f'{{"item": "P{i}"}}' for i in range(5000)) + ", null]"),
        [(f"P{i}", None) for i in range(5000)],
        [LINE_NOT_AN_OBJECT],
    ),
}
WHITE_SPACE = {
    "around-everything": kept(record('[ { "item" :\t"A" } ]').replace(b"{", b"{ ", 1)),
    "before-and-after": kept(b" \t" + record() + b" \t "),
    "carriage-return-after": kept(record() + b"\r"),
    "carriage-return-inside": kept(record(x="[1,\r2]")),
    "carriage-return-between-records": rejected(record() + b"\r" + record(), TWO_RECORDS),
    "nbsp-outside-a-string": rejected(b"\xc2\xa0" + record()),
    "blank-line": Case(b"", records=0),
    "spaces-only": Case(b" \t ", records=0),
    "blank-lines": Case(b"\n\r\n \n", records=0),
}
GROUPS = {
    "record": RECORDS,
    "entry": ENTRIES,
    "item": ITEMS,
    "quantity": QUANTITIES,
    "date": DATES,
    "store": STORES,
    "ignored": IGNORED,
    "duplicate": DUPLICATES,
    "large": LARGE,
    "space": WHITE_SPACE,
}
CASES = {f"{group}-{name}": case for group, cases in GROUPS.items() for name, case in cases.items()}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def rows(flattened: Flattened) -> list[dict[str, Any]]:
    return [row for table in flattened.line_items for row in table.to_pylist()]


def both_ways(data: bytes, offset: int = 0) -> Flattened:
    """Flatten fast and record by record, check that they agree, and return what they give."""
    fast, slow = (flatten_lines(data, offset, FILE_NUMBER, fast=fast) for fast in (True, False))
    in_order = [sorted(map(repr, rows(flattened))) for flattened in (fast, slow)]
    assert in_order[0] == in_order[1]
    by_place = [sorted(map(repr, flattened.rejects)) for flattened in (fast, slow)]
    assert by_place[0] == by_place[1]
    assert +fast.counts == +slow.counts
    return fast


def values(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["product_id"], row["quantity"], row["ordered_at"], row["store_id"]


def assert_outcome(flattened: Flattened, data: bytes, expected: list[Case], clean: int = 0) -> None:
    """Check rows, rejects and counts against `expected` cases and `clean` clean records."""
    found = Counter(values(row) for row in rows(flattened))
    assert found == Counter([row for case in expected for row in case.rows] + [CLEAN_ROW] * clean)
    reasons = [row["reason"] for row in flattened.rejects]
    assert Counter(reasons) == Counter(reason for case in expected for reason in case.rejects)
    counts = sum((Counter(case.counts) for case in expected), Counter())
    counts.update(records_read=clean, lines_written=clean, newlines=data.count(b"\n"))
    assert +flattened.counts == +counts
    assert_conserved(flattened, data)


def assert_conserved(flattened: Flattened, data: bytes) -> None:
    """Check that every record with text is kept or rejected, and where each reject stands."""
    counts = flattened.counts
    lines = data.split(b"\n")
    reasons = Counter(row["reason"].split(":")[0] for row in flattened.rejects)
    assert counts["records_read"] == sum(bool(line.strip()) for line in lines)
    assert counts["records_rejected"] == reasons["record"]
    assert counts["lines_rejected"] == reasons["line"]
    assert counts["lines_written"] == len(rows(flattened))
    rejected = [row for row in flattened.rejects if row["reason"].startswith("record: ")]
    places = [row["byte_offset"] for row in rejected]
    offsets = {row["order_id"] & ((1 << ORDER_ID_OFFSET_BITS) - 1) for row in rows(flattened)}
    assert len(places) == len(set(places))
    assert offsets.isdisjoint(places)
    for row in flattened.rejects:
        line = lines[row["line_number"]]
        assert data.startswith(line, row["byte_offset"])
        if row["byte_offset"] in places:
            assert line[:RAW_TEXT_LIMIT].decode("utf-8", "backslashreplace") == row["raw_text"]


@each_case
def test_alone(case):
    flattened = both_ways(case.data)
    assert_outcome(flattened, case.data, [case])
    assert all(row["order_id"] == FILE_NUMBER << 40 for row in rows(flattened))


@each_case
def test_amid_clean_records(case):
    data = CLEAN * 2 + case.data + b"\n" + CLEAN
    assert_outcome(both_ways(data), data, [case], clean=3)


@each_case
def test_a_run_sets_aside_what_the_counts_say(shop, case):
    shop.write_products(["A\tC\tName"])
    shop.transactions.write_bytes(CLEAN + case.data + b"\n" + CLEAN)
    counts = run(shop)
    expected = Counter(case.counts) + Counter(records_read=2, lines_written=2)
    kept_and_read = {
        "records_kept": expected["records_read"] - expected["records_rejected"],
        "lines_read": expected["lines_written"] + expected["lines_rejected"],
    }
    assert +Counter(counts) == expected + Counter(kept_and_read)
    line_items = shop.table("line_items").to_pylist()
    assert Counter(map(values, line_items)) == Counter([*case.rows, CLEAN_ROW, CLEAN_ROW])
    rejects = shop.table("rejects").to_pylist()
    assert Counter(row["reason"] for row in rejects) == Counter(case.rejects)
    assert {row["source"] for row in rejects} <= {"transactions"}
    summary = shop.manifest()["rejects"]
    assert {row["reason"]: row["rejects"] for row in summary} == Counter(case.rejects)


def run(shop, **settings: Any) -> dict[str, int]:
    """Flatten the shop's files, whatever share of them is bad, and return the counts."""
    paths = (str(shop.transactions), str(shop.products), str(shop.lake))
    return flatten(*paths, max_reject_fraction=1, **settings)["counts"]["transactions"]


def test_all_cases_in_one_block_that_is_halved_around_each():
    clean = 120
    small = [case for case in CASES.values() if len(case.data) < SMALL_BLOCK]
    data = b"".join(CLEAN * clean + case.data + b"\n" for case in small)
    assert len(data) > 20 * SMALL_BLOCK
    assert_outcome(both_ways(data), data, small, clean * len(small))


def test_all_cases_in_one_file_read_in_all_ways(shop):
    small = [case for case in CASES.values() if len(case.data) < SMALL_BLOCK]
    shop.write_products(["A\tC\tName"])
    shop.transactions.write_bytes(b"".join(CLEAN * 120 + case.data + b"\n" for case in small))
    expected = sum((Counter(case.counts) for case in small), Counter())
    expected.update(records_read=120 * len(small), lines_written=120 * len(small))
    for settings in ({"block_size": 100_000}, {"block_size": 1 << 20}, {"fast": False}):
        counts = run(shop, **settings)
        assert {name: counts[name] for name in expected} == expected
        rejects = shop.table("rejects")
        assert rejects.num_rows == counts["records_rejected"] + counts["lines_rejected"]
        assert shop.table("line_items").num_rows == counts["lines_written"]


def test_only_a_small_piece_around_the_trouble_is_read_record_by_record(monkeypatch):
    lengths = []
    one_by_one = blocks.flatten_records

    def measured(records, file_number, mapping=None):
        records = list(records)
        lengths.extend(len(text) for _, _, text in records)
        return one_by_one(records, file_number, mapping)

    monkeypatch.setattr(blocks, "flatten_records", measured)
    data = CLEAN * 10_000 + b"null\n" + CLEAN * 10_000
    flattened = flatten_lines(data, 0, FILE_NUMBER)
    assert_outcome(flattened, data, [RECORDS["null"]], clean=20_000)
    assert 0 < sum(lengths) <= SMALL_BLOCK


def test_the_callers_depth_changes_nothing():
    def deeper(calls: int, data: bytes) -> Flattened:
        if calls:
            return deeper(calls - 1, data)
        return flatten_lines(data, 0, FILE_NUMBER, fast=False)

    for depth in [*range(180, 220), *range(300, 1100, 20)]:
        data = record(f'[{{"item": "A"}}, {{"item": null, "x": {nested(depth)}}}]')
        shallow, deep = deeper(0, data), deeper(50, data)
        assert (rows(shallow), shallow.rejects) == (rows(deep), deep.rejects)


def test_numbers_in_one_half_of_a_block_and_text_in_the_other_stay_fast_and_as_written():
    numbers = b'{"itemList": [{"item": 11}, {"item": -7}], "store": 1}\n' * 2000
    texts = b'{"itemList": [{"item": "011"}], "store": "01"}\n' * 2000
    flattened = both_ways(numbers + texts)
    found = Counter((row["product_id"], row["store_id"]) for row in rows(flattened))
    assert found == {("11", "1"): 2000, ("-7", "1"): 2000, ("011", "01"): 2000}


@pytest.mark.parametrize(
    ("text", "expected_lines"),
    [
        pytest.param(b"\xef\xbb\xbf" + CLEAN * 2, 2, id="bom"),
        pytest.param(CLEAN.replace(b"\n", b"\r\n") * 2, 2, id="crlf"),
        pytest.param(b"\xef\xbb\xbf" + CLEAN.replace(b"\n", b"\r\n") * 2, 2, id="bom-and-crlf"),
        pytest.param((CLEAN * 2).rstrip(), 2, id="no-line-end-at-the-end"),
        pytest.param(b"\n\n" + CLEAN + b"\n \n\r\n" + CLEAN + b"\n\n", 2, id="blank-lines"),
        pytest.param(b"\xef\xbb\xbf\n" + CLEAN, 1, id="bom-and-blank-line"),
        pytest.param(CLEAN.replace(b"\n", b"  \t\n") * 2, 2, id="trailing-spaces"),
        pytest.param(b"  " + CLEAN + b"\t" + CLEAN, 2, id="leading-spaces"),
    ],
)
@pytest.mark.parametrize("block_size", [1, 100, 1 << 20])
def test_a_file_with_harmless_oddities_is_kept_whole(shop, text, expected_lines, block_size):
    shop.write_products(["C\tC\tName"])
    shop.transactions.write_bytes(text)
    counts = +Counter(run(shop, block_size=block_size))
    names = ("records_read", "records_kept", "lines_read", "lines_written")
    assert counts == dict.fromkeys(names, expected_lines)


@pytest.mark.parametrize(
    "text",
    [b"null", b"null\n", b"null\nnull\n", b"\xef\xbb\xbfnull", b"[null]", b"1\n", b"\0"],
    ids=["null", "null-line", "two-nulls", "bom-null", "list-of-null", "number", "nul-byte"],
)
def test_a_file_without_one_usable_record_is_refused(shop, text):
    shop.write_products(["A\tC\tName"])
    shop.transactions.write_bytes(text)
    with pytest.raises(CannotRun, match="no usable record"):
        run(shop)
    with pytest.raises(Refused):
        flatten(str(shop.transactions), str(shop.products), str(shop.lake))
    assert not (shop.lake / "current.json").exists()


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"\r\n", b" ", b"\n\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"],
    ids=["empty", "line-feed", "crlf", "space", "blank-lines", "bom", "bom-and-line-feed"],
)
def test_a_file_without_a_record_counts_nothing_and_does_no_harm(shop, text):
    shop.write_products(["A\tC\tName"])
    shop.transactions.write_bytes(text)
    with pytest.raises(CannotRun, match="no record"):
        run(shop)
    other = shop.folder / "other.txt"
    other.write_bytes(CLEAN)
    paths = (f"{shop.transactions},{other}", str(shop.products), str(shop.lake))
    assert flatten(*paths)["counts"]["transactions"]["records_read"] == 1


def test_a_10_mb_line_is_one_record_however_small_the_blocks(shop):
    shop.write_products(["A\tC\tName"])
    shop.transactions.write_bytes(CLEAN + LARGE["10-mb-line"].data + b"\n" + CLEAN)
    counts = run(shop, block_size=1 << 18)
    assert (counts["records_read"], counts["records_kept"], counts["lines_written"]) == (3, 3, 3)


def test_raw_text_of_a_reject_is_capped():
    long = b"x" * (RAW_TEXT_LIMIT + 1)
    line = b'{"itemList": [{"item": null, "x": "' + long + b'"}]}'
    for data, start in ((long, "xxx"), (line, '{"item": null, "x": "xxx')):
        (row,) = both_ways(data).rejects
        assert len(row["raw_text"]) == RAW_TEXT_LIMIT == 64 * 1024
        assert row["raw_text"].startswith(start)


def test_raw_text_shows_the_line_as_written_and_bytes_that_are_not_utf8_escaped():
    items = '[{"item": "é", "quantity": "two", "price": 1.50}, {"quantity": 1e400}]'
    raw_text = [row["raw_text"] for row in both_ways(record(items)).rejects]
    assert raw_text == ['{"item": "é", "quantity": "two", "price": 1.50}', '{"quantity": 1e400}']
    (row,) = both_ways(b"caf\xe9 \xc3\xa9 \xff").rejects
    assert row["raw_text"] == r"caf\xe9 é \xff"
    (row,) = both_ways(record(r'[{"item": "\ud83d"}]')).rejects
    assert row["raw_text"] == r'{"item": "\ud83d"}'
