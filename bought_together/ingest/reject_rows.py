"""The table `rejects`: records, lines and products that were set aside, with place and reason."""

from typing import Any

import pyarrow as pa

REJECTS = pa.schema(
    [
        ("source", pa.string()),
        ("source_file", pa.string()),
        ("line_number", pa.int64()),
        ("byte_offset", pa.int64()),
        ("reason", pa.string()),
        ("raw_text", pa.string()),
    ]
)
RAW_TEXT_LIMIT = 64 * 1024


def reject(line_number: int | None, place: int, reason: str, text: bytes) -> dict[str, Any]:
    """Return a row of REJECTS without its source; bytes that are not UTF-8 become `\\xff`."""
    escaped = text[:RAW_TEXT_LIMIT].decode("utf-8", "backslashreplace").encode()
    raw_text = escaped[:RAW_TEXT_LIMIT].decode("utf-8", "ignore")
    return {
        "line_number": line_number,
        "byte_offset": place,
        "reason": reason,
        "raw_text": raw_text,
    }
