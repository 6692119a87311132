"""What one transaction record means: the single place that says which records and lines are kept.

The fast reader in `blocks.py` accepts only input to which nothing here would object, so every
reason for a reject is written in this module.
"""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode category Cc
# Nothing real nests deeper; far below what the interpreter's own decoder can follow anywhere.
DEEPEST = 200
# What the structure of JSON hangs on; a string that the text does not end is `open_string`.
STRUCTURE = re.compile(r'[][{},]|"[^"\\]*(?:\\.[^"\\]*)*(?:"|(?P<open_string>\\?\Z))', re.DOTALL)
SURROGATE = re.compile(r"[\ud800-\udfff]")


class Number(str):
    """A JSON number exactly as written, so that an id such as 1.50 keeps its zero."""


class Constant(Number):
    """NaN, Infinity or -Infinity: not JSON, yet written by some programs."""


class RecordRejected(ValueError):
    """The record cannot be used; the message is the reason."""


class TooDeep(ValueError):
    """The record nests deeper than `decode_record` follows."""


class LineRejected(ValueError):
    """One line of a record cannot be used; the message is the reason."""


@dataclass
class Basket:
    """One kept record: its lines, and what was set aside from it."""

    product_ids: list[str] = field(default_factory=list)
    quantities: list[float | None] = field(default_factory=list)
    rejected_lines: list[tuple[str, Any]] = field(default_factory=list)  # (reason, decoded line)
    date: str | None = None
    store_id: str | None = None
    store_id_unreadable: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether itemList had no entry at all."""
        return not self.product_ids and not self.rejected_lines


def decoder() -> json.JSONDecoder:
    """Return the standard library's decoder with numbers kept as text: no rounding, no limit."""
    return json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=Constant)


def clean_id(text: str) -> str:
    """Return an id without the Unicode white space around it.

    Raises ValueError, saying why, when nothing is left, or when a control character or half a
    surrogate pair is inside.
    """
    text = text.strip()
    if not text:
        raise ValueError("is empty")
    if CONTROL_CHARACTER.search(text):
        raise ValueError("holds a control character")
    if not is_unicode(text):
        raise ValueError("holds half a surrogate pair")
    return text


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold the text (half a surrogate pair it cannot)."""
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
    """Return how deep lists and objects are nested in each other."""
    depth = deepest = 0
    for mark in STRUCTURE.finditer(text):
        if mark[0] in ("[", "{"):
            depth += 1
            deepest = max(deepest, depth)
        elif mark[0] in ("]", "}"):
            depth -= 1
    return deepest


def read_basket(record: Any) -> Basket:
    """Return what is kept of a decoded record; raises RecordRejected when nothing is."""
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
    item = line["item"]
    if item is None:
        raise LineRejected("line: item is null")
    if not isinstance(item, str) or isinstance(item, Constant):
        raise LineRejected("line: item is neither text nor a number")
    try:
        product_id = clean_id(str(item))
    except ValueError as error:
        raise LineRejected(f"line: item {error}") from None
    return product_id, read_quantity(line.get("quantity"))


def read_quantity(quantity: Any) -> float | None:
    """Return units bought, None where the record does not say; raises LineRejected."""
    if quantity is None:
        return None
    if not is_number(quantity):
        raise LineRejected("line: quantity is not a number")
    units = float(quantity)
    if not math.isfinite(units):
        raise LineRejected("line: quantity is not finite")
    return units


def read_date(date: Any) -> str | None:
    """Return the date as text for `blocks.parse_dates`; anything but text becomes unreadable."""
    if date is None or (isinstance(date, str) and not is_number(date) and is_unicode(date)):
        return date
    return ""


def read_store_id(store: Any) -> str | None:
    """Return the store id, None where there is none; raises ValueError when it is unusable."""
    if store is None:
        return None
    if not isinstance(store, str) or isinstance(store, Constant):
        raise ValueError("is neither text nor a number")
    return clean_id(str(store))


def is_number(value: Any) -> bool:
    return isinstance(value, Number)


def as_json(value: Any) -> str:
    """Write a decoded value back as JSON, numbers as they were written."""
    if is_number(value):
        return str(value)
    if isinstance(value, dict):
        members = (f"{json.dumps(k, ensure_ascii=False)}: {as_json(v)}" for k, v in value.items())
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_json(element) for element in value) + "]"
    return json.dumps(value, ensure_ascii=False)
