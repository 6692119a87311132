"""Errors that a user can mend: one line, and the exit status that goes with it."""

import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

REFUSED = 1  # the data was read and refused
CANNOT_RUN = 2  # something is missing, unreadable, unreachable or full
DEFECT = 70  # of this program; Python's own status would be 1, which says that the data was refused


class CannotRun(Exception):
    """Says in one line what is wrong and where."""


class Refused(Exception):
    """The data was read and is too bad to use; `args` holds the reason and the run's manifest."""


def stop(message: str, status: int) -> NoReturn:
    """End the program with one line on standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def run(command: Callable[[], Any]) -> None:
    """Run a program's main; what it does not expect ends with its call stack and DEFECT."""
    try:
        command()
    except Exception:
        traceback.print_exc()
        sys.exit(DEFECT)


def describe(error: BaseException) -> str:
    """Return what an operating-system or library error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(f"{type(error).__name__}: {error}".split())
