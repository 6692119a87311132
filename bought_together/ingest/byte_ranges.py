"""Plan the byte ranges of input files that tasks read, and read them block by block."""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import IO

from fsspec.utils import seek_delimiter

from bought_together.errors import CannotRun
from bought_together.ingest.inputs import BOM, InputFile, unreadable
from bought_together.ingest.record_rules import STRUCTURE
from bought_together.storage.filesystem import locate, storage_errors

# An element of a JSON array that is still open after this many characters counts as broken, so
# that it is not read into memory to the end of the file.
LONGEST_ELEMENT = 1 << 26
CHARACTERS_READ = 1 << 20


@dataclass(frozen=True)
class ByteRange:
    """The lines that one task reads: those that begin in `(start, stop]`, and the line at 0.

    `start` and `stop` are bytes of the file.
    """

    file: InputFile
    start: int
    stop: int


@dataclass(frozen=True)
class Block:
    """Whole lines of a file, and where the first one starts, in (decompressed) bytes."""

    offset: int
    data: bytes


def plan_byte_ranges(input_files: list[InputFile], block_size: int) -> list[ByteRange]:
    """Return ranges of about `block_size` bytes; a .gz file or an array is one range."""
    ranges = []
    for input_file in input_files:
        whole = input_file.is_gzip or input_file.is_array
        step = max(input_file.size, 1) if whole else block_size
        starts = range(0, input_file.size, step)
        ranges += [
            ByteRange(input_file, start, min(start + step, input_file.size)) for start in starts
        ]
    return ranges


def read_lines(part: ByteRange, block_size: int) -> Iterator[Block]:
    """Yield the lines of a range in blocks, more than one only for a .gz file.

    Raises CannotRun when the file cannot be read.
    """
    path = part.file.path
    try:
        if part.file.is_gzip:
            with open_stream(part.file) as file:
                yield from stream_blocks(file, block_size)
        else:
            fs, name = locate(path)
            # Without read-ahead: an object store is asked only for the bytes of the range.
            with fs.open(name, "rb", cache_type="none") as file:
                yield range_block(file, part.start, part.stop)
    except storage_errors(EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def open_stream(input_file: InputFile) -> IO[bytes]:
    """Open a file for reading from its start, buffered: s3fs is slow line by line."""
    fs, name = locate(input_file.path)
    file = fs.open(name, "rb", compression="gzip" if input_file.is_gzip else None)
    return io.BufferedReader(file, CHARACTERS_READ)


def range_block(file: IO[bytes], start: int, stop: int) -> Block:
    """Return the lines that begin in `(start, stop]`, and the first line when start is 0."""
    begin, end = (line_start(file, place) for place in (start, stop))
    file.seek(begin)
    return without_bom(Block(begin, file.read(end - begin)))


def line_start(file: IO[bytes], place: int) -> int:
    """Return where the first line after byte `place` begins; 0 for the start of the file."""
    file.seek(place)
    seek_delimiter(file, b"\n", 1 << 16)
    return file.tell()


def stream_blocks(file: IO[bytes], block_size: int) -> Iterator[Block]:
    """Yield whole lines of a stream, about `block_size` bytes or one longer line at a time."""
    offset, rest = 0, b""
    while chunk := file.read(block_size):
        end = chunk.rfind(b"\n") + 1
        if not end:
            rest += chunk
            continue
        data, rest = rest + chunk[:end], chunk[end:]
        yield without_bom(Block(offset, data))
        offset += len(data)
    if rest:
        yield without_bom(Block(offset, rest))


def array_elements(input_file: InputFile) -> Iterator[tuple[int, bytes]]:
    """Yield (element number, text) of a file that is one JSON array, reading it as a stream.

    The scan knows only brackets, commas and strings, so an element that is not JSON does not
    affect the others. Bytes that are not UTF-8 are passed on unchanged. Raises CannotRun when the
    array does not end or something follows it: the missing records could not be counted.
    """
    number, depth = 0, 0
    text, start, place = "", 0, 0  # `start` of the current element, `place` scanned so far
    try:
        with io.TextIOWrapper(open_stream(input_file), "utf-8-sig", "surrogateescape") as file:
            while more := file.read(max(CHARACTERS_READ, len(text) - start)):
                text, start, place = text[start:] + more, 0, place - start
                for mark in STRUCTURE.finditer(text, place):
                    if mark["open_string"] is not None:  # continues in the next characters
                        break
                    place = mark.end()
                    if mark[0] in ("[", "{"):
                        depth += 1
                        start = place if depth == 1 else start
                    elif mark[0] in ("]", "}"):
                        depth -= 1
                    if depth == 0 or (depth == 1 and mark[0] == ","):
                        element = text[start : mark.start()].strip()
                        if element or number or depth:
                            yield number, element.encode("utf-8", "surrogateescape")
                        number, start = number + 1, place
                    if depth == 0:
                        rest = chain([text[place:]], iter(partial(file.read, CHARACTERS_READ), ""))
                        if any(piece.strip() for piece in rest):
                            raise broken_array(input_file, number)
                        return
                if len(text) - start > LONGEST_ELEMENT:
                    break
        raise broken_array(input_file, number)
    except storage_errors(EOFError, zlib.error) as error:
        raise unreadable(input_file.path, error) from error


def broken_array(input_file: InputFile, number: int) -> CannotRun:
    return CannotRun(
        f"{input_file.path}: not one complete JSON array, broken after {number} elements"
    )


def without_bom(block: Block) -> Block:
    if block.offset == 0 and block.data.startswith(BOM):
        return Block(len(BOM), block.data[len(BOM) :])
    return block
