"""Read order lines from CSV: rows as columns, with the place of each row in its file.

pyarrow reads blocks in which every row is one line. Where a quoted field spans lines, the standard
library's csv module reads the rest of the file row by row; both understand quotes alike.
"""

import csv
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from bought_together.errors import CannotRun
from bought_together.ingest import record_rules
from bought_together.ingest.blocks import NotClean, count_newlines
from bought_together.ingest.byte_ranges import Block, ByteRange, open_stream, read_lines
from bought_together.ingest.inputs import BOM, HEAD, InputFile
from bought_together.ingest.line_items import Flattened
from bought_together.ingest.mapping import FieldName, OrderMapping, ProductMapping
from bought_together.ingest.order_lines import TableRows, flatten_rows, no_column
from bought_together.ingest.patterns import unreadable
from bought_together.ingest.record_rules import CutOff
from bought_together.ingest.reject_rows import reject
from bought_together.storage.filesystem import storage_errors

DELIMITERS = ",\t;|"
ROWS_AT_A_TIME = 1 << 17


class CsvLayout(NamedTuple):
    """How a file's rows are read: `columns` has the index of each field that the mapping names.

    The header takes `header_size` bytes.
    """

    delimiter: str
    width: int
    columns: dict[FieldName, int]
    header_size: int
    encoding: str


class LongRows(Exception):
    """A range of a file has a row that spans lines: the file must be read from its start."""


class RowText(NamedTuple):
    """A row as the csv module reads it: its place, line number, text and fields."""

    place: int
    line_number: int
    text: bytes
    fields: list[bytes]


def find_layout(
    head: bytes,
    fields: list[FieldName],
    mapping: OrderMapping | ProductMapping,
    path: str,
) -> CsvLayout:
    """Return the layout of a file that begins with `head`; raises CannotRun without a field.

    Where the mapping names no delimiter, it is the one that separates the fields of the header.
    """
    head = head.removeprefix(BOM)
    candidates = [mapping.delimiter] if mapping.delimiter else list(DELIMITERS)
    rows = [(each, *first_row(head, each, mapping.encoding)) for each in candidates]
    widest = max(rows, key=lambda row: len(row[1]))
    found = next((row for row in rows if holds_all(row[1], fields, mapping.header)), widest)
    delimiter, names, size = found
    columns: dict[FieldName, int] = {}
    for field in fields:
        if isinstance(field, int):
            if field > len(names):
                raise no_column(path, field, names)
            columns[field] = field - 1
        elif not mapping.header:
            raise CannotRun(
                f"{path} has no header, so its columns have no names: give {field} as a number"
            )
        elif field not in names:
            raise no_column(path, field, names)
        elif names.count(field) > 1:
            raise CannotRun(f"{path} has two columns {field}: give its number")
        else:
            columns[field] = names.index(field)
    header_size = size if mapping.header else 0
    return CsvLayout(delimiter, len(names), columns, header_size, mapping.encoding)


def first_row(head: bytes, delimiter: str, encoding: str) -> tuple[list[str], int]:
    """Return the first row's fields, and where it ends in bytes."""
    first = next(row_texts([Block(0, head)], 0, delimiter), None)
    if first is None:
        return [], 0
    names = [field.decode(encoding, "replace").strip() for field in first.fields]
    return names, first.place + len(first.text)


def holds_all(names: list[str], fields: list[FieldName], has_header: bool) -> bool:
    """Return whether these are several names, with those of all fields among them."""
    if len(names) < 2:
        return False
    return all(
        field <= len(names) if isinstance(field, int) else has_header and field in names
        for field in fields
    )


def first_bytes(input_file: InputFile, content: bytes | None = None) -> bytes:
    """Return the beginning of a file's text; raises CannotRun when it cannot be read."""
    try:
        with open_stream(input_file, content) as file:
            return file.read(HEAD)
    except storage_errors(EOFError, zlib.error, UnicodeDecodeError) as error:
        raise unreadable(input_file.path, error) from error


def flatten_csv(
    part: ByteRange, block_size: int, content: bytes | None, mapping: OrderMapping
) -> Iterator[Flattened]:
    """Yield the flattened rows of a range, block by block; raises what `read_csv_rows` does."""
    for rows, others in read_csv_rows(part, block_size, content, mapping.fields, mapping):
        flattened = flatten_rows(rows, part.file.number, mapping)
        flattened.add(others)
        yield flattened


