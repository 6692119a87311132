"""dbt's way to a lake in an object store: a plugin of dbt-duckdb, named in profiles.yml."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt_common.exceptions import DbtRuntimeError

from bought_together.errors import CannotRun
from bought_together.storage.duckdb_s3 import S3Login
from bought_together.storage.filesystem import is_object_store


class Plugin(BasePlugin):
    """Signs DuckDB in where LAKE_PATH is in an object store; does nothing otherwise."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        self.login: S3Login | None = None
        if is_object_store(os.environ.get("LAKE_PATH", "")):
            with told_by_dbt():
                self.login = S3Login()

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        if self.login:
            with told_by_dbt():
                self.login.load(conn)

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Sign in again before each model and test: a build may outlast a role's credentials."""
        if self.login:
            with told_by_dbt():
                self.login.sign_in(cursor)


@contextmanager
def told_by_dbt() -> Iterator[None]:
    """Let dbt say what is wrong in its own way, without a call stack."""
    try:
        yield
    except CannotRun as error:
        raise DbtRuntimeError(str(error)) from error
