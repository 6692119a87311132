"""Plan the byte ranges of input files that tasks read, and read them block by block."""

import codecs
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import IO, Any, NamedTuple

from bought_together.ingest import record_rules
from bought_together.ingest.compression import open_unpacked
from bought_together.ingest.inputs import BOM, InputFile
from bought_together.ingest.patterns import unreadable
from bought_together.ingest.record_rules import cut_off
from bought_together.ingest.reject_rows import RAW_TEXT_LIMIT
from bought_together.storage.filesystem import locate, storage_errors

CHARACTERS_READ = 1 << 20
# Bytes in which the end of nearly every line is.
FIRST_READ = 1 << 16
# A compressed file of text unpacks to about this many times its size.
PACKING_RATIO = 8


@dataclass(frozen=True)
class ByteRange:
    """The lines that one task reads: those that begin in `(start, stop]`, and the line at 0.

    `start` and `stop` are bytes of the file.
    """

    file: InputFile
    start: int
    stop: int

    @property
    def is_whole_file(self) -> bool:
        return self.start == 0 and self.stop == self.file.size


class Block(NamedTuple):
    """Whole lines of a file, and where the first one starts, in (decompressed) bytes.

    A CutOff instead is the beginning of one line that is too long to be read.
    """

    offset: int
    data: bytes


def plan_byte_ranges(input_files: list[InputFile], block_size: int) -> list[ByteRange]:
    """Return ranges of about `block_size` bytes; a file that is one stream is one range."""
    ranges = []
    for input_file in input_files:
        step = max(input_file.size, 1) if input_file.is_one_stream else block_size
        starts = range(0, input_file.size, step)
        ranges += [
            ByteRange(input_file, start, min(start + step, input_file.size)) for start in starts
        ]
    return ranges


def plan_tasks(ranges: list[ByteRange], block_size: int) -> list[list[ByteRange]]:
    """Return the ranges of each task, in order: small files share one, up to `block_size` bytes."""
    tasks: list[list[ByteRange]] = []
    room = 0
    for part in ranges:
        size = text_size(part.stop - part.start, part.file.compression)
        if part.is_whole_file and size <= room:
            tasks[-1].append(part)
            room -= size
        else:
            tasks.append([part])
            room = block_size - size if part.is_whole_file else 0
    return tasks


def text_size(size: int, compression: str | None) -> int:
    """Return about how many bytes of text so many bytes of a file hold."""
    return size * (PACKING_RATIO if compression else 1)


def read_together(ranges: list[ByteRange]) -> list[bytes | None]:
    """Return the content of small files, which an object store is asked for at once.

    Returns None for a single range, which is read on its own. Raises CannotRun when a file cannot
    be read.
    """
    if len(ranges) == 1:
        return [None]
    located = [locate(part.file.path) for part in ranges]
    contents: list[bytes | None] = [None] * len(ranges)
    for fs in {fs for fs, _ in located}:
        places = [place for place, (other, _) in enumerate(located) if other is fs]
        names = [located[place][1] for place in places]
        sizes = [ranges[place].stop for place in places]
        for place, content in zip(places, fs.cat_ranges(names, 0, sizes), strict=True):
            if isinstance(content, Exception):
                raise unreadable(ranges[place].file.path, content) from content
            contents[place] = content
    return contents


def read_lines(part: ByteRange, block_size: int, content: bytes | None = None) -> Iterator[Block]:
    """Yield the lines of a range in blocks; `content` is what its file contains, if that is known.

    Raises CannotRun when the file cannot be read.
    """
    path = part.file.path
    try:
        if part.file.is_one_stream:
            with open_stream(part.file, content) as file:
                yield from stream_blocks(file, block_size)
        else:
            # Without read-ahead: an object store is asked only for the bytes of the range.
            with open_bytes(part.file, content, cache_type="none") as file:
                yield from range_blocks(file, part.start, part.stop)
    except storage_errors(EOFError, zlib.error, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error


def open_bytes(
    input_file: InputFile, content: bytes | None = None, **settings: object
) -> IO[bytes]:
    """Open a file, or its content."""
    if content is not None:
        return io.BytesIO(content)
    fs, name = locate(input_file.path)
    return fs.open(name, "rb", **settings)


def open_stream(input_file: InputFile, content: bytes | None = None) -> IO[bytes]:
    """Open a file for reading as UTF-8 text from its start.

    It is unpacked, recoded from UTF-16, and buffered: s3fs is slow line by line.
    """
    file = open_unpacked(open_bytes(input_file, content), input_file.compression)
    if input_file.is_utf16:
        file = Recoded(file)
    return io.BufferedReader(file, CHARACTERS_READ)


class Recoded(io.RawIOBase):
    """The text of a UTF-16 file as UTF-8, without its byte order mark."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        # Half a surrogate pair becomes bytes that are not UTF-8.
        self.decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        self.rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.rest:
            data = self.file.read(CHARACTERS_READ)
            text = self.decoder.decode(data, final=not data)  # raises UnicodeDecodeError
            self.rest = text.encode("utf-8", "surrogatepass")
            if not data:
                break
        given, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)

    def close(self) -> None:
        self.file.close()
        super().close()


def range_blocks(file: IO[bytes], start: int, stop: int) -> Iterator[Block]:
    """Yield the lines that begin in `(start, stop]`, and the first line when start is 0."""
    begin = line_start(file, start, stop)
    if begin is None:
        return
    end = line_start(file, stop, stop + record_rules.LONGEST_RECORD + len(BOM) + 1)
    file.seek(begin)
    data = file.read((stop + RAW_TEXT_LIMIT if end is None else end) - begin)
    bom = len(BOM) if begin == 0 and data.startswith(BOM) else 0
    begin, data = begin + bom, data[bom:] if bom else data
    if end is not None:
        yield Block(begin, data)
        return
    lines = data.rfind(b"\n", 0, max(stop - begin, 0)) + 1
    if lines:
        yield Block(begin, data[:lines])
    yield Block(begin + lines, cut_off(data[lines:]))


def line_start(file: IO[bytes], place: int, limit: int) -> int | None:
    """Return where the first line after byte `place` begins; 0 for the start of the file.

    The file's end counts as one. Returns None when no line begins up to byte `limit`.
    """
    if place == 0:
        return 0
    file.seek(place)
    size = FIRST_READ
    while data := file.read(min(size, limit - place)):
        if end := data.find(b"\n") + 1:
            return place + end
        place += len(data)
        size = CHARACTERS_READ
    return place if place < limit else None


def stream_blocks(file: IO[bytes], block_size: int) -> Iterator[Block]:
    """Yield whole lines of a stream, about `block_size` bytes or one longer line at a time."""
    offset, rest, skips = 0, b"", False
    first = file.read(len(BOM))
    if first == BOM:
        offset, first = len(BOM), b""
    for chunk in chain([first], iter(partial(file.read, block_size), b"")):
        if skips:
            end = chunk.find(b"\n") + 1
            skips = not end
            offset += end or len(chunk)
            chunk = chunk[end:] if end else b""
        end = chunk.rfind(b"\n") + 1
        if end:
            data, rest = rest + chunk[:end], chunk[end:]
            yield Block(offset, data)
            offset += len(data)
        else:
            rest += chunk
        if len(rest) > record_rules.LONGEST_RECORD:
            yield Block(offset, cut_off(rest))
            offset += len(rest)
            rest, skips = b"", True
    if rest:
        yield Block(offset, rest)
