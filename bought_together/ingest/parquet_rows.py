"""Read order lines from Parquet: rows as columns, each placed by its number in the file."""

import io
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bought_together.errors import CannotRun
from bought_together.ingest.byte_ranges import ByteRange
from bought_together.ingest.line_items import Flattened
from bought_together.ingest.mapping import FieldName, OrderMapping
from bought_together.ingest.order_lines import TableRows, flatten_rows, no_column
from bought_together.ingest.patterns import unreadable
from bought_together.ingest.record_rules import clean_text
from bought_together.storage.filesystem import locate, storage_errors

ROWS_IN_A_BATCH = 1 << 18


def flatten_parquet(
    part: ByteRange, content: bytes | None, mapping: OrderMapping
) -> Iterator[Flattened]:
    """Yield the flattened rows of a range, batch by batch; raises what `read_parquet_rows` does."""
    for rows in read_parquet_rows(part, content, mapping.fields):
        yield flatten_rows(rows, part.file.number, mapping)


def read_parquet_rows(
    part: ByteRange, content: bytes | None, wanted: list[FieldName]
) -> Iterator[TableRows]:
    """Yield the rows of the row groups that begin in a range, batch by batch.

    Raises CannotRun when the file cannot be read, or lacks a column.
    """
    path = part.file.printable_path
    try:
        fs, name = locate(part.file.path)
        source: Any = io.BytesIO(content) if content is not None else fs.open(name, "rb")
        with source, pq.ParquetFile(source) as file:
            paths = {field: column_path(file.schema_arrow, field, path) for field in wanted}
            for group, first_row in groups_in(file.metadata, part):
                yield from read_group(file, group, first_row, paths)
    except parquet_errors() as error:
        raise unreadable(part.file.path, error) from error


def parquet_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of reading Parquet, whose names may be no text when it is damaged."""
    return storage_errors(pa.ArrowException, UnicodeDecodeError)


def groups_in(metadata: Any, part: ByteRange) -> Iterator[tuple[int, int]]:
    """Yield the row groups that begin in a range, with the number of rows before each."""
    first_row = 0
    for group in range(metadata.num_row_groups):
        found = metadata.row_group(group)
        column = found.column(0)
        begins = min(
            place
            for place in (column.dictionary_page_offset, column.data_page_offset)
            if place is not None
        )
        if part.start < begins <= part.stop:
            yield group, first_row
        first_row += found.num_rows


def read_group(
    file: Any, group: int, first_row: int, paths: dict[FieldName, list[str]]
) -> Iterator[TableRows]:
    columns = list(dict.fromkeys(".".join(steps) for steps in paths.values()))
    for batch in file.iter_batches(ROWS_IN_A_BATCH, row_groups=[group], columns=columns):
        fields = {field: values_of(batch, steps) for field, steps in paths.items()}
        places = np.arange(first_row, first_row + batch.num_rows)
        yield TableRows(places, None, fields, partial(row_text, fields))
        first_row += batch.num_rows


def column_path(schema: pa.Schema, field: FieldName, path: str) -> list[str]:
    """Return the names of a column and of the fields inside it; raises CannotRun without one."""
    names = schema.names
    if isinstance(field, int):
        if field <= len(names):
            return [names[field - 1]]
        steps = []
    else:
        steps = [field] if field in names else field.split(".")
    kind: Any = schema
    for step in steps:
        is_known = isinstance(kind, pa.Schema) or pa.types.is_struct(kind)
        place = kind.get_field_index(step) if is_known else -1
        if place < 0:
            break
        kind = kind.field(place).type
    else:
        if steps:
            check_type(kind, field, path)
            return steps
    raise no_column(path, field, names)


def check_type(kind: pa.DataType, field: FieldName, path: str) -> None:
    if pa.types.is_nested(kind):
        raise CannotRun(
            f"{path}: the column {field} holds {clean_text(str(kind))}, and not one value per row:"
            " write a row per order line"
        )


def values_of(batch: pa.RecordBatch, steps: list[str]) -> pa.Array:
    column = batch.column(steps[0])
    for step in steps[1:]:
        column = pc.struct_field(column, step)
    return column


def value_in(one: pa.Array) -> Any:
    """Return the only value, as bytes or text where Python has no text or time like it."""
    try:
        return one[0].as_py()
    except (ValueError, OverflowError):
        return one.cast(pa.string() if pa.types.is_temporal(one.type) else pa.binary())[0].as_py()


def row_text(fields: dict[FieldName, pa.Array], row: int) -> bytes:
    """Return the mapped fields of one row as JSON, for rejects."""
    values = {str(field): value_in(column.slice(row, 1)) for field, column in fields.items()}
    return json.dumps(values, default=str, ensure_ascii=False).encode("utf-8", "backslashreplace")
