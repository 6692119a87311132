"""Inspect the input files: the kind of each, copies among them, and changes while they are read."""

import codecs
import hashlib
import os
import re
import stat
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from bought_together.errors import CannotRun
from bought_together.ingest.compression import (
    GZIP,
    SUFFIXES,
    ZSTD,
    compression_of,
    open_unpacked,
    unpacked,
)
from bought_together.ingest.patterns import printable_path, unreadable
from bought_together.storage.filesystem import is_object_store, locate, storage_errors

HEAD = 1 << 16
FILES_AT_ONCE = 200
REQUESTS_AT_ONCE = 32
BOM = codecs.BOM_UTF8
UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF32_BOMS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
PARQUET_MAGIC = b"PAR1"
# Nothing, an empty array, or the answer of an API that holds no orders.
NO_RECORDS = re.compile(rb'[\s\[\]]*|\{\s*"(?!itemList")[^"\\]*"\s*:\s*\[\s*\]\s*\}')
KIND_BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
KIND_BY_SUFFIX |= dict.fromkeys([".json", ".jsonl", ".ndjson"], "json")
# Of hashlib's functions without known collisions, the fastest on processors with instructions for
# it, twice as fast as blake2b.
HASH = "sha256"
# In nanoseconds: a disk's time may be no finer than this (FAT: two seconds).
MOMENTS = 2_000_000_000

Given = TypeVar("Given")
Found = TypeVar("Found")


class Status(NamedTuple):
    """What a file system says about a file.

    `version` changes when the file does. `changed_at` is the time of its last change of any kind in
    nanoseconds, None in an object store. Within moments of a change, another one may leave no
    trace: the next run compares the content of a file that `is_doubtful`.
    """

    path: str
    size: int
    version: tuple[Any, ...]
    changed_at: int | None = None
    is_doubtful: bool = False

    @property
    def has_etag(self) -> bool:
        """Return whether an object store knows the file's version by its content."""
        return self.changed_at is None and not self.is_doubtful


@dataclass(frozen=True)
class InputFile:
    """One input file.

    `number` is permanent in a lake, and part of each order id. Files of one `head` and size begin
    alike; `digest` is that of the whole content, None where nobody has needed it. `compression` is
    gzip, zstd or None. `kind` is json, csv or parquet; rows of a CSV file that has long rows may
    span lines.
    """

    number: int
    path: str
    size: int
    compression: str | None
    is_array: bool
    is_utf16: bool = False
    has_records: bool = True
    head: str | None = None
    digest: str | None = None
    status: Status | None = None
    kind: str = "json"
    has_long_rows: bool = False

    @property
    def is_one_stream(self) -> bool:
        """Return whether the file can only be read from its start."""
        return bool(self.compression) or self.is_array or self.is_utf16 or self.has_long_rows

    @property
    def printable_path(self) -> str:
        return printable_path(self.path)


def inspect_files(paths: list[str]) -> list[InputFile]:
    """Return the files, numbered in the order of `paths`, with their sizes and kinds.

    Raises CannotRun when a file cannot be read.
    """
    return inspect(look_at(paths))


def look_at(paths: list[str]) -> list[Status]:
    """Return the sizes and versions of files; an object store is asked for many at once.

    Raises CannotRun for what is missing, unreadable or no file.
    """
    return in_each_file_system(versions_of, paths, path_of=str)


def inspect(statuses: list[Status]) -> list[InputFile]:
    """Return the files, numbered in order, with their kinds.

    An object store is asked for the first bytes of many files at once. Raises CannotRun when a file
    cannot be read.
    """
    found = in_each_file_system(inspect_in, statuses, path_of=attrgetter("path"))
    return [replace(input_file, number=number) for number, input_file in enumerate(found)]


def in_each_file_system(
    function: Callable[[fsspec.AbstractFileSystem, list[tuple[Given, str]]], Iterable[Found]],
    given: list[Given],
    path_of: Callable[[Given], str],
) -> list[Found]:
    """Return `function(file system, [(given, its name there)])` of many at once, in order."""
    file_systems: dict[fsspec.AbstractFileSystem, list[int]] = {}
    names = []
    for place, one in enumerate(given):
        fs, name = locate(path_of(one))
        file_systems.setdefault(fs, []).append(place)
        names.append(name)
    found: dict[int, Found] = {}
    for fs, places in file_systems.items():
        for start in range(0, len(places), FILES_AT_ONCE):
            some = places[start : start + FILES_AT_ONCE]
            results = function(fs, [(given[place], names[place]) for place in some])
            found.update(zip(some, results, strict=True))
    return [found[place] for place in range(len(given))]


