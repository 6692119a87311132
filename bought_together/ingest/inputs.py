"""Find the input files and detect the kind of each: gzipped or not, JSON lines or one array."""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import fsspec
from fsspec.core import has_magic

from bought_together.errors import CannotRun, describe
from bought_together.storage.filesystem import full_name, is_object_store, locate, storage_errors

HEAD = 1 << 16
FILES_AT_ONCE = 200
BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class InputFile:
    """One input file. `number` is its place in the run's list of files."""

    number: int
    path: str
    size: int
    is_gzip: bool
    is_array: bool


def find_files(patterns: str, what: str) -> list[str]:
    """Return the files that comma-separated paths and globs name, in order, each once.

    `what` is the setting's name, for messages. A path that exists is not read as a glob. Raises
    CannotRun for a folder, a missing or unreadable file, or a glob that matches no file.
    """
    paths: dict[str, None] = {}
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        try:
            paths.update((path, None) for path in find_matches(pattern, what))
        except storage_errors() as error:
            raise unreadable(pattern, error) from error
    if not paths:
        raise CannotRun(f"{what} is empty: name at least one file")
    return list(paths)


def find_matches(pattern: str, what: str) -> list[str]:
    """Return the files that one path or glob names, sorted; raises as `find_files` does."""
    fs, path = locate(pattern)
    if fs.isdir(path):
        raise CannotRun(f"{what} {pattern} is a folder: name its files, for example {pattern}/*")
    if fs.exists(path):
        found = [path]
    elif has_magic(pattern):
        matches = sorted(fs.glob(path, detail=True).items())
        found = [match for match, info in matches if not is_folder(fs, match, info)]
    else:
        raise CannotRun(f"{what} {pattern} does not exist")
    if not found:
        raise CannotRun(f"{what} {pattern} matches no file")
    return [full_name(fs, match) for match in found]


def is_folder(fs: fsspec.AbstractFileSystem, name: str, info: dict[str, Any]) -> bool:
    """Return whether a match is a folder or a link to one."""
    return info["type"] == "directory" or (bool(info.get("islink")) and fs.isdir(name))


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
    names = [name for _, _, name in files]
    try:
        sizes = fs.sizes(names)
    except storage_errors():
        sizes = [size_of(fs, path, name) for _, path, name in files]  # finds the one that fails
    # An empty object has no range to ask for; a file may contain more than its size says (/proc).
    asked = [
        name
        for (_, path, name), size in zip(files, sizes, strict=True)
        if size or not is_object_store(path)
    ]
    begins = dict(zip(asked, fs.cat_ranges(asked, 0, HEAD), strict=True))
    for (number, path, name), size in zip(files, sizes, strict=True):
        head = begins.get(name, b"")
        if isinstance(head, Exception):
            raise unreadable(path, head) from head
        is_gzip = head.startswith(GZIP_MAGIC)
        try:
            text = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head) if is_gzip else head
        except zlib.error as error:
            raise unreadable(path, error) from error
        yield InputFile(number, path, size, is_gzip, is_array(text))


def size_of(fs: fsspec.AbstractFileSystem, path: str, name: str) -> int:
    try:
        return fs.size(name)
    except storage_errors() as error:
        raise unreadable(path, error) from error


def is_array(head: bytes) -> bool:
    """Return whether a file that begins with `head` is one JSON array of objects."""
    return re.match(rb"\s*\[\s*(\{|\]\s*\Z)", head.removeprefix(BOM)) is not None


def unreadable(path: str, error: BaseException) -> CannotRun:
    return CannotRun(f"cannot read {path}: {describe(error)}")
