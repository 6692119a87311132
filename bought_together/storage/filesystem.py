"""Files on this machine or in an object store (s3://bucket/path), through fsspec.

An object store is reached as any AWS program reaches it: credentials, region, endpoint and
authority come from botocore's environment variables, profile or role.
"""

import glob
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from bought_together.errors import CannotRun, describe

S3_CONNECT_SECONDS = 5
S3_READ_SECONDS = 60
# What is listed may have been written a moment ago, by another program.
S3_OPTIONS = {
    "use_listings_cache": False,
    "config_kwargs": {"connect_timeout": S3_CONNECT_SECONDS, "read_timeout": S3_READ_SECONDS},
}


def is_object_store(path: str) -> bool:
    """Whether a path is in an object store rather than in a file system."""
    return get_protocol(path) in ("s3", "s3a")


def locate(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system that a path or URL is in, and its name there.

    Raises CannotRun where there is no such protocol, or its settings are not usable.
    """
    try:
        fs, name = url_to_fs(path, **(S3_OPTIONS if is_object_store(path) else {}))
    except (ValueError, ImportError) as error:  # no such protocol, or not installed
        raise CannotRun(f"{path}: {error}") from error
    if not is_object_store(path):
        return fs, name
    try:
        fs.connect()  # asks nobody anything
    except (*storage_errors(), ValueError) as error:
        raise CannotRun(f"no way to {path}: {describe(error)}") from error
    if not name:
        raise CannotRun(f"{path} names no bucket")
    return fs, name


def list_files(pattern: str) -> list[str]:
    """Return the full paths of what a glob matches, in order."""
    fs, name = locate(pattern)
    return sorted(full_name(fs, match) for match in fs.glob(name))


def full_path(path: str) -> str:
    """Return a path so that it means the same in any working folder."""
    return full_name(*locate(path))


def full_name(fs: fsspec.AbstractFileSystem, name: str) -> str:
    if isinstance(fs, LocalFileSystem):
        return os.path.normpath(name)  # fsspec has made it absolute
    return fs.unstrip_protocol(name)


def storage_errors() -> tuple[type[Exception], ...]:
    """Return what reading and writing raise, for an except clause.

    S3's client raises errors of its own where nothing answers, no credentials are found or an
    answer breaks off; it is imported only by those who use it.
    """
    botocore, aiohttp = sys.modules.get("botocore.exceptions"), sys.modules.get("aiohttp")
    return (
        OSError,
        *((botocore.BotoCoreError,) if botocore else ()),
        *((aiohttp.ClientError,) if aiohttp else ()),
    )


@contextmanager
def only_warn(what: str) -> Iterator[None]:
    """Turn a failure that spoils nothing into one line on standard error."""
    try:
        yield
    except storage_errors() as error:
        print(f"warning: {what}: {describe(error)}", file=sys.stderr)


def make_folder(path: str) -> None:
    """Make a folder; an object store has none, and would make a missing bucket."""
    fs, name = locate(path)
    if not is_object_store(path):
        fs.makedirs(name, exist_ok=True)


def remove_tree(path: str) -> None:
    """Remove a folder and all that is in it, whatever characters its name holds."""
    fs, name = locate(path)
    if not is_object_store(path):
        fs.rm(name, recursive=True)
    elif files := fs.find(name):
        fs.rm([glob.escape(file) for file in files])  # s3fs takes every name for a glob


@contextmanager
def open_whole(path: str) -> Iterator[IO[bytes]]:
    """Yield a file to write that appears under its name whole or not at all.

    A killed program leaves an `.unfinished` file beside it, or in an object store an upload that
    was never completed, which a rule of the bucket clears away.
    """
    fs, name = locate(path)
    if not is_object_store(path):
        unfinished = f"{name}.{secrets.token_hex(4)}.unfinished"  # no *.parquet or *.json
        with fs.open(unfinished, "wb") as file:
            yield file
        fs.mv(unfinished, name)
        return
    file = fs.open(name, "wb")
    try:
        yield file
    except BaseException:
        with suppress(*storage_errors()):
            file.discard()
        file.closed = True  # to close it would complete the upload
        raise
    file.close()
