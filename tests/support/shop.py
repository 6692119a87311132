"""A shop of a test's own: its files, and the programs run on them as people run them."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from bought_together.storage.lake import table_parts
from tests.support import ROOT, warm

SETTINGS = (
    "TRANSACTIONS",
    "PRODUCTS",
    "INPUT_MAPPING",
    "LAKE_PATH",
    "DUCKDB_PATH",
    "DUCKDB_THREADS",
    "DUCKDB_MEMORY_LIMIT",
    "DASK_SCHEDULER",
    "DASK_WORKERS",
    "SERVICE_URL",
    "PAIR_ENGINE",
    "MAX_REJECT_FRACTION",
    "FULL_REFRESH",
    "MAX_UNLISTED_SHARE",
    "MIN_BASKETS_SHARE",
    "ALLOW_OLDER_DATA",
    "MAX_BASKET_PRODUCTS",
    "MIN_COPURCHASE_COUNT",
    "FILL_SHORT_LISTS",
    "AS_OF",
    "REDIS_URL",
    "REDIS_PREFIX",
    "BUILD",
    "HOST",
    "PORT",
    "ROOT_PATH",
)


@dataclass
class Shop:
    """A shop's input files, lake and warehouse in a folder of their own."""

    folder: Path
    dbt_folder: Path  # where dbt keeps its target and logs, shared by the shops of a session
    project: Path = ROOT
    engine: str = "duckdb"

    @property
    def transactions(self) -> Path:
        return self.folder / "transactions.txt"

    @property
    def products(self) -> Path:
        return self.folder / "products.txt"

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse.duckdb"

    @property
    def published(self) -> Path:
        """The folder of the current build; where nothing is published, there is no such folder."""
        pointer = self.lake / "published.json"
        build = json.loads(pointer.read_text())["build"] if pointer.exists() else "none"
        return self.lake / "published" / build

    @property
    def export(self) -> Path:
        return self.published / "product_recommendations.parquet"

    def environment(self, **settings: object) -> dict[str, str]:
        """This process's environment, with the shop's paths and then `settings` as settings."""
        not_ours = (*SETTINGS, "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        clean = {
            name: value
            for name, value in os.environ.items()
            if name not in not_ours and not name.startswith("AWS_")
        }
        own = {
            "TRANSACTIONS": self.transactions,
            "PRODUCTS": self.products,
            "LAKE_PATH": self.lake,
            "DUCKDB_PATH": self.warehouse,
            "PAIR_ENGINE": self.engine,
            "DBT_TARGET_PATH": self.dbt_folder / "target",
            "DBT_LOG_PATH": self.dbt_folder / "logs",
            # They prove the models on rows of their own, whatever the shop's; one test runs them.
            "DBT_EXCLUDE_RESOURCE_TYPES": "unit_test",
        }
        return clean | {name: str(value) for name, value in (own | settings).items()}

    def write(self, baskets: Iterable[Iterable[str]], products: Iterable[str]) -> None:
        """Write baskets of product ids, and a list in which each product is named after its id."""
        self.write_records(
            {"itemList": [{"item": item, "quantity": 1.0} for item in basket]} for basket in baskets
        )
        self.write_products(f"{product}\tC\tName of {product}" for product in products)

    def write_random(self, seed: int, products: int = 300) -> None:
        """Write baskets of four, drawn from the seed; the products are always the same.

        Their names are long and random, so that no table of them packs small.
        """
        chance, names = random.Random(seed), random.Random(0)
        ids = [f"{number:04}" for number in range(products)]
        self.write([chance.sample(ids, 4) for _ in range(3 * products)], [])
        self.write_products(f"{product}\tC\t{names.randbytes(200).hex()}" for product in ids)

    def write_records(self, records: Iterable[Any]) -> None:
        """Write JSON lines; bytes and text go in as they are."""
        lines = (
            record
            if isinstance(record, bytes)
            else (record if isinstance(record, str) else json.dumps(record)).encode()
            for record in records
        )
        self.transactions.write_bytes(b"".join(line + b"\n" for line in lines))

    def write_products(self, lines: Iterable[str]) -> None:
        self.products.write_bytes("".join(line + "\n" for line in lines).encode())

    def run(self, script: str, *arguments: object, **settings: object) -> Any:
        """Run scripts/<script>.py; returns the finished process with its output as text."""
        program = [self.project / f"scripts/{script}.py", *map(str, arguments)]
        environment = self.environment(**settings)
        if script in ("build", "evaluate"):  # they run dbt inside
            return warm.run(program, self.project, environment)
        return subprocess.run(
            [sys.executable, *program],
            cwd=self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def dbt(self, *arguments: str, **settings: object) -> Any:
        """Run dbt in the project."""
        program = [Path(sys.executable).parent / "dbt", *arguments]
        return warm.run(program, self.project, self.environment(**settings))

    def copy_project(self) -> None:
        """Use a copy of the project, for tests that change the project itself."""
        self.project, self.dbt_folder = self.folder / "project", self.folder
        for name in ("models", "macros", "scripts", "seeds", "tests"):
            shutil.copytree(
                ROOT / name, self.project / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in ("dbt_project.yml", "profiles.yml", "selectors.yml"):
            shutil.copy(ROOT / name, self.project / name)

    def build(
        self,
        *arguments: str,
        block_size: int | None = None,
        **settings: object,
    ) -> None:
        """Flatten, count pairs where the engine asks for it, and `dbt build` with `arguments`.

        Fails the test when one of them does.
        """
        options = [] if block_size is None else ["--block-size", block_size]
        flattened = self.run("flatten", *options, **settings)
        assert flattened.returncode == 0, flattened.stderr
        if self.engine == "dask":
            counted = self.run("count_pairs", **settings)
            assert counted.returncode == 0, counted.stderr
        built = self.dbt("--quiet", "build", *arguments, **settings)
        assert built.returncode == 0, built.stdout

    def manifest(self) -> dict[str, Any]:
        return json.loads((self.lake / "current.json").read_text())

    @property
    def run_folder(self) -> Path:
        return self.lake / "runs" / self.manifest()["run"]

    def table(self, name: str) -> pa.Table:
        """Return a table of the lake's current run."""
        return read_parts(self.parts(name))

    def parts(self, name: str) -> list[Path]:
        """Return the parts of a table of the lake's current run."""
        return list(map(Path, table_parts(str(self.lake), self.manifest(), name)))

    def counted_table(self, name: str) -> pa.Table:
        """Return a table of the newest count of the current run's pairs."""
        pointer = json.loads((self.run_folder / "pairs.json").read_text())
        return read_parts(sorted((self.run_folder / pointer["folder"] / name).glob("*.parquet")))

    def recommendations(self) -> list[tuple[Any, ...]]:
        """Return the exported rows, by product and rank, without their source."""
        rows = duckdb.read_parquet(str(self.export)).order("product_id, recommendation_rank")
        return rows.project("* exclude (recommendation_source)").fetchall()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            return connection.sql(sql).fetchall()


def read_parts(parts: Iterable[str | Path]) -> pa.Table:
    return pa.concat_tables(map(pq.read_table, parts))
