"""The nightly run as an Airflow 3 DAG: flatten, count pairs, `dbt build`, publish, smoke check.

Each task runs one program of the project as a process in the project's own Python environment,
separate from Airflow's packages. README.md beside this file says how to install it.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.providers.standard.operators.latest_only import LatestOnlyOperator
from airflow.sdk import DAG, BaseOperator, Connection, Context, Param, TriggerRule, chain
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk.log import mask_secret

HOME = Path(os.environ.get("BOUGHT_TOGETHER_HOME") or Path(__file__).resolve().parents[2])
PYTHON = os.environ.get("BOUGHT_TOGETHER_PYTHON") or f"{HOME}/.venv/bin/python"

REFUSED = 1  # the exit status of the project's programs when they refuse the data
REDIS_OPTIONS = (
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
)


def default(name: str, otherwise: Any = None, kind: Callable[[str], Any] = str) -> Any:
    """Return a parameter's default: BOUGHT_TOGETHER_<NAME> of the environment, or `otherwise`."""
    value = os.environ.get(f"BOUGHT_TOGETHER_{name.upper()}")
    return kind(value) if value else otherwise


def flag(text: str) -> bool:
    return {"1": True, "true": True, "0": False, "false": False}[text.lower()]


# Every parameter in SETTINGS is the project's setting of the same name, in upper case.
SETTINGS = {
    "transactions": Param(
        default("transactions", "data/transactions*.txt"),
        "Files and globs, comma-separated, on disk or s3://: JSON lines, JSON arrays, or mapped.",
        type="string",
        minLength=1,
    ),
    "products": Param(
        default("products", "data/products.txt"),
        "Product list, on disk or s3://: tab-separated product id, category code and name.",
        type="string",
        minLength=1,
    ),
    "input_mapping": Param(
        default("input_mapping"),
        "A mapping (input.yml) of other shops' exports, on disk or s3://; empty: none.",
        type=["null", "string"],
        minLength=1,
    ),
    "lake_path": Param(
        default("lake_path", "data/lake"),
        "Folder of the lake, on disk or s3://; every worker must see it under this path.",
        type="string",
        minLength=1,
    ),
    "duckdb_path": Param(
        default("duckdb_path", "data/warehouse.duckdb"),
        "The warehouse, on a local disk of the worker; every run rebuilds it.",
        type="string",
        minLength=1,
    ),
    "duckdb_threads": Param(
        default("duckdb_threads", kind=int),
        "Threads of DuckDB; empty: all cores of the worker.",
        type=["null", "integer"],
        minimum=1,
    ),
    "duckdb_memory_limit": Param(
        default("duckdb_memory_limit"),
        "Memory for DuckDB and for counting on this worker, for example 8GB; empty: 80 %.",
        type=["null", "string"],
        pattern=r"^[0-9]+(\.[0-9]+)? ?[KMGT]i?B$",
    ),
    "pair_engine": Param(
        default("pair_engine", "duckdb"),
        "The engine that counts the pairs: SQL inside dbt, or compiled code on Dask before dbt.",
        type="string",
        enum=["duckdb", "dask"],
    ),
    "dask_scheduler": Param(
        default("dask_scheduler"),
        "Address of a Dask scheduler, for example tls://host:8786; empty: the worker's own cores.",
        type=["null", "string"],
        pattern="^(tls|tcp)://.+",
    ),
    "dask_workers": Param(
        default("dask_workers", 1, int),
        "Number of Dask workers to wait for before starting.",
        type="integer",
        minimum=1,
    ),
    "max_reject_fraction": Param(
        default("max_reject_fraction", 0.01, float),
        "Refuse the data when more than this share of its records is bad.",
        type="number",
        minimum=0,
        maximum=1,
    ),
    # Without a value, dbt_project.yml decides.
    "max_unlisted_share": Param(
        default("max_unlisted_share", kind=float),
        "Refuse more than this share of purchases of products that are not listed; empty: 0.5.",
        type=["null", "number"],
        minimum=0,
        maximum=1,
    ),
    "min_baskets_share": Param(
        default("min_baskets_share", kind=float),
        "Refuse fewer baskets than this share of those of the published build; empty: 0.5.",
        type=["null", "number"],
        minimum=0,
        maximum=1,
    ),
    "allow_older_data": Param(
        default("allow_older_data", kind=flag),
        "Allow a newest date before that of the published build; empty: no.",
        type=["null", "boolean"],
    ),
    "max_basket_products": Param(
        default("max_basket_products", kind=int),
        "Set baskets of more than so many products aside; empty: 5,000.",
        type=["null", "integer"],
        minimum=1,
    ),
    "min_copurchase_count": Param(
        default("min_copurchase_count", kind=int),
        "Recommend only what is in so many baskets with the product; empty: 1.",
        type=["null", "integer"],
        minimum=1,
    ),
    "fill_short_lists": Param(
        default("fill_short_lists", kind=flag),
        "Fill short lists with what the category's buyers buy, then best sellers; empty: no.",
        type=["null", "boolean"],
    ),
    "as_of": Param(
        default("as_of"),
        "The day on which pins and blocks count, as 2026-12-24; empty: the day of the build (UTC).",
        type=["null", "string"],
        pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    ),
}
PARAMS = {
    **SETTINGS,
    "redis_conn_id": Param(
        default("redis_conn_id"),
        "Airflow connection of the Redis to publish to; empty: the service reads the lake.",
        type=["null", "string"],
        pattern=r"^[\w.-]+$",
    ),
    "service_url": Param(
        default("service_url"),
        "Base address of the service whose answers are compared with the lake; empty: no check.",
        type=["null", "string"],
        pattern="^https?://.+",
    ),
    "alert_conn_id": Param(
        default("alert_conn_id"),
        "Airflow connection (HTTP) of the webhook for alerts; empty: no alerts.",
        type=["null", "string"],
        pattern=r"^[\w.-]+$",
    ),
}


