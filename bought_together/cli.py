"""The options and exit statuses that programs share.

A program imports the rest of the package inside its command: `--help` answers at once, and a
library that cannot be imported ends the program like any other defect.
"""

import io
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from bought_together.errors import CannotRun, Refused, describe, storage_errors

REFUSED = 1  # the data was read and refused
CANNOT_RUN = 2  # something is missing, unreadable, unreachable or full
DEFECT = 70  # of the program; Python's own status 1 would mean that the data was refused
INTERRUPTED = 130  # by Ctrl-C, as in shells; click's own status would be 1
READER_GONE = 141  # the output's, as in shells; click's own status would be 1
TERMINATED = 143  # by SIGTERM, as in shells

DEFAULT_LAKE = "data/lake"
DEFAULT_REDIS_PREFIX = "bought-together"

Function = TypeVar("Function", bound=Callable[..., Any])


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which schedulers and containers end a program; it tidies up as after Ctrl-C."""


class Program(click.Command):
    """A command that ends with one line and the exit status of its error.

    An error that a user cannot fix is a defect, which ends with its call stack.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        open_closed_streams()
        # A file name or a terminal may know other characters than the other.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with one_line_for_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_for_errors(), raising_sigterm():
            return super().invoke(ctx)


@contextmanager
def one_line_for_errors() -> Iterator[None]:
    """End the program with one line where an error is raised; click itself prints several."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort):
        raise  # click ends the program
    except BrokenPipeError:
        write_nowhere(1)
        sys.exit(READER_GONE)
    except click.ClickException as error:
        stop(error.format_message(), CANNOT_RUN)
    except Refused as error:
        stop(str(error), REFUSED)
    except CannotRun as error:
        stop(str(error), CANNOT_RUN)
    except storage_errors() as error:
        stop(describe(error), CANNOT_RUN)
    except MemoryError:
        stop("not enough memory", CANNOT_RUN)
    except Terminated:
        stop("terminated", TERMINATED)
    except KeyboardInterrupt:
        stop("interrupted", INTERRUPTED)
    except Exception:
        traceback.print_exc()
        sys.exit(DEFECT)


@contextmanager
def raising_sigterm() -> Iterator[None]:
    """Raise Terminated in the main thread on SIGTERM, unless the program handles it itself."""

    def terminate(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would cut the tidying short
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # only the main thread receives signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def open_closed_streams() -> None:
    """Let output to a closed stream go nowhere; the next file opened would take its place."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  (open to the end)


def write_nowhere(stream: int) -> None:
    """Let what Python still flushes to a stream that takes nothing go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def stop(message: str, status: int) -> NoReturn:
    """End the program with one line on standard error."""
    try:
        click.echo(f"error: {' '.join(message.split())}", err=True)
    except OSError:  # nobody reads it, and the status still counts
        write_nowhere(2)
    try:
        sys.stdout.flush()
    except OSError:  # at its end, Python would complain again, with another status
        write_nowhere(1)
    sys.exit(status)


def refuse_nan(_context: click.Context, _option: click.Parameter, value: float) -> float:
    """Refuse what every range lets through: nan is neither too small nor too large."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number")
    return value


def program(function: Callable[..., Any]) -> Program:
    """Return a function as a program whose `--help` shows the default of every option."""
    settings = {"show_default": True}
    return click.command(cls=Program, context_settings=settings)(function)


def lake_path_option(function: Function) -> Function:
    return click.option(
        "--lake-path",
        envvar="LAKE_PATH",
        default=DEFAULT_LAKE,
        show_envvar=True,
        help="Folder of the lake, on a disk or in an object store (s3://bucket/folder).",
    )(function)


def redis_prefix_option(function: Function) -> Function:
    return click.option(
        "--redis-prefix",
        envvar="REDIS_PREFIX",
        default=DEFAULT_REDIS_PREFIX,
        show_envvar=True,
        help="Start of the names of all keys in Redis; each shop in one Redis has its own.",
    )(function)


def full_refresh_option(function: Function) -> Function:
    return click.option(
        "--full-refresh",
        envvar="FULL_REFRESH",
        is_flag=True,
        show_envvar=True,
        help="Do everything again, also for files that have not changed.",
    )(function)


def scheduler_option(function: Function) -> Function:
    return click.option(
        "--scheduler",
        envvar="DASK_SCHEDULER",
        show_envvar=True,
        help="Address of a Dask scheduler, for example tls://host:8786. Unset: this machine.",
    )(function)


def workers_option(function: Function) -> Function:
    return click.option(
        "--workers",
        envvar="DASK_WORKERS",
        default=1,
        type=click.IntRange(min=1),
        show_envvar=True,
        help="Number of Dask workers to wait for before the work begins.",
    )(function)
