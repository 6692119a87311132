"""Errors that a user can mend, and how to describe them in one line."""

import sys
from typing import Any


class CannotRun(Exception):
    """Something is missing, unreadable, unreachable or full; says in one line what and where."""


class Refused(Exception):
    """The data was read and is too bad to use; says in one line why, and what to do.

    `manifest` is what the refused run of flatten counted, None for other data.
    """

    def __init__(self, message: str, manifest: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.manifest = manifest


def storage_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what reading and writing raise, and `others`, for an except clause.

    The client of object stores raises errors of its own where nothing answers, no credentials are
    found or an answer breaks off; it is imported only by those who use it.
    """
    botocore, aiohttp = sys.modules.get("botocore.exceptions"), sys.modules.get("aiohttp")
    return (
        OSError,
        *((botocore.BotoCoreError,) if botocore else ()),
        *((aiohttp.ClientError,) if aiohttp else ()),
        *others,
    )


def describe(error: BaseException) -> str:
    """Return what an operating-system or library error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(f"{type(error).__name__}: {error}".split())
