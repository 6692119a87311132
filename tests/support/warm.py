"""Programs that use dbt, forked from a process that has imported dbt once.

Each is a process of its own, with its arguments, environment, folder and output, and imports what
is ours by itself; it saves the CPU seconds that dbt takes to import, to describe its settings and
to compile its macros. DuckDB is imported after the fork: it starts a thread, which a fork leaves
behind.

It also begins with what dbt parsed first for the same engine, and parses only what differs in its
project (dbt's partial parsing). `--no-partial-parse` parses everything.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from threading import Lock

LOCK = Lock()
# What a build imports late.
LATE = (
    *("dbt.compilation", "dbt.task.build", "dbt_common.clients.agate_helper"),
    *("daff", "numpy", "pyarrow.parquet", "sqlparse"),
)
# What dbt describes as a JSON schema, which is kept, to check a project and the result of a test.
DESCRIBED = {
    "dbt.artifacts.resources.v1.config": ("Hook",),
    "dbt.contracts.project": ("Configuration", "PackageConfig", "ProfileConfig", "Project"),
    "dbt.contracts.selection": ("SelectorFile",),
    "dbt.task.test": ("TestResultData",),
    "dbt_common.contracts.constraints": ("ColumnLevelConstraint", "ModelLevelConstraint"),
}


def run(
    command: list[object], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a Python program (its file, its arguments) to its end; returns its output as text."""
    with tempfile.TemporaryDirectory() as output, LOCK:
        stdout, stderr = Path(output) / "stdout", Path(output) / "stderr"
        order = {
            "command": list(map(str, command)),
            "folder": str(folder),
            "environment": environment,
            "output": [str(stdout), str(stderr)],
        }
        process = warm_process()
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        return subprocess.CompletedProcess(
            command, status, stdout.read_text("utf-8"), stderr.read_text("utf-8")
        )


@cache
def warm_process() -> subprocess.Popen[str]:
    kept = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, kept)
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, kept],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.stdin.close)
    return process


def serve(kept: Path) -> None:
    """Fork a program for every line of standard input, and write its exit status.

    `kept` is an empty folder, for what dbt parses.
    """
    for name in ("dbt.cli.main", *LATE):
        importlib.import_module(name)
    for name, described in DESCRIBED.items():
        for kind in described:
            getattr(importlib.import_module(name), kind).json_schema()
    gc.freeze()  # so that collecting garbage does not copy what the programs share
    for line in sys.stdin:
        order = json.loads(line)
        settings = order["environment"]
        first = kept / (settings["PAIR_ENGINE"] or "default")
        own = Path(settings["DBT_TARGET_PATH"]) / "partial_parse.msgpack"
        if first.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(first, own)
        program = os.fork()
        if not program:
            return become(order)
        _, status = os.waitpid(program, 0)
        if not first.exists() and own.exists():
            shutil.copy(own, first)
            compile_macros(first)
        print(os.waitstatus_to_exitcode(status), flush=True)


def compile_macros(parsed: Path) -> None:
    """Compile the macros of a parsed project; dbt keeps a macro's template by its text."""
    manifest = importlib.import_module("dbt.contracts.graph.manifest").Manifest
    templates = importlib.import_module("dbt_common.clients.jinja").template_cache
    for macro in manifest.from_msgpack(parsed.read_bytes()).macros.values():
        templates.get_node_template(macro)
    gc.freeze()


def become(order: dict[str, object]) -> None:
    """Run the program in this process, as Python does with a file on its command line."""
    for number, path in enumerate([os.devnull, *order["output"]]):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = order["command"]
    # dbt parses everything anew where a connection differs; the shops' differ in their path alone.
    credentials = importlib.import_module("dbt.adapters.duckdb.credentials").DuckDBCredentials
    credentials._connection_keys = lambda self: ("database", "schema")
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
