"""Pointers: small JSON files that name the current version of something, and move forward only.

A pointer moves from the version that its writer has seen, or not at all. On a disk, `locked` keeps
other programs out meanwhile. An object store compares: it refuses to replace a file that has
changed.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from bought_together.errors import CannotRun
from bought_together.storage.filesystem import (
    is_object_store,
    locate,
    open_whole,
)

LOCK = ".lock"
TRIES = 20
# What S3 answers when a file is not the one that the condition names.
CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404")


def write_json(path: str, content: Any, durable: bool = False) -> None:
    """Write one JSON file, which appears under its name only when it is complete.

    A `durable` file is on the disk before it appears, and its name is there afterwards.
    """
    with open_whole(path, durable) as file:
        file.write(encoded(content))


def encoded(content: Any) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode()


def read_json(path: str) -> Any:
    """Return the content of a JSON file, None when there is no such file.

    Raises CannotRun when the file is damaged.
    """
    fs, name = locate(path)
    try:
        return json.loads(fs.cat_file(name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise CannotRun(f"{path} is damaged: {error}") from error


@contextmanager
def locked(lake_path: str) -> Iterator[None]:
    """Let one program at a time move the pointers of a lake on a disk."""
    _, name = locate(lake_path)
    if is_object_store(lake_path):
        yield
        return
    path = os.path.join(name, LOCK)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user made it, and only a network disk needs write access
        lock = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some disks know no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)  # which unlocks it


def move_pointer(path: str, content: Any, is_forward: Callable[[Any], bool]) -> Any:
    """Replace a pointer and return None, or return what it holds when that is newer.

    `is_forward` decides that from the held content. A missing or damaged pointer is always
    replaced. On a disk, the caller holds the lake's lock.
    """
    for _ in range(TRIES):
        tag = version_tag(path)
        held = None
        with suppress(CannotRun):
            held = read_json(path)
        if held == content:
            return None  # a repeated request finds what it has written
        if held is not None and not is_forward(held):
            return held
        if put_unless_changed(path, content, tag):
            return None
    raise CannotRun(f"{path} changes all the time")


def take_numbers(path: str, count: int, first: Callable[[], int]) -> int:
    """Take `count` numbers that nobody else gets, and return the first.

    The file at `path` has the next one; where it is missing or damaged, that is `first()`. On a
    disk, the caller holds the lake's lock.
    """
    for _ in range(TRIES):
        tag = version_tag(path)
        try:
            number = int(read_json(path)["next"])
        except (CannotRun, TypeError, LookupError, ValueError):
            number = first()
        if put_unless_changed(path, {"next": number + count}, tag):
            return number
    raise CannotRun(f"{path} changes all the time")


def version_tag(path: str) -> str | None:
    """Return the tag of a file's version in an object store, None when there is no file."""
    if not is_object_store(path):
        return None
    fs, name = locate(path)
    try:
        return fs.info(name)["ETag"]
    except FileNotFoundError:
        return None


def put_unless_changed(path: str, content: Any, tag: str | None) -> bool:
    """Write a file, and return whether it still had this version, which only a store compares."""
    if not is_object_store(path):
        write_json(path, content, durable=True)
        return True
    fs, name = locate(path)
    bucket, key, _ = fs.split_path(name)
    condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
    try:
        fs.call_s3("put_object", Bucket=bucket, Key=key, Body=encoded(content), **condition)
    except OSError as error:
        answer = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
        if answer == "NotImplemented":  # the store cannot compare
            write_json(path, content)
        elif answer not in CHANGED:
            raise
        else:
            return False
    return True
