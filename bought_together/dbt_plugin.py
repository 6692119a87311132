"""Let dbt read the lake: a plugin of dbt-duckdb, named in profiles.yml.

It sets DuckDB's limits, signs it in to the object store that LAKE_PATH is in, if any, and mounts
the lake's current run when dbt connects, so that every dbt command works on a fresh warehouse.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.flags import get_flags
from dbt_common.exceptions import DbtRuntimeError

from bought_together.errors import CannotRun
from bought_together.pairs.counting_rules import counting_rules
from bought_together.pairs.model_sql import project_vars
from bought_together.pairs.state import KEPT_TABLES, counted_by, plan_count
from bought_together.storage.duckdb_s3 import S3Login, literal
from bought_together.storage.filesystem import cannot, is_object_store
from bought_together.storage.lake import lake_path_setting
from bought_together.storage.mount import (
    is_mounted,
    mount_changes,
    mount_count,
    mount_files,
    mount_lake,
    mount_plan,
    mount_state,
)
from bought_together.storage.warehouse import check_path, duckdb_limits

# These commands read the lake's current run; all others look at what was built, and so at the run
# that it was built from. So does an evaluation.
COMMANDS_THAT_BUILD = ("build", "run")
SELECTOR_THAT_LOOKS = "evaluation"


class Plugin(BasePlugin):
    """Mounts the lake once per invocation: all models of a build read the same run."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        self.lake_path = lake_path_setting(os.environ)
        self.is_mounted = False
        self.login: S3Login | None = None
        if is_object_store(self.lake_path):
            with as_dbt_error():
                self.login = S3Login()

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Where there is no warehouse yet, make the tables that `dbt show` reads."""
        with as_dbt_error():
            check_path(creds.path)
        flags = get_flags()
        if flags.WHICH == "show" and not Path(creds.path).exists():
            print(f"There is no warehouse at {creds.path} yet: dbt makes its tables first.")
            dbt = [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "--quiet", "build"]
            tables = ["--exclude-resource-type", "test", "unit_test"]
            where = ["--project-dir", flags.PROJECT_DIR, "--profiles-dir", flags.PROFILES_DIR]
            if subprocess.run([*dbt, *tables, *map(str, where)], check=False).returncode:
                raise DbtRuntimeError("dbt could not make the tables to show")

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        with as_dbt_error(), cannot(f"read the lake {self.lake_path}"):
            for name, value in duckdb_limits(os.environ).items():
                conn.execute(f"set global {name} = {literal(value)}")
            if self.login:
                self.login.load(conn)
            if not self.is_mounted:
                if reads_current_run() or not is_mounted(conn):
                    self.mount(conn)
                self.is_mounted = True

    def mount(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Point the views to the lake's current run, and to the state that its count continues."""
        run = mount_lake(conn, self.lake_path)
        if run is None:
            return
        flags = get_flags()
        project = Path(flags.PROJECT_DIR)
        variables = project_vars(project) | flags.VARS
        if variables["pair_engine"] == "dask":
            mount_count(conn, self.lake_path, run)
            return
        rules = counting_rules(project, flags.VARS)
        fingerprint = counted_by(rules, project)
        plan = plan_count(self.lake_path, run, fingerprint, flags.FULL_REFRESH)
        mount_state(conn, plan.state or "", KEPT_TABLES if plan.state else ())
        mount_files(conn, plan.files)
        mount_changes(conn, plan.unchanged, plan.changed, run.get("orders"))
        mount_plan(conn, plan.summary, fingerprint)

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Sign in again before each model and test: a build may outlast a role's credentials."""
        if self.login:
            with as_dbt_error():
                self.login.sign_in(cursor)


def reads_current_run() -> bool:
    flags = get_flags()
    selector = getattr(flags, "SELECTOR", None)  # not of every command
    return flags.WHICH in COMMANDS_THAT_BUILD and selector != SELECTOR_THAT_LOOKS


@contextmanager
def as_dbt_error() -> Iterator[None]:
    """Let dbt report an error in its own way, without a call stack."""
    try:
        yield
    except CannotRun as error:
        raise DbtRuntimeError(str(error)) from error
