"""Decide which transaction records and lines are kept, and why the others are rejected.

This module holds every reason for a reject: the fast reader in `blocks.py` accepts only input that
passes all the checks here.
"""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from bought_together.ingest.reject_rows import RAW_TEXT_LIMIT

CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode category Cc
# Ids that `clean_id` leaves as they are, for RE2: printable ASCII, no space at either end.
PLAIN_ID = r"\A[!-~](?:[ -~]*[!-~])?\z"
# No real record nests deeper, and the standard library's decoder can always go this deep.
DEEPEST = 200
# The tokens that make up JSON's structure; a string that does not end in the text is `open_string`.
STRUCTURE = re.compile(r'[][{},]|"[^"\\]*(?:\\.[^"\\]*)*(?:"|(?P<open_string>\\?\Z))', re.DOTALL)
# In bytes; a basket of 20,000 products takes 400 KB. Decoding a record takes ten times its size.
LONGEST_RECORD = 1 << 24
SURROGATE = re.compile(r"[\ud800-\udfff]")


class Number(str):
    """A JSON number exactly as written, so that an id such as 1.50 keeps its zero."""


class Constant(Number):
    """NaN, Infinity or -Infinity, which are not JSON but which some programs write."""


class CutOff(bytes):
    """The beginning of a record longer than LONGEST_RECORD; the rest of it was skipped."""


class RecordRejected(ValueError):
    """The record is unusable; the message is the reason."""


class TooDeep(ValueError):
    """The record is nested deeper than `DEEPEST`."""


class LineRejected(ValueError):
    """One line of a record is unusable; the message is the reason."""


@dataclass
class Basket:
    """One kept record: its kept lines and its rejected lines.

    `order_key` is the id of its order, None where none is mapped.
    """

    product_ids: list[str] = field(default_factory=list)
    quantities: list[float | None] = field(default_factory=list)
    rejected_lines: list[tuple[str, Any]] = field(default_factory=list)  # (reason, decoded line)
    date: str | None = None
    store_id: str | None = None
    store_id_unreadable: bool = False
    order_key: str | None = None
    is_cancelled: bool = False

    @property
    def is_empty(self) -> bool:
        """Return whether itemList has no entry at all."""
        return not self.product_ids and not self.rejected_lines


def decoder() -> json.JSONDecoder:
    """Return a JSON decoder that keeps numbers as text: no rounding, no limit of size."""
    return json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=Constant)


def cut_off(text: bytes) -> CutOff:
    """Return the beginning of a record that is too long, as much as a reject shows of it."""
    return CutOff(text[: min(RAW_TEXT_LIMIT, LONGEST_RECORD)])


def clean_id(text: str) -> str:
    """Return an id without the Unicode white space around it.

    Raises ValueError with the reason when the id is empty or contains a control character or half
    a surrogate pair.
    """
    text = text.strip()
    if not text:
        raise ValueError("is empty")
    if CONTROL_CHARACTER.search(text):
        raise ValueError("holds a control character")
    if not is_unicode(text):
        raise ValueError("holds half a surrogate pair")
    return text


def clean_text(text: str) -> str:
    """Return the text with each control character replaced by a space, and trimmed."""
    return CONTROL_CHARACTER.sub(" ", text).strip()


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can encode the text, which it cannot with half a surrogate pair."""
    return SURROGATE.search(text) is None


def decode_record(line: bytes) -> Any:
    """Return the JSON value on one line.

    Raises RecordRejected for bytes that are not UTF-8 or not one JSON value, and TooDeep for a
    value nested deeper than `DEEPEST`.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise RecordRejected("record: not UTF-8") from None
    if text.count("[") + text.count("{") > DEEPEST and nesting(text) > DEEPEST:
        raise TooDeep
    try:
        return decoder().decode(text)
    except json.JSONDecodeError as error:
        several = error.msg == "Extra data" and text[error.pos :].lstrip()[:1] == "{"
        reason = "more than one record on the line" if several else "not JSON"
        raise RecordRejected(f"record: {reason}") from None


def nesting(text: str) -> int:
    """Return the depth to which lists and objects are nested."""
    depth = deepest = 0
    for mark in STRUCTURE.finditer(text):
        if mark[0] in ("[", "{"):
            depth += 1
            deepest = max(deepest, depth)
        elif mark[0] in ("]", "}"):
            depth -= 1
    return deepest


def read_basket(record: Any) -> Basket:
    """Return the basket of a decoded record; raises RecordRejected without a usable itemList."""
    if not isinstance(record, dict):
        raise RecordRejected("record: not an object")
    if "itemList" not in record:
        raise RecordRejected("record: no itemList")
    items = record["itemList"]
    if items is None:
        raise RecordRejected("record: itemList is null")
    if not isinstance(items, list):
        raise RecordRejected("record: itemList is not a list")
    basket = Basket(date=read_date(record.get("date")))
    try:
        basket.store_id = read_store_id(record.get("store"))
    except ValueError:
        basket.store_id_unreadable = True
    for item in items:
        try:
            product_id, quantity = read_line(item)
        except LineRejected as error:
            basket.rejected_lines.append((str(error), item))
        else:
            basket.product_ids.append(product_id)
            basket.quantities.append(quantity)
    return basket


def read_line(line: Any) -> tuple[str, float | None]:
    """Return (product id, quantity) of one entry of itemList; raises LineRejected."""
    if not isinstance(line, dict):
        raise LineRejected("line: not an object")
    if "item" not in line:
        raise LineRejected("line: no item")
    return read_product_id(line["item"]), read_quantity(line.get("quantity"))


def read_product_id(item: Any) -> str:
    """Return the product id of a line as text; raises LineRejected."""
    if item is None:
        raise LineRejected("line: item is null")
    if not isinstance(item, str) or isinstance(item, Constant):
        raise LineRejected("line: item is neither text nor a number")
    try:
        return clean_id(str(item))
    except ValueError as error:
        raise LineRejected(f"line: item {error}") from None


def read_quantity(quantity: Any) -> float | None:
    """Return the units bought, None when the line has no quantity; raises LineRejected."""
    if quantity is None:
        return None
    if not is_number(quantity):
        raise LineRejected("line: quantity is not a number")
    units = float(quantity)
    if not math.isfinite(units):
        raise LineRejected("line: quantity is not finite")
    return units


def read_date(date: Any) -> str | None:
    """Return the date as text for `line_items.parse_dates`, "" when it is not text."""
    if date is None or (isinstance(date, str) and not is_number(date) and is_unicode(date)):
        return date
    return ""


def read_store_id(store: Any) -> str | None:
    """Return the store id, None when there is none; raises ValueError when it is unusable."""
    if store is None:
        return None
    if not isinstance(store, str) or isinstance(store, Constant):
        raise ValueError("is neither text nor a number")
    return clean_id(str(store))


def is_number(value: Any) -> bool:
    return isinstance(value, Number)


def as_json(value: Any) -> str:
    """Return a decoded value as JSON, its numbers as they were written."""
    if is_number(value):
        return str(value)
    if isinstance(value, dict):
        members = (f"{json.dumps(k, ensure_ascii=False)}: {as_json(v)}" for k, v in value.items())
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_json(element) for element in value) + "]"
    return json.dumps(value, ensure_ascii=False)
