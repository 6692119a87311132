"""Read dates in the formats that a mapping names."""

import pyarrow as pa
import pyarrow.compute as pc

ISO = "iso"
TIME = pa.timestamp("us")
# The time of an order is the one that the shop's clock showed: an offset is left out.
OFFSET = r"\s*(?:Z|UTC|[+-]\d\d:?\d\d)$"
ISO_DATE = r"^\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?$"


def parse_mapped_dates(texts: pa.Array, formats: tuple[str, ...]) -> pa.Array:
    """Return texts as timestamp[us], each by the first format that fits; null where none does.

    A format is `iso`, or one of strptime.
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    found = pa.nulls(len(texts), TIME)
    for one in formats:
        parsed = parse_iso(trimmed) if one == ISO else pc.strptime(trimmed, one, "us", True)
        found = pc.coalesce(found, parsed)
    return found


def as_times(column: pa.Array) -> pa.Array:
    """Return dates or timestamps as timestamp[us]; null where one does not fit."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz:
        column = pc.local_timestamp(column)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(TIME, safe=False)  # which leaves out the rest of a microsecond
    return cast_each(column)


def cast_each(values: pa.Array) -> pa.Array:
    """Return values as timestamp[us], null where one is no such time."""
    try:
        return values.cast(TIME)
    except pa.ArrowInvalid:
        return pa.array([parse_one(value) for value in values], TIME)


def parse_iso(texts: pa.Array) -> pa.Array:
    """Return `YYYY-MM-DD`, with or without a time, as timestamp[us]; null for anything else."""
    local = pc.replace_substring_regex(texts, OFFSET, "")
    year_zero = pc.starts_with(local, "0000")
    shaped = pc.and_not(pc.match_substring_regex(local, ISO_DATE), year_zero)
    return cast_each(pc.if_else(shaped, local, None))


def parse_one(value: pa.Scalar) -> pa.TimestampScalar | None:
    try:
        return value.cast(TIME)
    except pa.ArrowInvalid:
        return None
