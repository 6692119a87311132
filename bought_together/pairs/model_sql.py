"""Run dbt models outside dbt, so that each rule of meaning has one place: its model."""

import csv
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import jinja2
import pyarrow as pa
import yaml

from bought_together.errors import CannotRun, describe
from bought_together.storage.duckdb_s3 import S3Login, literal
from bought_together.storage.filesystem import is_object_store
from bought_together.storage.mount import parquet_glob


@dataclass
class ModelQuery:
    """A model's SQL: views by name in the order of creation, the model last, and their seeds."""

    model: str
    views: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, pa.Table] = field(default_factory=dict)


class Parquet(NamedTuple):
    """A Parquet file as a table; `columns` and `condition` are SQL."""

    path: str
    columns: str = "*"
    condition: str = "true"


def compile_model(
    model: str, given: Collection[str], project: Path, variables: Mapping[str, Any]
) -> ModelQuery:
    """Return the SQL of a dbt model and its parents, down to the tables in `given`.

    The caller of `run_model` provides those tables; source('lake', 'products') is named
    lake_products. `variables` are the project's vars (`project_vars`). Raises CannotRun when a
    model is missing, or uses more of dbt than ref, source, config, var and env_var, and macros of
    the project that need none of these.
    """
    query = ModelQuery(model)

    def ref(*names: str) -> str:
        name = names[-1]
        if name not in given and name not in query.views and name not in query.seeds:
            if seed := next((project / "seeds").rglob(f"{name}.csv"), None):
                query.seeds[name] = read_seed(seed)
            elif path := next((project / "models").rglob(f"{name}.sql"), None):
                known = {"ref": ref, "source": source, "var": variables.__getitem__}
                query.views[name] = render_model(path, macros_named_in(path, project) | known)
            else:
                raise CannotRun(f"{project} has no model or seed {name}")
        return quoted(name)

    def source(*names: str) -> str:
        name = "_".join(names)
        if name not in given:
            raise CannotRun(f"model {model}: {name} is not available outside dbt")
        return quoted(name)

    ref(model)
    return query


def render_model(path: Path, known: Mapping[str, Any]) -> str:
    """Return a model's SQL; its Jinja may call config, env_var and the functions in `known`."""
    try:
        return render_jinja(path.read_text(), {**known, "config": lambda **_: ""})
    except (jinja2.TemplateError, KeyError) as error:
        raise CannotRun(
            f"{path}: {describe(error)}; with PAIR_ENGINE=dask this model runs outside dbt"
            " and can use only ref, source, config, var, env_var and macros without these"
        ) from error


def render_jinja(text: str, known: Mapping[str, Any]) -> str:
    return template(text).render(known, env_var=env_var)


@cache  # the queries of the counting rules share most of their models
def template(text: str) -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.do"],  # dbt's own, which its macros use
    )
    return environment.from_string(text)


def macros_named_in(model: Path, project: Path) -> dict[str, Any]:
    """Return the macros of a dbt project whose names stand in a model's file, by name."""
    text = model.read_text()
    return {
        name: getattr(template(source).module, name)
        for source in (path.read_text() for path in (project / "macros").glob("*.sql"))
        for name in re.findall(r"{%-? macro (\w+)", source)
        if name in text
    }


def project_vars(project: Path) -> dict[str, Any]:
    """Return the vars of dbt_project.yml, with the environment variables that they read."""
    declared = yaml.safe_load((project / "dbt_project.yml").read_text())["vars"]
    return {
        name: render_jinja(value, {}) if isinstance(value, str) else value
        for name, value in declared.items()
    }


def env_var(name: str, default: str | None = None) -> str:
    value = os.environ.get(name, default)
    if value is None:
        raise CannotRun(f"a model needs the environment variable {name}, which is not set")
    return value


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def read_seed(path: Path) -> pa.Table:
    """Return a seed's rows, every column as text, as dbt_project.yml declares.

    The table and the COPY are those of dbt-duckdb: DuckDB's CSV reader guesses less when it knows
    the columns, and both engines must read the same rows.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        columns = next(csv.reader(file), [])
    with duckdb.connect() as connection:
        declared = ", ".join(f"{quoted(column)} varchar" for column in columns)
        connection.execute(f"create table seed ({declared})")
        connection.execute(
            f"copy seed from {literal(str(path))} (format csv, header true, delimiter ',')"
        )
        return connection.table("seed").to_arrow_table()


def run_model(
    query: ModelQuery, given: Mapping[str, pa.Table | Parquet], *parents: str
) -> list[pa.Table]:
    """Return the rows of a model, computed on one thread, and of those of its parents.

    `given` maps the names that `compile_model` was given to tables or Parquet files. Raises
    CannotRun when DuckDB rejects the SQL or cannot read a file.
    """
    try:
        with duckdb.connect(config={"threads": 1}) as connection:
            files = [rows for rows in given.values() if isinstance(rows, Parquet)]
            sign_in_for(connection, *(file.path for file in files))
            for name, rows in {**query.seeds, **given}.items():
                if isinstance(rows, Parquet):
                    found = connection.read_parquet(parquet_glob(rows.path))
                    found.filter(rows.condition).project(rows.columns).create_view(name)
                else:
                    connection.register(name, rows)
            for name, sql in query.views.items():
                kind = "table" if name in parents else "view"  # a table is computed once
                connection.execute(f"create temp {kind} {quoted(name)} as {sql}")
            wanted = (query.model, *parents)
            return [connection.sql(f"from {quoted(name)}").to_arrow_table() for name in wanted]
    except duckdb.Error as error:
        raise CannotRun(f"model {query.model}: {describe(error)}") from error


def sign_in_for(connection: duckdb.DuckDBPyConnection, *paths: str) -> None:
    """Sign DuckDB in if a path is in an object store; raises CannotRun without credentials."""
    if any(map(is_object_store, paths)):
        S3Login().load(connection)
