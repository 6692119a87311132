"""Inspect the input files: the kind of each, copies among them, and changes while they are read."""

import codecs
import hashlib
import os
import re
import stat
import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter

import fsspec
from fsspec.implementations.local import LocalFileSystem

from bought_together.errors import CannotRun
from bought_together.ingest.patterns import printable_path, unreadable
from bought_together.storage.filesystem import is_object_store, locate, storage_errors

HEAD = 1 << 16
FILES_AT_ONCE = 200
REQUESTS_AT_ONCE = 32
BOM = codecs.BOM_UTF8
UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF32_BOMS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class InputFile:
    """One input file.

    `number` is its place in the run's list of files; `version` changes when the file does. Files
    with one `fingerprint` and size begin alike; it is None for a file without any record.
    """

    number: int
    path: str
    size: int
    is_gzip: bool
    is_array: bool
    is_utf16: bool = False
    version: Hashable = None
    fingerprint: bytes | None = None

    @property
    def is_one_stream(self) -> bool:
        """Return whether the file can only be read from its start."""
        return self.is_gzip or self.is_array or self.is_utf16

    @property
    def printable_path(self) -> str:
        return printable_path(self.path)


def inspect_files(paths: list[str]) -> list[InputFile]:
    """Return the files with their numbers, sizes and kinds, in the order of `paths`.

    An object store is asked for many sizes at once, and then for the first bytes of many files.
    Raises CannotRun when a file cannot be read.
    """
    file_systems: dict[fsspec.AbstractFileSystem, list[tuple[int, str, str]]] = {}
    for number, path in enumerate(paths):
        fs, name = locate(path)
        file_systems.setdefault(fs, []).append((number, path, name))
    input_files = [
        input_file
        for fs, files in file_systems.items()
        for start in range(0, len(files), FILES_AT_ONCE)
        for input_file in inspect_in(fs, files[start : start + FILES_AT_ONCE])
    ]
    return sorted(input_files, key=attrgetter("number"))


def inspect_in(
    fs: fsspec.AbstractFileSystem, files: list[tuple[int, str, str]]
) -> Iterator[InputFile]:
    """Yield the files of one file system; `files` holds (number, path, name there)."""
    versions = versions_of(fs, [(path, name) for _, path, name in files])
    # An empty object has no range to ask for; a file may contain more than its size says (/proc).
    asked = [
        name
        for (_, path, name), (size, _) in zip(files, versions, strict=True)
        if size or not is_object_store(path)
    ]
    begins = dict(zip(asked, fs.cat_ranges(asked, 0, HEAD), strict=True))
    for (number, path, name), (size, version) in zip(files, versions, strict=True):
        head = begins.get(name, b"")
        if isinstance(head, Exception):
            raise unreadable(path, head) from head
        if head and not size:
            raise CannotRun(f"cannot read {printable_path(path)}: it has content but no size")
        is_gzip = head.startswith(GZIP_MAGIC)
        try:
            text = unpacked(head) if is_gzip else head
        except zlib.error as error:
            raise unreadable(path, error) from error
        if text.startswith(UTF32_BOMS):
            raise CannotRun(f"{printable_path(path)} is UTF-32: save it as UTF-8")
        is_utf16 = text.startswith(UTF16_BOMS)
        if is_utf16:
            text = text.decode("utf-16", "ignore").encode("utf-8", "ignore")
        has_records = size > HEAD or text.removeprefix(BOM).strip(b" \t\r\n[]") != b""
        yield InputFile(
            number,
            path,
            size,
            is_gzip,
            is_array(text),
            is_utf16,
            version,
            hashlib.blake2b(head).digest() if has_records else None,
        )


def unpacked(head: bytes) -> bytes:
    """Return up to HEAD bytes of the text of a .gz file; raises zlib.error."""
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD)


def versions_of(
    fs: fsspec.AbstractFileSystem, names: list[tuple[str, str]]
) -> list[tuple[int, Hashable]]:
    """Return (size, version) of each file; `names` holds (path, name there).

    Raises CannotRun for what is missing, unreadable or no file.
    """

    def look(path_and_name: tuple[str, str]) -> tuple[int, Hashable]:
        path, name = path_and_name
        try:
            if isinstance(fs, LocalFileSystem):
                status = os.stat(name)
                if not stat.S_ISREG(status.st_mode):
                    raise CannotRun(f"cannot read {printable_path(path)}: it is not a regular file")
                return status.st_size, (status.st_size, status.st_mtime_ns, status.st_ino)
            info = fs.info(name)
            return info["size"], (info["size"], info.get("ETag"))
        except storage_errors() as error:
            raise unreadable(path, error) from error

    if isinstance(fs, LocalFileSystem):
        return list(map(look, names))
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return list(pool.map(look, names))


def check_unchanged(input_files: list[InputFile]) -> None:
    """Raise CannotRun when a file is not what it was when it was inspected."""
    file_systems: dict[fsspec.AbstractFileSystem, list[tuple[InputFile, str]]] = defaultdict(list)
    for input_file in input_files:
        fs, name = locate(input_file.path)
        file_systems[fs].append((input_file, name))
    for fs, files in file_systems.items():
        versions = versions_of(fs, [(input_file.path, name) for input_file, name in files])
        for (input_file, _), (_, version) in zip(files, versions, strict=True):
            if version != input_file.version:
                raise CannotRun(
                    f"{input_file.printable_path} changed while it was read:"
                    " run again when it is complete"
                )


def refuse_copies(input_files: list[InputFile], what: str) -> None:
    """Raise CannotRun when two files have the same content, which would count twice.

    Only files that are equally long and begin alike are read to their ends.
    """
    alike = defaultdict(list)
    for input_file in input_files:
        if input_file.fingerprint is not None:
            alike[input_file.size, input_file.fingerprint].append(input_file)
    for (size, _), files in alike.items():
        if len(files) == 1:
            continue
        contents: dict[bytes, InputFile] = {}
        for input_file in files:
            content = b"" if size <= HEAD else digest(input_file)
            first = contents.setdefault(content, input_file)
            if first is not input_file:
                raise CannotRun(
                    f"{what} name {first.printable_path} and {input_file.printable_path},"
                    " which have the same content: leave one out"
                )


def digest(input_file: InputFile) -> bytes:
    """Return a digest of a file's bytes; raises CannotRun when it cannot be read."""
    fs, name = locate(input_file.path)
    try:
        with fs.open(name, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except storage_errors() as error:
        raise unreadable(input_file.path, error) from error


def is_array(head: bytes) -> bool:
    """Return whether a file that begins with `head` is one JSON array of objects."""
    return re.match(rb"\s*\[\s*(\{|\]\s*\Z)", head.removeprefix(BOM)) is not None
