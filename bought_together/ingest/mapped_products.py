"""Read a product list of other columns than the project's own, through a mapping."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bought_together.ingest.byte_ranges import ByteRange
from bought_together.ingest.csv_rows import read_csv_rows
from bought_together.ingest.inputs import InputFile
from bought_together.ingest.line_items import Flattened
from bought_together.ingest.mapping import FieldName, ProductMapping
from bought_together.ingest.order_lines import Rejections, TableRows, as_text, clean
from bought_together.ingest.parquet_rows import read_parquet_rows
from bought_together.ingest.record_rules import clean_text
from bought_together.ingest.reject_rows import reject

BYTES_AT_A_TIME = 8 << 20


def read_product_rows(
    input_file: InputFile, mapping: ProductMapping
) -> Iterator[tuple[TableRows, Flattened]]:
    """Yield the rows of a product list, with the rejects of rows of another width.

    Raises CannotRun when the file cannot be read or lacks a column.
    """
    # As a stream: a file of order lines, whose products repeat, may be larger than the memory.
    part = ByteRange(replace(input_file, has_long_rows=True), 0, input_file.size)
    named = (mapping.product_id, mapping.category, mapping.name)
    fields = list(dict.fromkeys(field for field in named if field is not None))
    if input_file.kind == "parquet":
        for rows in read_parquet_rows(part, None, fields):
            yield rows, Flattened()
        return
    for rows, others in read_csv_rows(part, BYTES_AT_A_TIME, None, fields, mapping):
        for row in others.rejects:
            row["reason"] = row["reason"].replace("record:", "product:", 1)
            row["line_number"] += 1
        yield rows, others


def add_products(
    rows: TableRows, mapping: ProductMapping, products: dict[str, tuple[str, str]]
) -> list[dict[str, Any]]:
    """Add the products of rows whose ids are new; return the rejects of the others."""
    count = len(rows.places)
    rejections = Rejections(count)
    texts = {field: as_text(column, rows.encoding) for field, column in rows.fields.items()}
    for _, broken in texts.values():
        rejections.add("product: not UTF-8", broken)
    ids = clean(texts[mapping.product_id][0], "product", "id", rejections)
    usable = np.flatnonzero(rejections.of_row < 0)
    codes = ids.indices.take(usable).to_numpy() if len(usable) else usable
    _, first = np.unique(codes, return_index=True)
    names = ids.dictionary.to_pylist()
    repeated = np.zeros(count, bool)
    repeated[usable] = True
    for place in np.sort(first):
        row = int(usable[place])
        product_id = names[codes[place]]
        if product_id not in products:
            category, name = (
                value_of(texts, field, row) for field in (mapping.category, mapping.name)
            )
            products[product_id] = (category, name)
            repeated[row] = False
    if not mapping.repeats:
        rejections.add("product: duplicate id", repeated)
    return [
        reject(
            None if rows.line_numbers is None else int(rows.line_numbers[row]) + 1,
            int(rows.places[row]),
            rejections.reasons[rejections.of_row[row]],
            rows.raw_text(int(row)),
        )
        for row in np.flatnonzero(rejections.of_row >= 0)
    ]


def value_of(texts: dict[FieldName, Any], field: FieldName | None, row: int) -> str:
    """Return what a row says in a field, as one line of text; "" where it says nothing."""
    if field is None:
        return ""
    return clean_text(texts[field][0][row].as_py() or "")
