"""Errors that a user can fix, and their description in one line."""

import sys
from typing import Any


class CannotRun(Exception):
    """Something is missing, unreadable, unreachable or full; the message is one line."""


class Refused(Exception):
    """The data was read and is too bad to use; the message says why, in one line.

    `manifest` has the counts of the refused run of flatten; None for other data.
    """

    def __init__(self, message: str, manifest: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.manifest = manifest


def storage_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return the exceptions of reading and writing, and `others`, for an except clause.

    The S3 client raises its own when nothing answers, there are no credentials or an answer breaks
    off. Its modules count only when something else has imported them.
    """
    botocore, aiohttp = sys.modules.get("botocore.exceptions"), sys.modules.get("aiohttp")
    return (
        OSError,
        *((botocore.BotoCoreError,) if botocore else ()),
        *((aiohttp.ClientError,) if aiohttp else ()),
        *others,
    )


def describe(error: BaseException) -> str:
    """Return the message of an operating-system or library error, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(f"{type(error).__name__}: {error}".split())
