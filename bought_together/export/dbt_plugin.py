"""Let `dbt build` publish: SQL functions for macros/publish.sql, in a plugin of dbt-duckdb.

SQL writes the tables of a build; these functions decide whether it may be published, and move the
pointer. Both take and return JSON.
"""

import json
import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from bought_together.errors import CannotRun, describe, storage_errors
from bought_together.export.publish_rule import reason_not_to_publish
from bought_together.storage.builds import build_path, make_published, newer_than
from bought_together.storage.filesystem import make_folder
from bought_together.storage.lake import lake_path_setting

Facts = dict[str, Any]


class Plugin(BasePlugin):
    """Defines begin_publish and finish_publish for the connection's SQL."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        for function in (begin_publish, finish_publish):
            conn.create_function(
                function.__name__, function, ["VARCHAR"], "VARCHAR", side_effects=True
            )


def json_function(function: Callable[[Facts], Facts]) -> Callable[[str], str]:
    """Return a function from JSON to JSON, whose error is in the answer: `{"error": "…"}`."""

    @wraps(function)
    def call(facts: str) -> str:
        try:
            return json.dumps(function(json.loads(facts)))
        except CannotRun as error:
            return json.dumps({"error": str(error)})
        except storage_errors() as error:
            return json.dumps({"error": f"cannot publish: {describe(error)}"})

    return call


@json_function
def begin_publish(facts: Facts) -> Facts:
    """Return the folder to write the tables to, or a message that says why there is none.

    `facts` holds the build's `manifest` (build, run, built_at), and `nodes`, `results`, `project`
    and `is_trial` for the rule.
    """
    lake_path, manifest = lake_path_setting(os.environ), facts.pop("manifest")
    reason = reason_not_to_publish(**facts)
    if not reason and (newer := newer_than(lake_path, manifest)):
        reason = is_older(manifest, newer)
    if reason:
        return {"message": f"Nothing published: {reason}"}
    folder = build_path(lake_path, manifest["build"])
    make_folder(folder)
    return {"folder": folder}


@json_function
def finish_publish(facts: Facts) -> Facts:
    """Move the pointer to a build whose tables are written; returns a message for people."""
    lake_path, manifest = lake_path_setting(os.environ), facts["manifest"]
    if newer := make_published(lake_path, manifest, {"results": facts["results"]}):
        return {"message": f"Nothing published: {is_older(manifest, newer)}"}
    return {"message": f"Published build {manifest['build']} in {lake_path}"}


def is_older(manifest: Facts, newer: str) -> str:
    return f"{newer}, published in the meantime, is newer than this build of run {manifest['run']}"
