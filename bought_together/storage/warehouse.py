"""The warehouse, which is the DuckDB file that dbt builds in: its path, and DuckDB's limits."""

import re
from collections.abc import Mapping
from pathlib import Path

import duckdb

from bought_together.errors import CannotRun

# dbt-duckdb names the database after the file, unquoted, and takes the path for an address.
UNUSABLE = re.compile(r"[?#\x00-\x1f]|^~[^/]|['\";][^/]*$")
# DuckDB's own databases.
RESERVED = re.compile(r"(^|/)(main|(?i:temp|system))(\.[^/]*)?$")
SHARE = re.compile(r"(\d+(?:\.\d+)?) *%")
SIZE = re.compile(r"\d+(\.\d+)? *[KMGT]i?B?", re.IGNORECASE)
MOST_THREADS = 1024
# DuckDB's own limit, as a share of the memory of this machine or container.
DEFAULT_SHARE = 0.8


def check_path(path: str) -> None:
    """Raise CannotRun when DuckDB cannot use the file, or dbt cannot name a database after it."""
    if UNUSABLE.search(path):
        raise CannotRun(
            f"DUCKDB_PATH {path}: dbt accepts no ? or #, no ~name at the start, and no quote or ;"
            " in the name of the file"
        )
    if RESERVED.search(path):
        raise CannotRun(f"DUCKDB_PATH {path}: DuckDB has a database of its own of that name")
    if Path(path).exists() and not Path(path).is_file():
        raise CannotRun(f"DUCKDB_PATH {path} is no file")


def duckdb_limits(environment: Mapping[str, str]) -> dict[str, str]:
    """Return DuckDB's `threads` and `memory_limit`, where DUCKDB_… sets them.

    A memory limit is a size, such as 8GB, or a share of the memory of this machine or container,
    such as 50%. Raises CannotRun when a value cannot be used.
    """
    limits = {}
    if threads := environment.get("DUCKDB_THREADS", "").strip():
        if not re.fullmatch("[0-9]{1,9}", threads) or not 1 <= int(threads) <= MOST_THREADS:
            raise CannotRun(
                f"DUCKDB_THREADS must be a whole number from 1 to {MOST_THREADS}, not {threads}"
            )
        limits["threads"] = threads
    if memory := environment.get("DUCKDB_MEMORY_LIMIT", "").strip():
        limits["memory_limit"] = memory_limit(memory)
    return limits


def memory_limit(text: str) -> str:
    """Return a size that DuckDB knows; raises CannotRun."""
    share = SHARE.fullmatch(text)
    if not (share and 0 < float(share[1]) <= 100) and not SIZE.fullmatch(text):
        raise CannotRun(
            f"DUCKDB_MEMORY_LIMIT must be a size such as 8GB, or a share of the memory such as"
            f" 50%, not {text}"
        )
    try:
        if share:
            whole = current_memory_limit() / DEFAULT_SHARE
            text = f"{int(whole * float(share[1]) / 100)}B"
        current_memory_limit(text)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise CannotRun(f"DUCKDB_MEMORY_LIMIT {text}: {reason}") from error
    return text


def current_memory_limit(limit: str | None = None) -> int:
    """Return DuckDB's memory limit in bytes, by default its own; raises duckdb.Error."""
    from dask.utils import parse_bytes  # only where a limit is set or Dask counts

    with duckdb.connect(config={"memory_limit": limit} if limit else {}) as connection:
        ((used,),) = connection.sql("select current_setting('memory_limit')").fetchall()
        return parse_bytes(used)
