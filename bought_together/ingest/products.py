"""Read the product list: tab-separated product id, category code, product name; no quoting."""

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from bought_together.errors import CannotRun, Refused
from bought_together.ingest import record_rules
from bought_together.ingest.byte_ranges import CHARACTERS_READ, open_stream, stream_blocks
from bought_together.ingest.inputs import InputFile, check_unchanged, inspect_files, refuse_copies
from bought_together.ingest.mapped_products import add_products, read_product_rows
from bought_together.ingest.mapping import ProductMapping
from bought_together.ingest.patterns import unreadable
from bought_together.ingest.record_rules import CutOff, clean_id, clean_text
from bought_together.ingest.reject_rows import REJECTS, reject
from bought_together.storage.filesystem import storage_errors

PRODUCTS = pa.schema(
    [("product_id", pa.string()), ("category_code", pa.string()), ("product_name", pa.string())]
)
COLUMN_COUNT = len(PRODUCTS)
# More lines that are not UTF-8, or a larger share of the lines, are no accident.
FEW_BROKEN_LINES = 10
FEW_BROKEN_SHARE = 0.1
# The first field of a header line, ignoring case.
HEADER = re.compile(r"(item|item[ _]id|product[ _]id|sku)", re.IGNORECASE)


class ProductRejected(ValueError):
    """A line of the product list is unusable; the message is the reason."""


def read_products(
    paths: list[str], mapping: ProductMapping | None = None
) -> tuple[pa.Table, pa.Table, Counter[str]]:
    """Return the products (PRODUCTS, each id once), the rejects (REJECTS) and the counts.

    The first line with an id wins. Raises CannotRun when a file cannot be read, and Refused when it
    is in a one-byte encoding that no mapping names.
    """
    products: dict[str, tuple[str, str]] = {}
    rejects: list[dict[str, Any]] = []
    counts: Counter[str] = Counter(lines_read=0, lines_rejected=0, products=0)
    input_files = inspect_files(paths)
    refuse_copies(input_files, "PRODUCTS")
    for input_file in input_files:
        path = input_file.printable_path
        if mapping:
            for rows, others in read_product_rows(input_file, mapping):
                bad = others.rejects + add_products(rows, mapping, products)
                rejects += [{**row, "source": "products", "source_file": path} for row in bad]
                counts["lines_read"] += len(rows.places) + len(others.rejects)
            continue
        encodings: Counter[str] = Counter()
        for number, offset, line in product_lines(input_file):
            encodings[encoding(line)] += 1
            try:
                product_id, category_code, product_name = read_product(line)
                if product_id in products:
                    raise ProductRejected("product: duplicate id")
                products[product_id] = (category_code, product_name)
            except ProductRejected as error:
                row = reject(number + 1, offset, str(error), line)
                rejects.append({**row, "source": "products", "source_file": path})
        counts["lines_read"] += encodings.total()
        check_encoding(path, encodings)
    check_unchanged(input_files)
    counts.update(lines_rejected=len(rejects), products=len(products))
    columns = {
        "product_id": list(products),
        "category_code": [category_code for category_code, _ in products.values()],
        "product_name": [product_name for _, product_name in products.values()],
    }
    return pa.table(columns, PRODUCTS), pa.Table.from_pylist(rejects, REJECTS), counts


def encoding(line: bytes) -> str:
    """Return "ascii", "utf-8", or "other" for bytes that are not UTF-8."""
    if line.isascii():
        return "ascii"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "other"
    return "utf-8"


def check_encoding(path: str, encodings: Counter[str]) -> None:
    """Raise Refused for a file in a one-byte encoding; `encodings` counts its lines.

    Few broken lines, or fewer than there are with UTF-8 beyond ASCII, are rejects like others.
    """
    broken, lines = encodings["other"], encodings.total()
    few = max(1, min(FEW_BROKEN_LINES, lines * FEW_BROKEN_SHARE))
    if broken > few and broken > encodings["utf-8"]:
        raise Refused(
            f"PRODUCTS {path} is not UTF-8: {broken:,} of {lines:,} lines look like Windows-1252 or"
            " another one-byte encoding; nothing was published; save it as UTF-8, for example with"
            " `iconv -f WINDOWS-1252 -t UTF-8`"
        )


def check_products(manifest: dict[str, Any], refusal_path: str, is_mapped: bool = False) -> None:
    """Raise Refused when every line of the product list is rejected, CannotRun when it has none."""
    counts = manifest["counts"]["products"]
    if counts["products"]:
        return
    nothing = "PRODUCTS contain no usable product"
    needed = "each line needs three tab-separated columns: product id, category code and name"
    if is_mapped:
        needed = "each row or record needs the product_id that INPUT_MAPPING names"
    if not counts["lines_rejected"]:
        raise CannotRun(f"{nothing} and no line with text; {needed}")
    raise Refused(
        f"{nothing}: {counts['lines_rejected']:,} of {counts['lines_read']:,} lines are rejected;"
        f" {needed}; nothing was published; the rejects are in the parts that {refusal_path} lists",
        manifest,
    )


def summarise_products(rejects: pa.Table) -> list[dict[str, Any]]:
    """Return the number of rejects and the place of the first one, for each reason."""
    reasons: dict[str, dict[str, Any]] = {}
    for row in rejects.drop_columns(["source", "raw_text"]).to_pylist():
        reasons.setdefault(row["reason"], {**row, "rejects": 0})["rejects"] += 1
    return list(reasons.values())


def product_lines(input_file: InputFile) -> Iterator[tuple[int, int, bytes]]:
    """Yield (line number, byte offset, line) of each non-blank line after the header.

    The number counts from 0. A line that is too long is a CutOff.
    """
    number = 0
    try:
        with open_stream(input_file) as file:
            for block in stream_blocks(file, CHARACTERS_READ):
                if isinstance(block.data, CutOff):
                    yield number, block.offset, block.data
                    number += 1
                    continue
                offset = block.offset
                for line in block.data.removesuffix(b"\n").split(b"\n"):
                    if line.strip(b" \r") and not (number == 0 and is_header(line)):
                        yield number, offset, line.removesuffix(b"\r")
                    number += 1
                    offset += len(line) + 1
    except storage_errors(EOFError, zlib.error, UnicodeDecodeError) as error:
        raise unreadable(input_file.path, error) from error


def is_header(line: bytes) -> bool:
    first = line.split(b"\t")[0].decode(errors="replace").strip()
    return HEADER.fullmatch(first) is not None


def read_product(line: bytes) -> tuple[str, str, str]:
    """Return (product id, category code, product name); raises ProductRejected."""
    if isinstance(line, CutOff) or len(line) > record_rules.LONGEST_RECORD:
        raise ProductRejected("product: longer than 16 MiB")
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
    return product_id, clean_text(fields[1]), clean_text(fields[2])
