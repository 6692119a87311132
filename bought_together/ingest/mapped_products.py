"""Read a product list of other columns than the project's own, through a mapping."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from bought_together.errors import CannotRun
from bought_together.ingest import record_rules
from bought_together.ingest.blocks import count_newlines, numbered_lines
from bought_together.ingest.byte_ranges import ByteRange, read_lines
from bought_together.ingest.csv_rows import read_csv_rows
from bought_together.ingest.inputs import InputFile
from bought_together.ingest.json_lists import array_elements, in_batches
from bought_together.ingest.line_items import Flattened
from bought_together.ingest.mapped_records import MISSING, dig, value_at
from bought_together.ingest.mapping import FieldName, ProductMapping
from bought_together.ingest.order_lines import Rejections, TableRows, as_text, clean
from bought_together.ingest.parquet_rows import read_parquet_rows
from bought_together.ingest.record_rules import (
    Constant,
    CutOff,
    RecordRejected,
    TooDeep,
    clean_text,
    decode_record,
    is_unicode,
)
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
    kind = mapping.format or input_file.kind
    if mapping.records and kind != "json":
        path = input_file.printable_path
        raise CannotRun(f"{path} is a table, in which no list is called {mapping.records}")
    if kind == "parquet":
        for rows in read_parquet_rows(part, None, mapping.fields):
            yield rows, Flattened()
        return
    read = read_json_rows if kind == "json" else read_csv_products
    for rows, others in read(part, mapping):
        for row in others.rejects:
            row["reason"] = row["reason"].replace("record:", "product:", 1)
            if row["line_number"] is not None:
                row["line_number"] += 1
        yield rows, others


def read_csv_products(
    part: ByteRange, mapping: ProductMapping
) -> Iterator[tuple[TableRows, Flattened]]:
    return read_csv_rows(part, BYTES_AT_A_TIME, None, mapping.fields, mapping)


def read_json_rows(
    part: ByteRange, mapping: ProductMapping
) -> Iterator[tuple[TableRows, Flattened]]:
    """Yield the records of a JSON file as rows, with the rejects of those that are no products."""
    for records in batches_of_records(part, mapping):
        others = Flattened()
        kept: list[tuple[int | None, int, bytes]] = []
        columns: dict[FieldName, list[str | None]] = {field: [] for field in mapping.fields}
        for line_number, place, text in records:
            try:
                values = product_values(text, mapping)
            except TooDeep:
                reason = "record: nested too deeply"
                others.rejects.append(reject(line_number, place, reason, text))
            except RecordRejected as error:
                others.rejects.append(reject(line_number, place, str(error), text))
            else:
                kept.append((line_number, place, text))
                for field, value in values.items():
                    columns[field].append(value)
        yield rows_of_records(kept, columns), others


def batches_of_records(
    part: ByteRange, mapping: ProductMapping
) -> Iterator[Iterable[tuple[int | None, int, bytes]]]:
    """Yield records with (line number, place, text); in a list their place is their number."""
    if mapping.records or part.file.is_array:
        elements = array_elements(part.file, records=mapping.records)
        yield from in_batches(elements, BYTES_AT_A_TIME)
        return
    lines_before = 0
    for block in read_lines(part, BYTES_AT_A_TIME):
        yield numbered_lines(block.data, block.offset, lines_before)
        lines_before += count_newlines(block.data)


def rows_of_records(
    records: list[tuple[int | None, int, bytes]], columns: dict[FieldName, list[str | None]]
) -> TableRows:
    numbers = [number for number, _, _ in records if number is not None]
    return TableRows(
        np.array([place for _, place, _ in records], "int64"),
        np.array(numbers, "int64") if len(numbers) == len(records) else None,
        {field: pa.array(values, pa.string()) for field, values in columns.items()},
        lambda row: records[row][2],
    )


def product_values(text: bytes, mapping: ProductMapping) -> dict[FieldName, str | None]:
    """Return what a record says in the fields of the mapping, None where it says nothing.

    Raises RecordRejected for a record that is no product, TooDeep for one nested too deeply.
    """
    if isinstance(text, CutOff) or len(text) > record_rules.LONGEST_RECORD:
        raise RecordRejected("record: longer than 16 MiB")
    record = decode_record(text)
    if not isinstance(record, dict):
        raise RecordRejected("record: not an object")
    if dig(record, str(mapping.product_id)) is MISSING:
        raise RecordRejected("record: no id")
    names = {mapping.category: "category", mapping.name: "name", mapping.product_id: "id"}
    values: dict[FieldName, str | None] = {}
    for field in mapping.fields:
        value = value_at(record, field)
        if value is not None and (not isinstance(value, str) or isinstance(value, Constant)):
            raise RecordRejected(f"record: {names[field]} is neither text nor a number")
        if value is not None and not is_unicode(value):
            raise RecordRejected(f"record: {names[field]} holds half a surrogate pair")
        values[field] = None if value is None else str(value)
    return values


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
