"""Read the elements of JSON lists as a stream: a list that is the file, or one in its documents.

The scans know only brackets, commas and strings, so an element that is not JSON does not affect the
others. Elements are passed on as they are written.
"""

import io
import json
import re
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import TextIO

from bought_together.errors import CannotRun
from bought_together.ingest import byte_ranges, record_rules
from bought_together.ingest.byte_ranges import open_stream
from bought_together.ingest.inputs import InputFile
from bought_together.ingest.patterns import unreadable
from bought_together.ingest.record_rules import STRUCTURE, cut_off
from bought_together.ingest.reject_rows import RAW_TEXT_LIMIT
from bought_together.storage.filesystem import storage_errors

ARRAY_ELEMENTS_A_PART = 1 << 16
# In characters; no name on the way to the records is longer.
LONGEST_NAME_OF_A_FIELD = 1 << 16


class Broken(Exception):
    """A list does not end, or something else follows it."""


class Characters:
    """The characters of a stream; `ahead` are read next, since a reader has given them back."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.ahead = ""

    def read(self, size: int) -> str:
        given, self.ahead = self.ahead, ""
        return given or self.file.read(size)

    def skip_space(self) -> bool:
        """Return whether anything follows that is not white space."""
        while text := self.read(byte_ranges.CHARACTERS_READ):
            if text := text.lstrip():
                self.ahead = text
                return True
        return False


def array_elements(
    input_file: InputFile, content: bytes | None = None, records: str | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield (element number, text) of a file that is one JSON array, reading it as a stream.

    `records` is the dotted path of the list in a file of JSON documents, such as the answers of an
    API, one after the other; the numbers count through all of them. Bytes that are not UTF-8 are
    passed on unchanged. An element that is too long is passed on as a CutOff. Raises CannotRun when
    a list does not end, something follows it or a document has none: the missing records could not
    be counted.
    """
    number, documents = 0, 0
    try:
        stream = open_stream(input_file, content)
        with io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape") as file:
            characters = Characters(file)
            if records is None:
                number = yield from list_elements(characters, number)
                if characters.skip_space():
                    raise Broken(number)
                return
            while characters.skip_space():
                documents += 1
                is_object = characters.ahead.startswith("{")
                depth = skip_to_list(characters, records) if is_object else None
                if depth is None:
                    raise no_list(input_file, records, documents)
                number = yield from list_elements(characters, number)
                skip_to_end(characters, depth, number)
    except Broken as error:
        kind = "not one complete JSON array" if records is None else f"{records} is not complete"
        raise CannotRun(
            f"{input_file.printable_path}: {kind}, broken after {error} elements"
        ) from error
    except storage_errors(EOFError, zlib.error, UnicodeDecodeError) as error:
        raise unreadable(input_file.path, error) from error


def no_list(input_file: InputFile, records: str, document: int) -> CannotRun:
    return CannotRun(
        f"{input_file.printable_path}: document {document} holds no list {records}: correct"
        " `records` in the mapping; `python scripts/inspect_input.py` shows what it sees in a file"
    )


def list_elements(characters: Characters, number: int) -> Generator[tuple[int, bytes], None, int]:
    """Yield (element number, text) of a list that the characters begin with.

    Returns the next number. Raises Broken when the list does not end.
    """
    first, depth = number, 0
    text, start, place = "", 0, 0  # `start` of the current element, `place` scanned so far
    beginning: str | None = None  # of the current element, when the rest of it is not kept
    while more := characters.read(max(byte_ranges.CHARACTERS_READ, len(text) - start)):
        text, start, place = text[start:] + more, 0, place - start
        open_string = None
        for mark in STRUCTURE.finditer(text, place):
            open_string = mark["open_string"]
            if open_string is not None:  # continues in the next characters
                break
            place = mark.end()
            if mark[0] in ("[", "{"):
                depth += 1
                start = place if depth == 1 else start
            elif mark[0] in ("]", "}"):
                depth -= 1
            if depth == 0 or (depth == 1 and mark[0] == ","):
                element = text[start : mark.start()].strip()
                if beginning is not None:
                    yield number, cut_off(beginning.encode("utf-8", "surrogateescape"))
                    number += 1
                elif element or number > first or depth:
                    yield number, element.encode("utf-8", "surrogateescape")
                    number += 1
                start, beginning = place, None
            if depth == 0:
                characters.ahead = text[place:]
                return number
        if beginning is not None or len(text) - start > record_rules.LONGEST_RECORD:
            if beginning is None:
                beginning = text[start:].lstrip()[:RAW_TEXT_LIMIT]
            text = "" if open_string is None else f'"{open_string}'
            start = place = 0
    raise Broken(number)


def skip_to_list(characters: Characters, path: str) -> int | None:
    """Read up to the bracket of the list at a dotted path in the next document.

    Returns how deep it stands, None when the document has no such list.
    """
    for found, depth, mark in lists_in_document(characters):
        if found == path:
            characters.ahead = mark.string[mark.start() :]
            return depth
    return None


def skip_to_end(characters: Characters, depth: int, number: int) -> None:
    """Read to the end of a document, of which so many brackets are open; raises Broken without."""
    for mark in marks_in(characters):
        if mark[0] in ("[", "{"):
            depth += 1
        elif mark[0] in ("]", "}"):
            depth -= 1
            if depth == 0:
                characters.ahead = mark.string[mark.end() :]
                return
    raise Broken(number)


def lists_in_document(characters: Characters) -> Iterator[tuple[str, int, re.Match[str]]]:
    """Yield (dotted path, depth, its bracket) of each list in a document that only objects hold.

    The characters begin with an object.
    """
    names: list[str] = []  # of the fields whose values are open, in each object
    lists = 0  # that are open
    is_name = False  # whether a string comes next that is one
    for mark in marks_in(characters):
        token = mark[0]
        if token == "{":
            names.append("")
            is_name = True
        elif token == "[":
            if not lists and "" not in names:
                yield ".".join(names), len(names), mark
            names.append("")
            lists += 1
        elif token in ("]", "}"):
            names.pop()
            lists -= token == "]"
            if not names:
                return
        elif token == ",":
            is_name = True
        elif is_name and names:
            names[-1] = unescaped(token)
            is_name = False


def unescaped(token: str) -> str:
    """Return the text of a string of JSON, or the token where it is none."""
    try:
        return json.loads(token)
    except ValueError:
        return token


def marks_in(characters: Characters) -> Iterator[re.Match[str]]:
    """Yield the brackets, commas and strings to the end of the characters."""
    text = ""
    while more := characters.read(max(byte_ranges.CHARACTERS_READ, len(text))):
        text += more
        place, open_string = 0, None
        for mark in STRUCTURE.finditer(text):
            open_string = mark["open_string"]
            if open_string is not None:
                break
            yield mark
            place = mark.end()
        text = text[place:] if open_string is not None else ""
        if len(text) > LONGEST_NAME_OF_A_FIELD:
            text = f'"{open_string}'


def in_batches(
    elements: Iterable[tuple[int, bytes]], block_size: int
) -> Iterator[list[tuple[None, int, bytes]]]:
    """Yield lists of up to ARRAY_ELEMENTS_A_PART elements or about `block_size` bytes."""
    batch: list[tuple[None, int, bytes]] = []
    size = 0
    for number, text in elements:
        batch.append((None, number, text))
        size += len(text)
        if len(batch) >= ARRAY_ELEMENTS_A_PART or size >= block_size:
            yield batch
            batch, size = [], 0
    yield batch