def inspect_in(
    fs: fsspec.AbstractFileSystem, files: list[tuple[Status, str]]
) -> Iterator[InputFile]:
    """Yield the files of one file system; `files` holds (status, name there)."""
    # An empty object has no range to ask for; a file may contain more than its size says (/proc).
    asked = [name for status, name in files if status.size or not is_object_store(status.path)]
    begins = dict(zip(asked, fs.cat_ranges(asked, 0, HEAD), strict=True))
    for status, name in files:
        path, size = status.path, status.size
        head = begins.get(name, b"")
        if isinstance(head, Exception):
            raise unreadable(path, head) from head
        if head and not size:
            raise CannotRun(f"cannot read {printable_path(path)}: it has content but no size")
        compression = compression_of(head)
        text = head_of_text(fs, path, name, head) if compression else head
        if text.startswith(UTF32_BOMS):
            raise CannotRun(f"{printable_path(path)} is UTF-32: save it as UTF-8")
        is_utf16 = text.startswith(UTF16_BOMS)
        if is_utf16:
            text = text.decode("utf-16", "ignore").encode("utf-8", "ignore")
        kind = kind_of(text, name)
        head_digest = hashlib.new(HASH, head).hexdigest()
        yield InputFile(
            number=0,
            path=path,
            size=size,
            compression=compression,
            is_array=is_array(text),
            is_utf16=is_utf16,
            has_records=size > HEAD or may_hold_records(text, kind),
            head=head_digest,
            digest=head_digest if size <= HEAD else None,
            status=status,
            kind=kind,
        )


def head_of_text(fs: fsspec.AbstractFileSystem, path: str, name: str, head: bytes) -> bytes:
    """Return up to HEAD bytes of the text of a compressed file that begins with `head`.

    Raises CannotRun when it cannot be unpacked.
    """
    try:
        if compression_of(head) == GZIP:
            return unpacked(head, HEAD)
        # The first block alone may be longer than the head.
        with fs.open(name, "rb") as file:
            return open_unpacked(file, ZSTD).read(HEAD)
    except storage_errors(zlib.error) as error:
        raise unreadable(path, error) from error


def versions_of(fs: fsspec.AbstractFileSystem, names: list[tuple[str, str]]) -> list[Status]:
    """Return the status of each file; `names` holds (path, name there).

    Raises CannotRun for what is missing, unreadable or no file.
    """

    def look(path_and_name: tuple[str, str]) -> Status:
        path, name = path_and_name
        try:
            if isinstance(fs, LocalFileSystem):
                now = time.time_ns()
                status = os.stat(name)
                if not stat.S_ISREG(status.st_mode):
                    raise CannotRun(f"cannot read {printable_path(path)}: it is not a regular file")
                version = (status.st_size, status.st_mtime_ns, status.st_ino)
                last = max(status.st_mtime_ns, status.st_ctime_ns)
                is_doubtful = last > now - MOMENTS
                return Status(path, status.st_size, version, status.st_ctime_ns, is_doubtful)
            info = fs.info(name)
            tag = info.get("ETag")
            return Status(path, info["size"], (info["size"], tag), is_doubtful=tag is None)
        except storage_errors() as error:
            raise unreadable(path, error) from error

    if isinstance(fs, LocalFileSystem):
        return list(map(look, names))
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return list(pool.map(look, names))


def check_unchanged(input_files: list[InputFile]) -> None:
    """Raise CannotRun when a file is not what it was when it was inspected."""
    now = look_at([input_file.path for input_file in input_files])
    for input_file, status in zip(input_files, now, strict=True):
        if input_file.status and status.version != input_file.status.version:
            raise CannotRun(
                f"{input_file.printable_path} changed while it was read:"
                " run again when it is complete"
            )


def refuse_copies(input_files: list[InputFile], what: str) -> list[InputFile]:
    """Raise CannotRun when two files have the same content, which would count twice.

    Only files that are equally long and begin alike are read to their ends. Returns the files, with
    the digests of those that were.
    """
    alike = defaultdict(list)
    for place, input_file in enumerate(input_files):
        if input_file.has_records:
            alike[input_file.size, input_file.head].append(place)
    files = list(input_files)
    for places in alike.values():
        if len(places) == 1:
            continue
        contents: dict[str, InputFile] = {}
        for place in places:
            content = files[place].digest or digest(files[place].path)
            files[place] = replace(files[place], digest=content)
            first = contents.setdefault(content, files[place])
            if first is not files[place]:
                raise CannotRun(
                    f"{what} name {first.printable_path} and {files[place].printable_path},"
                    " which have the same content: leave one out"
                )
    return files


def digest(path: str) -> str:
    """Return a digest of a file's bytes; raises CannotRun when it cannot be read."""
    fs, name = locate(path)
    try:
        with fs.open(name, "rb") as file:
            return hashlib.file_digest(file, HASH).hexdigest()
    except storage_errors() as error:
        raise unreadable(path, error) from error


def kind_of(head: bytes, name: str) -> str:
    """Return what a file that begins with `head` is by its name, or looks like: json, csv, parquet.

    A column of CSV may be called `[Order id]`.
    """
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    path = PurePosixPath(name.lower())
    if path.suffix in SUFFIXES:
        path = path.with_suffix("")
    if path.suffix in KIND_BY_SUFFIX:
        return KIND_BY_SUFFIX[path.suffix]
    return "json" if head.removeprefix(BOM).lstrip()[:1] in (b"{", b"[", b"") else "csv"


def may_hold_records(text: bytes, kind: str) -> bool:
    """Return whether a whole text is more than white space, an empty list, or a header of CSV.

    Days without orders are such files, and as many may be alike.
    """
    text = text.removeprefix(BOM).strip()
    if kind == "csv":
        return b"\n" in text
    return NO_RECORDS.fullmatch(text) is None


def is_array(head: bytes) -> bool:
    """Return whether a file that begins with `head` is one JSON array of objects."""
    return re.match(rb"\s*\[\s*(\{|\]\s*\Z)", head.removeprefix(BOM)) is not None
