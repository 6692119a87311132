"""SQL functions for the project's macros, in a plugin of dbt-duckdb. They take and return JSON.

begin_publish, finish_publish    decide whether a build may be published; move the pointer
counting_fingerprint             the rules of counting, to compare with those of a count
"""

import json
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.flags import get_flags

from bought_together.errors import CannotRun, describe, storage_errors
from bought_together.export.build_summary import describe_build, manifest_counts
from bought_together.export.publish_rule import reason_not_to_publish
from bought_together.pairs.counting_rules import counting_rules
from bought_together.pairs.state import KEPT_TABLES, STATE, finish_state
from bought_together.storage.builds import build_path, make_published, newer_than
from bought_together.storage.filesystem import make_folder
from bought_together.storage.lake import lake_path_setting

Facts = dict[str, Any]


class Plugin(BasePlugin):
    """Defines the functions for the connection's SQL."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        for function in (begin_publish, finish_publish, counting_fingerprint):
            conn.create_function(
                function.__name__, function, ["VARCHAR"], "VARCHAR", side_effects=True
            )


def json_function(function: Callable[[Facts], Facts]) -> Callable[[str], str]:
    """Return a function from JSON to JSON that returns errors as `{"error": "…"}`."""

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
    """Return the folder to write the tables to, or a message with the reason not to publish.

    `facts` has the build's `manifest` (build, run, rules, built_at), `settings` and `measures`, and
    `nodes`, `results` and `project` for the publish rule. The answer's `summary` describes the
    build in a few lines, published or not.
    """
    lake_path, manifest = lake_path_setting(os.environ), facts["manifest"]
    flags = get_flags()  # dbt's macros do not see SAMPLE
    is_trial = bool(flags.EMPTY or flags.SAMPLE)
    reason = reason_not_to_publish(facts["nodes"], facts["results"], facts["project"], is_trial)
    if not reason and (newer := newer_than(lake_path, manifest)):
        reason = is_older(manifest, newer)
    summary = describe_build(facts["measures"], facts["max_basket_products"])
    if reason:
        return {"summary": summary, "message": f"Nothing published: {reason}"}
    folder = build_path(lake_path, manifest["build"])
    for table in KEPT_TABLES:
        make_folder(f"{folder}/{STATE}/{table}")
    return {"summary": summary, "folder": folder}


@json_function
def finish_publish(facts: Facts) -> Facts:
    """Move the pointer to a build whose tables are written, and return a message."""
    lake_path = lake_path_setting(os.environ)
    manifest = facts["manifest"] | manifest_counts(facts["measures"])
    manifest["state"] = finish_state(lake_path, manifest, facts["count"])
    ran = {"settings": facts["settings"], "results": facts["results"]}
    if newer := make_published(lake_path, manifest, ran):
        return {"message": f"Nothing published: {is_older(manifest, newer)}"}
    return {"message": f"Published build {manifest['build']} in {lake_path}"}


@json_function
def counting_fingerprint(facts: Facts) -> Facts:
    """Return the fingerprint of the project's counting rules; `facts` has `vars` that matter."""
    rules = counting_rules(Path(get_flags().PROJECT_DIR), facts["vars"])
    return {"fingerprint": rules.fingerprint()}


def is_older(manifest: Facts, newer: str) -> str:
    return f"{newer}, published in the meantime, is newer than this build of run {manifest['run']}"
