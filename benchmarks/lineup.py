"""Who competes: every contender as the command that runs it in the scratch folder."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from benchmarks.agreement import Counting
from benchmarks.prepare import BASKETS, PROJECT_PYTHON, ROOT, Data

HERE = Path(__file__).resolve().parent
END_TO_END, COUNTING = "end-to-end", "counting"
# Contenders run in the scratch folder, and import from this one.
FROM_HERE = {"PYTHONPATH": str(ROOT)}
SUITES = (END_TO_END, COUNTING)
OURS = "bought-together"
# What the others are compared with.
BASELINE = {END_TO_END: f"{OURS}, Dask engine", COUNTING: f"{OURS}, kernel"}
# These handle pairs one at a time in Python: a larger shop would only show the time-out again.
SMALLEST_ONLY = ("1m",)


@dataclass(frozen=True)
class Contender:
    name: str
    command: list[str]
    suites: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    output: str | None = None  # end to end: the table that it writes, in the scratch folder
    read_counting: Callable[[Path], Counting] | None = None  # from the scratch folder
    sizes: tuple[str, ...] = tuple(BASKETS)

    @property
    def is_ours(self) -> bool:
        return self.name.startswith(OURS)


def printed_counting(scratch: Path) -> Counting:
    """Return what a program of `counting/` printed on its last line."""
    return Counting(**json.loads((scratch / "stdout").read_text().splitlines()[-1]))


def model_counting(scratch: Path) -> Counting:
    """Return dbt's time for the model that counts pairs, and what the model holds."""
    target = dbt_target("duckdb", scratch)
    results = json.loads((target / "run_results.json").read_text())["results"]
    seconds = {result["unique_id"].split(".")[2]: result["execution_time"] for result in results}
    with duckdb.connect(str(scratch / "warehouse.duckdb"), read_only=True) as warehouse:
        pairs, occurrences = warehouse.sql(
            "select count(*), sum(copurchase_count)::bigint from int_product_pairs_counted"
        ).fetchone()
    return Counting(seconds["int_product_pairs_counted"], pairs, occurrences)


def dbt_target(engine: str, scratch: Path) -> Path:
    """Return where dbt keeps the project as it read it: that stays, as it does between nights."""
    return scratch.parent / f"dbt-{engine}"


def our_build(engine: str, data: Data, scratch: Path) -> dict[str, str]:
    """Return the settings of `scripts/build.py` that keep everything in the scratch folder."""
    settings = {
        "TRANSACTIONS": data.transactions,
        "PRODUCTS": data.products,
        "LAKE_PATH": scratch / "lake",
        "DUCKDB_PATH": scratch / "warehouse.duckdb",
        "DBT_TARGET_PATH": dbt_target(engine, scratch),
        "DBT_LOG_PATH": scratch / "logs",
        "PAIR_ENGINE": engine,
    }
    return {name: str(value) for name, value in settings.items()}


def build_contenders(data: Data, scratch: Path) -> list[Contender]:
    """Return this project's engines. The time of SQL's counting alone is a part of its job."""
    command = [str(PROJECT_PYTHON), str(ROOT / "scripts" / "build.py")]
    output = "lake/published/*/product_recommendations.parquet"
    return [
        Contender(
            f"{OURS}, SQL engine",
            command,
            SUITES,
            our_build("duckdb", data, scratch),
            output,
            model_counting,
        ),
        Contender(
            f"{OURS}, Dask engine",
            command,
            (END_TO_END,),
            our_build("dask", data, scratch),
            output,
        ),
    ]


def peer(name: str, program: str, data: Data, sizes: tuple[str, ...] = tuple(BASKETS)) -> Contender:
    """Return a contender of `contenders/`."""
    output = "recommendations.parquet"
    module = ["-m", f"benchmarks.contenders.{program}"]
    command = [sys.executable, *module, str(data.transactions), str(data.products), output]
    return Contender(
        name, command, (END_TO_END,), output=output, sizes=sizes, environment=FROM_HERE
    )


def counter(name: str, program: str, data: Data, python: str = sys.executable) -> Contender:
    """Return a contender of `counting/`."""
    command = [python, "-m", f"benchmarks.counting.{program}", str(data.basket_items)]
    return Contender(name, command, (COUNTING,), FROM_HERE, read_counting=printed_counting)


def lineup(data: Data, scratch: Path) -> list[Contender]:
    """Return all contenders, ours first: the first to finish is what the rest must agree with."""
    return [
        *build_contenders(data, scratch),
        peer("implicit, loaded with DuckDB", "implicit_duckdb", data),
        peer("implicit, loaded with orjson", "implicit_orjson", data),
        peer("rusket ItemKNN, loaded with DuckDB", "rusket_itemknn", data),
        peer("rusket FP-growth, loaded with DuckDB", "rusket_fpgrowth", data),
        peer("SciPy product, loaded with DuckDB", "scipy_product", data),
        peer("Polars", "polars_join", data),
        peer("DuckDB, plain SQL", "duckdb_sql", data),
        peer("Dask bag and data frame", "dask_bag", data, SMALLEST_ONLY),
        peer("mlxtend FP-growth, loaded with DuckDB", "mlxtend_fpgrowth", data, SMALLEST_ONLY),
        counter(BASELINE[COUNTING], "kernel", data, str(PROJECT_PYTHON)),
        counter("implicit fit", "implicit_fit", data),
        counter("rusket ItemKNN fit", "rusket_fit", data),
        counter("SciPy product", "scipy_product", data),
        counter("Polars self-join", "polars_join", data),
    ]
