"""Read the product list: tab-separated product id, category code, product name; no quoting."""

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from bought_together.ingest.byte_ranges import open_stream
from bought_together.ingest.inputs import BOM, inspect_files, unreadable
from bought_together.ingest.record_rules import CONTROL_CHARACTER, clean_id
from bought_together.ingest.reject_rows import REJECTS, reject
from bought_together.storage.filesystem import storage_errors

PRODUCTS = pa.schema(
    [("product_id", pa.string()), ("category_code", pa.string()), ("product_name", pa.string())]
)
COLUMN_COUNT = len(PRODUCTS)
# The first field of a header line, ignoring case.
HEADER = re.compile(r"(item|item[ _]id|product[ _]id|sku)", re.IGNORECASE)


class ProductRejected(ValueError):
    """A line of the product list is unusable; the message is the reason."""


def read_products(paths: list[str]) -> tuple[pa.Table, pa.Table, Counter[str]]:
    """Return the products (PRODUCTS, each id once), the rejects (REJECTS) and the counts.

    The first line with an id wins. Raises CannotRun when a file cannot be read.
    """
    products: dict[str, tuple[str, str]] = {}
    rejects: list[dict[str, Any]] = []
    counts: Counter[str] = Counter(lines_read=0, lines_rejected=0, products=0)
    for path in paths:
        for number, offset, line in product_lines(path):
            counts["lines_read"] += 1
            try:
                product_id, category_code, product_name = read_product(line)
                if product_id in products:
                    raise ProductRejected("product: duplicate id")
                products[product_id] = (category_code, product_name)
            except ProductRejected as error:
                counts["lines_rejected"] += 1
                row = reject(number + 1, offset, str(error), line)
                rejects.append({**row, "source": "products", "source_file": path})
    counts["products"] = len(products)
    columns = {
        "product_id": list(products),
        "category_code": [category_code for category_code, _ in products.values()],
        "product_name": [product_name for _, product_name in products.values()],
    }
    return pa.table(columns, PRODUCTS), pa.Table.from_pylist(rejects, REJECTS), counts


def summarise_products(rejects: pa.Table) -> list[dict[str, Any]]:
    """Return the number of rejects and the place of the first one, for each reason."""
    reasons: dict[str, dict[str, Any]] = {}
    for row in rejects.drop_columns(["source", "raw_text"]).to_pylist():
        reasons.setdefault(row["reason"], {**row, "rejects": 0})["rejects"] += 1
    return list(reasons.values())


def product_lines(path: str) -> Iterator[tuple[int, int, bytes]]:
    """Yield (line number, byte offset, line) of each non-blank line after the header."""
    offset = 0
    try:
        with open_stream(inspect_files([path])[0]) as file:
            for number, line in enumerate(file):
                text = line.removeprefix(BOM) if number == 0 else line
                if text.strip(b" \r\n") and not (number == 0 and is_header(text)):
                    yield number, offset, text.rstrip(b"\n").removesuffix(b"\r")
                offset += len(line)
    except storage_errors(EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def is_header(line: bytes) -> bool:
    first = line.split(b"\t")[0].decode(errors="replace").strip()
    return HEADER.fullmatch(first) is not None


def read_product(line: bytes) -> tuple[str, str, str]:
    """Return (product id, category code, product name); raises ProductRejected."""
    try:
        fields = line.decode().split("\t")
    except UnicodeDecodeError:
        raise ProductRejected("product: not UTF-8") from None
    if len(fields) != COLUMN_COUNT:
        found = "no tab" if len(fields) == 1 else f"{len(fields)} columns"
        raise ProductRejected(f"product: {found} where {COLUMN_COUNT} tab-separated columns belong")
    try:
        product_id = clean_id(fields[0])
    except ValueError as error:
        raise ProductRejected(f"product: id {error}") from None
    return product_id, printable(fields[1]), printable(fields[2])


def printable(text: str) -> str:
    """Return the text with each control character replaced by a space."""
    return CONTROL_CHARACTER.sub(" ", text)
