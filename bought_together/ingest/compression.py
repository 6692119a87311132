"""Know compressed input by its first bytes, and read it unpacked."""

import re
import zlib
from typing import IO, Any

import pyarrow as pa
from fsspec.compression import compr

GZIP, ZSTD = "gzip", "zstd"
GZIP_MAGIC = b"\x1f\x8b"
# Frames that a reader skips may come before the first frame of text, as pzstd writes them.
ZSTD_MAGIC = re.compile(rb"(?:\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)")
SUFFIXES = (".gz", ".zst")


def compression_of(head: bytes) -> str | None:
    """Return how a file that begins with `head` is compressed; None for plain text."""
    if head.startswith(GZIP_MAGIC):
        return GZIP
    return ZSTD if ZSTD_MAGIC.match(head) else None


def open_unpacked(file: IO[bytes], compression: str | None) -> Any:
    """Return a stream of the text of an open file.

    Reading it raises OSError, EOFError or zlib.error where the file is damaged or cut off.
    """
    if compression == ZSTD:
        return pa.CompressedInputStream(file, ZSTD)
    return compr[GZIP](file, mode="rb") if compression == GZIP else file


def unpacked(head: bytes, size: int) -> bytes:
    """Return up to `size` bytes of the text of a .gz file that begins so; raises zlib.error."""
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, size)
