"""Find input files, plan the byte ranges that tasks read, and read them block by block."""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import IO

from fsspec.core import has_magic
from fsspec.utils import seek_delimiter

from errors import CannotRun, describe
from records import STRUCTURE
from store import full_name, locate, store_errors

# An element of a JSON array that is still open after this many characters is taken for broken
# rather than read into memory to the end of the file.
LONGEST_ELEMENT = 1 << 26
HEAD = 1 << 16
CHARACTERS_READ = 1 << 20
BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Source:
    """One input file. `number` is its place in the run's list of files."""

    number: int
    path: str
    size: int
    is_gzip: bool
    is_array: bool


@dataclass(frozen=True)
class Range:
    """What one task reads: the lines that begin in `(start, stop]`, and the first one at 0."""

    source: Source
    start: int
    stop: int


@dataclass(frozen=True)
class Block:
    """Whole lines of a file, and where the first of them stands (bytes, decompressed)."""

    offset: int
    data: bytes


def find_files(patterns: str, what: str) -> list[str]:
    """Return the files that comma-separated paths and globs name, in order, each once.

    A path that exists is taken as it is, whatever characters it holds. Raises CannotRun for a
    folder, a missing or unreachable file, or a glob that matches no file.
    """
    paths: dict[str, None] = {}
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        try:
            paths.update((path, None) for path in find_matches(pattern, what))
        except store_errors() as error:
            raise unreadable(pattern, error) from error
    if not paths:
        raise CannotRun(f"no {what} named")
    return list(paths)


def find_matches(pattern: str, what: str) -> list[str]:
    """Return the files that one path or glob names, in order; raises as `find_files` does."""
    fs, path = locate(pattern)
    if fs.isdir(path):
        raise CannotRun(f"{what} {pattern} is a folder; name its files, as in {pattern}/*")
    if fs.exists(path):
        found = [path]
    elif has_magic(pattern):
        found = [match for match in sorted(fs.glob(path)) if not fs.isdir(match)]
    else:
        raise CannotRun(f"{what} {pattern} does not exist")
    if not found:
        raise CannotRun(f"{what} {pattern} matches no file")
    return [full_name(fs, match) for match in found]


def look_at(number: int, path: str) -> Source:
    """Open a transactions file and tell its kind; raises CannotRun if it cannot be read."""
    try:
        fs, name = locate(path)
        with fs.open(name, "rb", block_size=HEAD) as file:
            is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            head = (gzip.GzipFile(fileobj=file) if is_gzip else file).read(HEAD)
        return Source(number, path, fs.size(name), is_gzip, is_array(head))
    except (*store_errors(), EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def is_array(head: bytes) -> bool:
    """Whether a file that begins so is one JSON array of objects rather than JSON lines."""
    return re.match(rb"\s*\[\s*(\{|\]\s*\Z)", head.removeprefix(BOM)) is not None


def plan_ranges(sources: list[Source], block_size: int) -> list[Range]:
    """Cut files into ranges of about `block_size` bytes; .gz files and arrays stay whole."""
    ranges = []
    for source in sources:
        whole = source.is_gzip or source.is_array
        step = max(source.size, 1) if whole else block_size
        starts = range(0, source.size, step)
        ranges += [Range(source, start, min(start + step, source.size)) for start in starts]
    return ranges


def read_lines(part: Range, block_size: int) -> Iterator[Block]:
    """Yield the lines of a range in blocks; only a .gz or a very long line takes more than one."""
    path = part.source.path
    try:
        if part.source.is_gzip:
            with open_stream(part.source) as file:
                yield from stream_blocks(file, block_size)
        else:
            fs, name = locate(path)
            # Nothing is read ahead: an object store is asked for what is wanted, no more.
            with fs.open(name, "rb", cache_type="none") as file:
                yield range_block(file, part.start, part.stop)
    except (*store_errors(), EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def open_stream(source: Source) -> IO[bytes]:
    """Open a file to be read from its start; an object store's own file is slow line by line."""
    fs, name = locate(source.path)
    file = fs.open(name, "rb", compression="gzip" if source.is_gzip else None)
    return io.BufferedReader(file, CHARACTERS_READ)


def range_block(file: IO[bytes], start: int, stop: int) -> Block:
    """Return the lines that begin in `(start, stop]`, and the first line when start is 0."""
    begin, end = (line_start(file, place) for place in (start, stop))
    file.seek(begin)
    return without_bom(Block(begin, file.read(end - begin)))


def line_start(file: IO[bytes], place: int) -> int:
    """Return where the first line after `place` begins; 0 for the start of the file."""
    file.seek(place)
    seek_delimiter(file, b"\n", 1 << 16)
    return file.tell()


def stream_blocks(file: IO[bytes], block_size: int) -> Iterator[Block]:
    """Yield whole lines of a stream, `block_size` bytes or one line at a time."""
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


def array_elements(source: Source) -> Iterator[tuple[int, bytes]]:
    """Yield (element number, text) of a file that is one JSON array, reading it as a stream.

    Only brackets, commas and strings are told apart, so an element that is no JSON spoils no
    other. Bytes that are no UTF-8 come back as they were. Raises CannotRun where the array does
    not end, or something follows it: what is missing could not be counted.
    """
    number, depth = 0, 0
    text, start, place = "", 0, 0  # `start` of the current element, `place` looked at so far
    try:
        with io.TextIOWrapper(open_stream(source), "utf-8-sig", "surrogateescape") as file:
            while more := file.read(max(CHARACTERS_READ, len(text) - start)):
                text, start, place = text[start:] + more, 0, place - start
                for mark in STRUCTURE.finditer(text, place):
                    if mark["open_string"] is not None:  # it goes on in what is read next
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
                            raise broken_array(source, number)
                        return
                if len(text) - start > LONGEST_ELEMENT:
                    break
        raise broken_array(source, number)
    except (*store_errors(), EOFError, zlib.error) as error:
        raise unreadable(source.path, error) from error


def broken_array(source: Source, number: int) -> CannotRun:
    return CannotRun(f"{source.path}: not one JSON array: broken after {number} elements")


def unreadable(path: str, error: BaseException) -> CannotRun:
    return CannotRun(f"cannot read {path}: {describe(error)}")


def without_bom(block: Block) -> Block:
    if block.offset == 0 and block.data.startswith(BOM):
        return Block(len(BOM), block.data[len(BOM) :])
    return block
