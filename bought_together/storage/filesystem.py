"""Files on this machine or in an object store (s3://bucket/path), through fsspec.

Credentials, region, endpoint and certificate authority of an object store come from where every
AWS program looks: environment variables, a profile or a role.
"""

import errno
import glob
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from bought_together.errors import CannotRun, describe, storage_errors

S3_CONNECT_SECONDS = 5
S3_READ_SECONDS = 60
# Another program may have written a file a moment ago, so listings are not cached.
S3_OPTIONS = {
    "use_listings_cache": False,
    "config_kwargs": {"connect_timeout": S3_CONNECT_SECONDS, "read_timeout": S3_READ_SECONDS},
}


def is_object_store(path: str) -> bool:
    """Return whether a path is in an object store."""
    return get_protocol(path) in ("s3", "s3a")


def locate(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a path or URL, and the path's name there.

    Raises CannotRun when the protocol is unknown or its settings do not work.
    """
    try:
        fs, name = url_to_fs(path, **(S3_OPTIONS if is_object_store(path) else {}))
    except (ValueError, ImportError) as error:  # no such protocol, or not installed
        raise CannotRun(f"{path}: {error}") from error
    if not is_object_store(path):
        return fs, name
    try:
        fs.connect()  # checks the settings, sends nothing
    except storage_errors(ValueError) as error:
        raise CannotRun(f"cannot use {path}: {describe(error)}") from error
    if not name:
        raise CannotRun(f"{path} names no bucket")
    return fs, name


def full_path(path: str) -> str:
    """Return a path that means the same in any working directory."""
    return full_name(*locate(path))


def full_name(fs: fsspec.AbstractFileSystem, name: str) -> str:
    if isinstance(fs, LocalFileSystem):
        return os.path.normpath(name)  # fsspec has made it absolute
    return fs.unstrip_protocol(name)


@contextmanager
def only_warn(what: str) -> Iterator[None]:
    """Print a storage error as a warning on standard error, and carry on."""
    try:
        yield
    except CannotRun as error:
        print(f"warning: {what}: {error}", file=sys.stderr)
    except storage_errors() as error:
        print(f"warning: {what}: {describe(error)}", file=sys.stderr)


def make_folder(path: str) -> None:
    """Make a folder on a disk. An object store has none, and s3fs would make a missing bucket."""
    fs, name = locate(path)
    if not is_object_store(path):
        fs.makedirs(name, exist_ok=True)


@contextmanager
def cannot(what: str) -> Iterator[None]:
    """Turn a failure to read or write into CannotRun, which says what could not be done."""
    try:
        yield
    except storage_errors() as error:
        raise CannotRun(f"cannot {what}: {describe(error)}") from error


def remove_tree(path: str) -> None:
    """Remove a folder and its content, whatever characters their names contain."""
    fs, name = locate(path)
    if is_object_store(path):
        remove_objects(fs, fs.find(name))
    else:
        fs.rm(name, recursive=True)


def remove_files(folder: str, names: Iterable[str]) -> None:
    """Remove files of a folder; another program may be removing them too."""
    fs, root = locate(folder)
    paths = [f"{root}/{name}" for name in names]
    if is_object_store(folder):
        remove_objects(fs, paths)
        return
    for path in paths:
        with suppress(FileNotFoundError):
            fs.rm_file(path)


def remove_objects(fs: fsspec.AbstractFileSystem, names: list[str]) -> None:
    if names:
        fs.rm([glob.escape(name) for name in names])  # s3fs treats every name as a glob


def file_sizes(folder: str) -> dict[str, int]:
    """Return the size in bytes of each file in a folder, by name, from one listing."""
    fs, root = locate(folder)
    try:
        found = fs.ls(root, detail=True)
    except FileNotFoundError:
        return {}
    return {
        info["name"].rsplit("/", 1)[1]: info["size"]
        for info in found
        if info["type"] != "directory"
    }


def copy_files(source: str, target: str) -> None:
    """Copy the files of a folder to another one in the same store."""
    fs, root = locate(source)
    _, target_root = locate(target)
    for name in file_sizes(source):
        fs.cp_file(f"{root}/{name}", f"{target_root}/{name}")


def flush_tree(path: str) -> None:
    """Wait until the disk holds a folder and its files; an object store holds what it has taken."""
    fs, name = locate(path)
    if isinstance(fs, LocalFileSystem):
        for folder, _, files in os.walk(name):
            for file in files:
                flush(os.path.join(folder, file))
            flush(folder)
        flush(os.path.dirname(name))


def flush_files(folder: str, names: Iterable[str]) -> None:
    """Wait until the disk holds files below a folder, and the names in all folders up to it."""
    fs, root = locate(folder)
    if isinstance(fs, LocalFileSystem):
        paths = {root}
        for name in names:
            path = f"{root}/{name}"
            while path != root:
                paths.add(path)
                path = os.path.dirname(path)
        for path in paths:
            flush(path)


def flush(name: str) -> None:
    """Wait until the disk holds a file, or the names in a folder."""
    opened = os.open(name, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks cannot flush a folder
            raise
    finally:
        os.close(opened)


@contextmanager
def open_whole(
    path: str, durable: bool = False, unfinished_in: str | None = None
) -> Iterator[IO[bytes]]:
    """Yield a file to write, which appears under its name only when it is complete.

    A `durable` file is on the disk before it appears, and its name is there afterwards. A killed
    program leaves an `.unfinished` file, in the folder `unfinished_in` or beside the file, or in an
    object store an incomplete upload; the bucket's lifecycle rule removes such uploads.
    """
    fs, name = locate(path)
    if not is_object_store(path):
        folder, _, last = name.rpartition("/")
        if unfinished_in:
            folder = locate(unfinished_in)[1]
        # Its name matches no reader's glob.
        unfinished = f"{folder}/{last}.{secrets.token_hex(4)}.unfinished"
        try:
            with fs.open(unfinished, "wb") as file:
                yield file
            if durable:
                flush(unfinished)
            fs.mv(unfinished, name)
        except BaseException:
            with suppress(OSError):
                fs.rm_file(unfinished)
            raise
        if durable:
            flush(os.path.dirname(name))
        return
    file = fs.open(name, "wb")
    try:
        yield file
    except BaseException:
        with suppress(*storage_errors()):
            file.discard()
        file.closed = True  # closing it would complete the upload
        raise
    file.close()