def read_csv_rows(
    part: ByteRange,
    block_size: int,
    content: bytes | None,
    fields: list[FieldName],
    mapping: OrderMapping | ProductMapping,
) -> Iterator[tuple[TableRows, Flattened]]:
    """Yield the rows of a range, block by block, each with the rejects of rows of another width.

    Raises LongRows when a row of a range of a file spans lines, CannotRun when the file cannot be
    read or lacks a column.
    """
    head = first_bytes(part.file, content)
    layout = find_layout(head, fields, mapping, part.file.printable_path)
    if part.file.is_utf16:
        layout = layout._replace(encoding="utf-8")
    is_from_start = part.is_whole_file or part.file.is_one_stream
    number, header = 0, layout.header_size if part.start == 0 else 0
    blocks = read_lines(part, block_size, content)
    for whole in blocks:
        data, is_cut_off = whole.data[header:], isinstance(whole.data, CutOff)
        block = Block(whole.offset + len(whole.data) - len(data), data)
        number += whole.data[:header].count(b"\n")
        header = max(0, header - len(whole.data))
        if is_cut_off:
            rows = rows_of([], layout)
            others = too_long(Block(whole.offset, whole.data), number)
        else:
            try:
                rows, others = read_block(block, number, layout)
            except (NotClean, pa.ArrowInvalid) as error:
                if not is_from_start:
                    raise LongRows from error
                rest = chain([block], blocks)
                yield from read_slowly(rest, number, layout, part.file.printable_path)
                return
        others.counts["newlines"] = count_newlines(whole.data)
        number += 1 if is_cut_off else data.count(b"\n")
        yield rows, others


def too_long(block: Block, number: int) -> Flattened:
    """Return the reject of a row that is too long."""
    reason = "record: longer than 16 MiB"
    flattened = Flattened(rejects=[reject(number, block.offset, reason, block.data)])
    flattened.counts.update(records_read=1, records_rejected=1, records_touched=1)
    return flattened


def read_block(block: Block, number: int, layout: CsvLayout) -> tuple[TableRows, Flattened]:
    """Return the rows of a block in which each is one line, and the rejects of another width.

    Raises NotClean or pyarrow.ArrowInvalid where a row spans lines.
    """
    starts, ends, numbers = line_places(block.data)
    data = memoryview(block.data)
    wrong: dict[int, int] = {}

    def note(row: Any) -> str:
        wrong[row.number - 1] = row.actual_columns
        return "skip"

    if block.data.count(b"\r") != block.data.count(b"\r\n"):
        raise NotClean("a carriage return inside a row")
    if len(starts) and is_open(bytes(data[starts[-1] : ends[-1]]), layout.delimiter):
        raise NotClean("a quote that is open at the end")
    text, is_recoded = as_utf8(block.data)
    table = parse_csv(text, layout, note) if len(starts) else None
    found = (table.num_rows if table is not None else 0) + len(wrong)
    if found != len(starts):
        raise NotClean("a row that spans lines")
    bad = [
        RowText(
            int(starts[row]) + block.offset,
            int(numbers[row]) + number,
            bytes(data[starts[row] : ends[row]]),
            [b""] * width,
        )
        for row, width in wrong.items()
    ]
    if wrong:
        kept = np.ones(len(starts), bool)
        kept[list(wrong)] = False
        starts, ends, numbers = starts[kept], ends[kept], numbers[kept]
    fields: dict[FieldName, pa.Array] = {}
    for field, index in layout.columns.items():
        column = table[str(index)].combine_chunks() if table is not None else None
        fields[field] = pa.nulls(0, pa.binary()) if column is None else column
        if is_recoded:
            fields[field] = as_it_was(fields[field])

    def raw_text(row: int) -> bytes:
        return bytes(data[starts[row] : ends[row]])

    rows = TableRows(starts + block.offset, numbers + number, fields, raw_text, layout.encoding)
    return rows, rejected_rows(bad, layout)


def as_utf8(data: bytes) -> tuple[bytes, bool]:
    """Return a block as UTF-8, and whether other bytes had to become characters for that.

    pyarrow cannot show rows of another width that are not UTF-8.
    """
    try:
        if not data.isascii():
            data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode(), True
    return data, False


