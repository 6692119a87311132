"""Find the files that paths and patterns name, as a shell does, on a disk or in an object store."""

import os
import re
import stat
from collections.abc import Hashable, Iterator
from fnmatch import translate
from pathlib import Path

from fsspec import AbstractFileSystem
from fsspec.core import has_magic
from fsspec.implementations.local import LocalFileSystem

from bought_together.errors import CannotRun, describe
from bought_together.ingest.compression import SUFFIXES
from bought_together.storage.filesystem import full_name, locate, storage_errors

LONGEST_NAME = 255  # bytes, on nearly every disk
ANY_DEPTH = "**"
NOT_THERE = (FileNotFoundError, NotADirectoryError)


def find_files(patterns: str, what: str) -> list[str]:
    """Return the files that comma-separated paths and patterns name, in order, each once.

    `what` is the setting's name, for messages. A path that exists is not read as a pattern, nor
    split at its commas. Two names of one file (links, two patterns) are one file: the first name
    counts. Raises CannotRun for a folder, a file or folder that is missing or unreadable, a pattern
    that matches no file, and a file that is there both plain and
    as .gz or .zst.
    """
    paths: dict[Hashable, str] = {}
    pattern = patterns
    try:
        for pattern in split_patterns(patterns):
            for identity, path in find_matches(pattern, what):
                paths.setdefault(identity, path)
    except storage_errors() as error:
        raise unreadable(pattern, error) from error
    if not paths:
        raise CannotRun(f"{what} is empty: name at least one file")
    refuse_twins(list(paths.values()), what)
    return list(paths.values())


def split_patterns(patterns: str) -> Iterator[str]:
    """Yield the parts between commas; the name of an existing file stays whole."""
    parts = patterns.split(",")
    while parts:
        taken = 1
        for count in range(2, len(parts) + 1):
            name = ",".join(parts[:count]).strip()
            folder, _, last = name.rpartition("/")
            if "://" in parts[count - 1] or len(os.fsencode(last)) > LONGEST_NAME:
                break
            if kind(*locate(name)) == "file":
                taken = count
            elif "/" in parts[count - 1] and kind(*locate(folder or "/")) is None:
                break  # nor is any longer name in that folder
        if pattern := ",".join(parts[:taken]).strip():
            yield pattern
        del parts[:taken]


def find_matches(pattern: str, what: str) -> Iterator[tuple[Hashable, str]]:
    """Yield (identity, path) of the files that one path or pattern names, sorted by name."""
    fs, name = locate(pattern)
    shown = printable_path(pattern)
    found_kind = kind(fs, name)
    if found_kind == "directory":
        raise CannotRun(f"{what} {shown} is a folder: name its files, for example {shown}/*")
    if found_kind:
        found = [name]
    elif has_magic(name):
        root, *components = name.split("/")
        found = sorted(set(expand(fs, root, components)))
        if not found:
            raise CannotRun(f"{what} {shown} matches no file")
    else:
        raise CannotRun(f"{what} {shown} does not exist")
    for match in found:
        if isinstance(fs, LocalFileSystem):
            status = os.stat(match)
            yield (status.st_dev, status.st_ino), str(Path(match))
        else:
            path = full_name(fs, match)
            yield path, path


def kind(fs: AbstractFileSystem, name: str) -> str | None:
    """Return "file" or "directory", None for a name that does not exist; follows links.

    Raises FileNotFoundError for a link that leads nowhere.
    """
    try:
        if isinstance(fs, LocalFileSystem):
            return "directory" if stat.S_ISDIR(os.stat(name).st_mode) else "file"
        return fs.info(name)["type"]
    except PermissionError:
        if not isinstance(fs, LocalFileSystem):
            fs.ls(name)  # an object store says why only here: the answer above has no text
        raise
    except NOT_THERE:
        if isinstance(fs, LocalFileSystem) and os.path.islink(name):
            raise
        return None


def expand(fs: AbstractFileSystem, folder: str, components: list[str]) -> Iterator[str]:
    """Yield the files in a folder that the components of a pattern match.

    A folder that cannot be read raises its error, and so does a link that leads nowhere.
    """
    first, *rest = components
    if first == ANY_DEPTH:
        for inner in folders_below(fs, folder):
            yield from expand(fs, inner, rest or ["*"])
    elif not has_magic(first):
        name = f"{folder}/{first}"
        if rest:
            yield from expand(fs, name, rest)
        elif kind(fs, name) == "file":
            yield name
    else:
        for name, is_a_folder in entries(fs, folder, first):
            if rest and is_a_folder:
                yield from expand(fs, name, rest)
            elif not rest and not is_a_folder:
                yield name


def folders_below(fs: AbstractFileSystem, folder: str) -> Iterator[str]:
    """Yield a folder and all that are not hidden below it, linked ones too, each once."""
    seen: set[Hashable] = set()
    waiting = [folder]
    while waiting:
        name = waiting.pop()
        identity: Hashable = name
        if isinstance(fs, LocalFileSystem):
            try:
                status = os.stat(name)
            except NOT_THERE:
                continue
            identity = (status.st_dev, status.st_ino)
        if identity not in seen:
            seen.add(identity)
            yield name
            waiting += [inner for inner, is_a_folder in entries(fs, name, "*") if is_a_folder]


def entries(fs: AbstractFileSystem, folder: str, pattern: str) -> list[tuple[str, bool]]:
    """Return (name, whether it is a folder) of what matches a pattern in a folder.

    Names that begin with a dot match only a pattern that does. A folder that does not exist has no
    entries.
    """
    matches = re.compile(translate(pattern.replace("[^", "[!"))).match
    shows_hidden = pattern.startswith(".")
    found = []
    try:
        if isinstance(fs, LocalFileSystem):
            with os.scandir(folder or "/") as scanned:
                for entry in scanned:
                    if matches(entry.name) and (shows_hidden or not entry.name.startswith(".")):
                        is_a_folder = entry.is_dir()
                        if not is_a_folder and entry.is_symlink():
                            os.stat(entry.path)  # raises for a link that leads nowhere
                        found.append((f"{folder}/{entry.name}", is_a_folder))
        else:
            for info in fs.ls(folder, detail=True):
                name = info["name"].rstrip("/")
                last = name.removeprefix(f"{folder}/")
                if name != folder and matches(last) and (shows_hidden or not last.startswith(".")):
                    found.append((name, info["type"] == "directory"))
    except NOT_THERE:
        if kind(fs, folder) == "directory":
            raise
    return found


def refuse_twins(paths: list[str], what: str) -> None:
    """Raise CannotRun when a file is among the paths in two forms: plain, as .gz or as .zst."""
    seen = {path: path for path in paths}
    for path in paths:
        plain, suffix = os.path.splitext(path)
        if suffix.lower() in SUFFIXES and seen.setdefault(plain, path) != path:
            raise CannotRun(
                f"{what} name {printable_path(seen[plain])} and {printable_path(path)},"
                " which look like the same file: leave one out"
            )


def printable_path(path: str) -> str:
    """Return a path as text that any file can hold: bytes that are not UTF-8 become `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def unreadable(path: str, error: BaseException) -> CannotRun:
    return CannotRun(f"cannot read {printable_path(path)}: {describe(error)}")
