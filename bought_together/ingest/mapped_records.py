"""Read baskets from JSON records with other names than the project's own."""

import re
from typing import Any

from bought_together.ingest.mapping import Condition, FieldName, OrderMapping
from bought_together.ingest.record_rules import (
    Basket,
    Constant,
    LineRejected,
    Number,
    RecordRejected,
    clean_id,
    read_date,
    read_product_id,
    read_quantity,
    read_store_id,
)

MISSING = object()
# Between the parts of an order id of several fields; clean ids hold no control character.
SEPARATOR = "\x1f"
# A number as text, as tables have it.
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def read_mapped_basket(record: Any, mapping: OrderMapping) -> Basket | None:
    """Return the basket of a decoded record, None for a record that the mapping leaves out.

    Raises RecordRejected for a record without usable items or order id.
    """
    if not isinstance(record, dict):
        raise RecordRejected("record: not an object")
    if mapping.only and not holds_in(mapping.only, record):
        return None
    basket = Basket(date=read_mapped_date(value_at(record, mapping.date)))
    try:
        basket.store_id = read_store_id(value_at(record, mapping.store))
    except ValueError:
        basket.store_id_unreadable = True
    if mapping.order_id:
        basket.order_key = SEPARATOR.join(read_key(record, field) for field in mapping.order_id)
    basket.is_cancelled = mapping.cancelled is not None and holds_in(mapping.cancelled, record)
    for item in items_of(record, mapping):
        try:
            product_id, quantity = read_mapped_line(item, mapping)
        except LineRejected as error:
            basket.rejected_lines.append((str(error), item))
        else:
            basket.product_ids.append(product_id)
            basket.quantities.append(quantity)
    return basket


def items_of(record: Any, mapping: OrderMapping) -> list[Any]:
    """Return the lines of a record: its list of items, or itself."""
    if mapping.items is None:
        return [record]
    items = dig(record, mapping.items)
    if items is MISSING:
        raise RecordRejected(f"record: no {mapping.items}")
    if items is None:
        raise RecordRejected(f"record: {mapping.items} is null")
    if not isinstance(items, list):
        raise RecordRejected(f"record: {mapping.items} is not a list")
    return items


def read_key(record: Any, field: FieldName) -> str:
    """Return (one part of) the order id; raises RecordRejected without a usable one."""
    value = value_at(record, field)
    if value is None:
        raise RecordRejected("record: order id is empty")
    if not isinstance(value, str) or isinstance(value, Constant):
        raise RecordRejected("record: order id is neither text nor a number")
    try:
        return clean_id(str(value))
    except ValueError as error:
        raise RecordRejected(f"record: order id {error}") from None


def read_mapped_line(item: Any, mapping: OrderMapping) -> tuple[str, float | None]:
    """Return (product id, quantity) of one line; raises LineRejected."""
    if not isinstance(item, dict):
        raise LineRejected("line: not an object")
    product = dig(item, str(mapping.product_id))
    if product is MISSING:
        raise LineRejected("line: no item")
    return read_product_id(product), units(item, mapping)


def units(item: Any, mapping: OrderMapping) -> float | None:
    return read_quantity(as_number(value_at(item, mapping.quantity), mapping.decimal))


def with_point(text: str, decimal: str) -> str:
    """Return the text of a number with a point as its decimal mark; a point becomes no number."""
    return text if decimal == "." else text.replace(".", "?").replace(decimal, ".")


def as_number(value: Any, decimal: str = ".") -> Any:
    """Return a number as JSON has it, also where it is written as text."""
    if isinstance(value, str) and not isinstance(value, Number):
        if not value.strip():
            return None
        value = with_point(value, decimal)
        if NUMBER.fullmatch(value.strip()):
            return Number(value.strip())
    return value


def read_mapped_date(value: Any) -> str | None:
    """Return a date as text, a number as written, "" when it is neither."""
    if isinstance(value, str) and not isinstance(value, Constant):
        return read_date(str(value)) if value.strip() else None
    return read_date(value)


def value_at(record: Any, field: FieldName | None) -> Any:
    """Return what stands at a dotted path, None where nothing does."""
    if field is None:
        return None
    found = dig(record, str(field))
    return None if found is MISSING else found


def dig(record: Any, path: str) -> Any:
    """Return what stands at a dotted path, MISSING where nothing does."""
    if isinstance(record, dict) and path in record:
        return record[path]
    found = record
    for step in path.split("."):
        if not isinstance(found, dict) or step not in found:
            return MISSING
        found = found[step]
    return found


def holds_in(condition: Condition, record: Any) -> bool:
    """Return whether a condition is true of a record."""
    value = value_at(record, condition.field)
    if isinstance(value, bool):
        return str(value).lower() in condition.values if condition.values else value
    if value is None or isinstance(value, list | dict):
        return bool(value) and not condition.values and condition.starts_with is None
    return condition.holds(str(value))