def as_it_was(column: pa.Array) -> pa.Array:
    """Return the bytes of a column before `as_utf8`."""
    encoded = column.dictionary_encode()
    distinct = [value.decode().encode("latin-1") for value in encoded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(
        encoded.indices, pa.array(distinct, pa.binary())
    ).dictionary_decode()


def line_places(data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the start and end in bytes, and the number from 0, of each line that is not empty."""
    characters = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    if len(data) and (len(ends) == 0 or ends[-1] != len(data) - 1):
        ends = np.append(ends, len(data))
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    returns = (ends > starts) & (characters[np.maximum(ends - 1, 0)] == ord("\r"))
    ends = ends - returns
    numbers = np.flatnonzero(ends > starts)
    return starts[numbers], ends[numbers], numbers


def parse_csv(data: bytes, layout: CsvLayout, note: Any) -> pa.Table:
    names = [str(index) for index in range(layout.width)]
    wanted = list(dict.fromkeys(str(index) for index in layout.columns.values()))
    return pyarrow.csv.read_csv(
        pa.BufferReader(pa.py_buffer(data)),
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=len(data) + 1, column_names=names
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=layout.delimiter, invalid_row_handler=note
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(wanted, pa.binary()),
            include_columns=wanted,
            strings_can_be_null=False,
        ),
    )


def rejected_rows(rows: list[RowText], layout: CsvLayout) -> Flattened:
    """Return the rejects of rows of another width."""
    flattened = Flattened()
    for row in rows:
        found = "1 column" if len(row.fields) == 1 else f"{len(row.fields)} columns"
        reason = f"record: {found} where {layout.width} belong"
        flattened.rejects.append(reject(row.line_number, row.place, reason, row.text))
    flattened.counts.update(
        records_read=len(rows), records_rejected=len(rows), records_touched=len(rows)
    )
    return flattened


def read_slowly(
    blocks: Iterable[Block], number: int, layout: CsvLayout, path: str
) -> Iterator[tuple[TableRows, Flattened]]:
    """Yield the rows of blocks as `read_csv_rows` does, read one by one to the end of the file."""
    batch: list[RowText] = []
    for row in row_texts(blocks, number, layout.delimiter, path):
        batch.append(row)
        if len(batch) >= ROWS_AT_A_TIME:
            yield divide(batch, layout)
            batch = []
    yield divide(batch, layout)


def divide(batch: list[RowText], layout: CsvLayout) -> tuple[TableRows, Flattened]:
    """Return the rows that have the header's width, and the rejects of the others."""
    good = [row for row in batch if len(row.fields) == layout.width]
    others = [row for row in batch if len(row.fields) != layout.width]
    return rows_of(good, layout), rejected_rows(others, layout)


def rows_of(rows: list[RowText], layout: CsvLayout) -> TableRows:
    return TableRows(
        np.array([row.place for row in rows], "int64"),
        np.array([row.line_number for row in rows], "int64"),
        {
            field: pa.array([row.fields[index] for row in rows], pa.binary())
            for field, index in layout.columns.items()
        },
        lambda row: rows[row].text,
        layout.encoding,
    )


def row_texts(
    blocks: Iterable[Block], number: int, delimiter: str, path: str | None = None
) -> Iterator[RowText]:
    """Yield the rows of blocks of whole lines; `number` counts the lines before them.

    Raises CannotRun where a quote is never closed, if `path` names the file.
    """
    csv.field_size_limit(record_rules.LONGEST_RECORD)
    taken: list[bytes] = []
    place, line_number, is_cut_off = 0, number, False

    def lines() -> Iterator[str]:
        nonlocal place, is_cut_off
        for block in blocks:
            offset = block.offset
            is_cut_off |= isinstance(block.data, CutOff)
            for line in split_lines(block.data):
                if not taken:
                    place = offset
                taken.append(line)
                offset += len(line)
                yield line.decode("latin-1")

    reader = csv.reader(lines(), delimiter=delimiter)
    row = RowText(0, number, b"", [])
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            if "field limit" in str(error):
                raise never_closed(path, line_number) from error
            fields = [""]  # a carriage return inside a row: no row of the file's width
        if fields is None:
            # Here the module takes an open quote for a closed one.
            if path is not None and is_open(row.text, delimiter):
                raise never_closed(path, row.line_number)
            return
        text = b"".join(taken)
        if fields:
            values = [b""] if is_cut_off else [field.encode("latin-1") for field in fields]
            row = RowText(place, line_number, text.rstrip(b"\r\n") if path else text, values)
            yield row
        line_number += len(taken)
        is_cut_off = False
        taken.clear()


def is_open(text: bytes, delimiter: str) -> bool:
    """Return whether a row ends inside quotes: a line after it then belongs to it."""
    try:
        rows = list(csv.reader([text.decode("latin-1"), "x"], delimiter=delimiter))
    except csv.Error:
        return False
    return len(rows) == 1


def split_lines(data: bytes) -> list[bytes]:
    """Return lines with their ends."""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def never_closed(path: str | None, line_number: int) -> CannotRun:
    return CannotRun(
        f"cannot read {path}: the row that begins at line {line_number + 1} has a quote that is"
        " never closed"
    )
