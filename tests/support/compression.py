"""Compressed input, as shops write it."""

import pyarrow as pa


def zstd(data: bytes) -> bytes:
    """Return one frame of Zstandard, as `zstd` writes it."""
    return pa.compress(data, codec="zstd", asbytes=True)