Params = dict[str, Any]


class ProgramOperator(BaseOperator):
    """Run a program of the project with the run's settings, without a shell.

    The task is skipped unless `only_when` is true of the run's parameters. `secrets` returns
    settings that must not be in a parameter, template or log, when the task runs.

    A program that refuses the data would do so again, so the task fails without another try. Any
    other failure may be temporary, and every try is safe: flatten, count_pairs, `dbt build` and
    publish write beside what is current and move a pointer last, and the smoke check only reads.
    """

    def __init__(
        self,
        *,
        program: list[str],
        only_when: Callable[[Params], Any] = lambda params: True,
        secrets: Callable[[Params], dict[str, str]] = lambda params: {},
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.program, self.only_when, self.secrets = program, only_when, secrets
        self.hook = SubprocessHook()

    def execute(self, context: Context) -> None:
        params = context["params"]
        if not self.only_when(params):
            raise AirflowSkipException("the run's parameters do not need this task")
        finished = self.hook.run_command(
            [PYTHON, *self.program], environment(params) | self.secrets(params), cwd=str(HOME)
        )
        if finished.exit_code:
            failure = AirflowFailException if finished.exit_code == REFUSED else AirflowException
            raise failure(finished.output or f"{self.program[0]} ended with {finished.exit_code}")

    def on_kill(self) -> None:
        self.hook.send_sigterm()


def environment(params: Params) -> dict[str, str]:
    """Return the worker's environment with the run's settings, exactly as they were written.

    It leaves out Airflow's own variables, which contain secrets and other programs' connections.
    """
    settings = {name.upper(): params[name] for name in (*SETTINGS, "service_url")}
    ours = {*settings, "REDIS_URL"}
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and "AIRFLOW" not in name
    }
    # The project's folder may be read-only; the warehouse's folder is writable.
    dbt_folder = HOME / Path(params["duckdb_path"]).parent / "dbt"
    return {
        "DBT_TARGET_PATH": f"{dbt_folder}/target",
        "DBT_LOG_PATH": f"{dbt_folder}/logs",
        **inherited,
        **{name: str(value) for name, value in settings.items() if value is not None},
        "PYTHONUNBUFFERED": "1",  # so that a program's last line is the last line of its log
    }


def redis_url(params: Params) -> dict[str, str]:
    """Return REDIS_URL for the Airflow connection in the run's parameters."""
    connection = Connection.get(params["redis_conn_id"])
    extra = connection.extra_dejson
    is_tls = connection.conn_type == "rediss" or str(extra.get("ssl")).lower() == "true"
    login, password = (quote(it or "", safe="") for it in (connection.login, connection.password))
    mask_secret(password)  # Airflow itself masks only the form that is in the connection
    options = {name: extra[name] for name in REDIS_OPTIONS if extra.get(name) is not None}
    url = (
        f"redis{'s' if is_tls else ''}://{login}:{password}@{connection.host}"
        f":{connection.port or 6379}/{extra.get('db') or connection.schema or 0}"
        f"{'?' if options else ''}{urlencode(options)}"
    )
    return {"REDIS_URL": url}


def alert(context: Context) -> None:
    """Send an alert about a task that failed after its last try: JSON with `text`, as for chats."""
    if not (connection_id := context["params"]["alert_conn_id"]):
        return
    task = context["ti"]
    why = context.get("exception") or "it was stopped from outside"
    what = f"{task.dag_id}: {task.task_id} failed in {task.run_id}: {why}"
    message = {"text": f"{what}\n{task.log_url}"}
    # With the hook, since a notifier would treat the text as a template.
    HttpHook("POST", connection_id).run(json=message, extra_options={"timeout": 10})


with DAG(
    "bought_together",
    description="Customers who bought this also bought: from raw transactions to served answers.",
    doc_md=__doc__,
    schedule=default("schedule", "0 3 * * *"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    default_args={"retries": 2, "on_failure_callback": alert},
    tags=["bought-together"],
):
    # A run reads all files that TRANSACTIONS names, whatever its date, so a backfill has nothing to
    # add: it skips every task.
    latest_only = LatestOnlyOperator(task_id="latest_only")
    flatten = ProgramOperator(
        task_id="flatten",
        program=["scripts/flatten.py"],
        execution_timeout=timedelta(hours=2),
    )
    count_pairs = ProgramOperator(
        task_id="count_pairs",
        program=["scripts/count_pairs.py"],
        only_when=lambda params: params["pair_engine"] == "dask",
        execution_timeout=timedelta(hours=2),
    )
    # One task, since DuckDB allows one writer; and one at a time, since a backfill's runs do not
    # count as active runs.
    dbt_build = ProgramOperator(
        task_id="dbt_build",
        program=["scripts/build.py", "--skip-flatten"],
        trigger_rule=TriggerRule.NONE_FAILED,
        max_active_tis_per_dag=1,
        execution_timeout=timedelta(hours=4),
    )
    publish = ProgramOperator(
        task_id="publish",
        program=["scripts/publish.py"],
        only_when=lambda params: params["redis_conn_id"],
        secrets=redis_url,
        execution_timeout=timedelta(minutes=30),
    )
    smoke_check = ProgramOperator(
        task_id="smoke_check",
        program=["scripts/smoke.py"],
        only_when=lambda params: params["service_url"],
        trigger_rule=TriggerRule.NONE_FAILED,
        execution_timeout=timedelta(minutes=15),
    )
    programs = [flatten, count_pairs, dbt_build, publish, smoke_check]
    chain(*programs)
    # Directly before each task, since a skipped task further up does not stop NONE_FAILED.
    latest_only >> programs
