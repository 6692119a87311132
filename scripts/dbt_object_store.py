"""dbt's way to a lake in an object store: a plugin of dbt-duckdb, named in profiles.yml."""

import os
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from duckdb_s3 import S3Login
from store import is_object_store


class Plugin(BasePlugin):
    """Signs DuckDB in where LAKE_PATH is in an object store; does nothing otherwise."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        self.login = S3Login() if is_object_store(os.environ.get("LAKE_PATH", "")) else None

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        if self.login:
            self.login.load(conn)

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Sign in again before each model and test: a build may outlast a role's credentials."""
        if self.login:
            self.login.sign_in(cursor)
