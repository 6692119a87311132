"""Whatever dies, fills up or stands in the way: readers keep the last good table, runs recover.

A program is killed (SIGKILL, as the kernel does when memory is short) once a condition says that it
is in the middle of its work: a file of its run appeared, dbt logged that a model began, a build is
about to move the pointer. No test waits for a time to pass.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fsspec.implementations.local import LocalFileSystem

from bought_together import dask_tasks
from bought_together.ingest.run import flatten as flatten_in_process
from bought_together.storage.lake import RUN_TIME_FORMAT, RUNS_KEPT, new_run, prune, table_parts
from scripts import flatten
from tests.support import ROOT
from tests.support.processes import (
    PATIENCE,
    QUICK_POLL,
    assert_one_line,
    ended_within,
    kill_when,
    program,
    start,
    wait_until,
)
from tests.support.shop import Shop, read_parts

FLATTEN, BUILD = program("flatten"), program("build")
DBT_BUILD = [Path(sys.executable).parent / "dbt", "build"]
FLATTENED = {".lock", "current.json", "file_numbers.json", "parts", "runs"}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def published(shop: Shop) -> tuple[bytes, bytes, int]:
    """Return what readers of the lake see; the last number tells a pointer written anew."""
    current, pointer = shop.lake / "current.json", shop.lake / "published.json"
    return current.read_bytes(), shop.export.read_bytes(), pointer.stat().st_mtime_ns


def look_up(shop: Shop, *product_ids: str) -> str:
    finished = shop.run("recommend", "--json", *(product_ids or ("0000", "0007", "nobody")))
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


@dataclass
class FirstExport:
    """A shop whose first export was killed half-way and whose second one was watched."""

    shop: Shop
    half: set[str]  # the files that the killed build left in its folder
    found_after_kill: set[str]
    lookup_after_kill: Any
    seen: set[int | str | None]  # rows of the table at an instant; None: there was no table


@pytest.fixture(scope="module")
def first_export(tmp_path_factory: pytest.TempPathFactory, dbt_folder: Path) -> FirstExport:
    shop = Shop(tmp_path_factory.mktemp("shop"), dbt_folder)
    shop.write_random(seed=1)
    assert shop.run("flatten").returncode == 0
    half = kill_during_export(shop)
    found = {path.name for path in shop.lake.iterdir()}
    lookup = shop.run("recommend", "0000")
    return FirstExport(shop, half, found, lookup, watch_export(shop))


def hold_build(shop: Shop) -> tuple[Shop, Path]:
    """Return the shop with a project whose builds wait before they move the pointer, and the named
    pipe that they wait for."""
    held = replace(shop)
    held.copy_project()
    gate = held.project / "gate"
    os.mkfifo(gate)
    publish = held.project / "macros" / "publish.sql"
    before, moves, after = publish.read_text().partition("{%- set answer = call_function('finish")
    waits = f"{{%- do run_query(\"from read_csv('{gate}', columns = {{'line': 'varchar'}})\") -%}}"
    publish.write_text(f"{before}{waits}\n{moves}{after}")
    return held, gate


def waiting_at(gate: Path) -> int | None:
    """Return the gate, open to write, when a build waits for it; it goes on when that is closed."""
    try:
        return os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody reads
        return None


def kill_during_export(shop: Shop) -> set[str]:
    """Kill `dbt build` when all tables are written, before the pointer moves."""
    held, gate = hold_build(shop)
    kill_when(start(held, DBT_BUILD), lambda: waiting_at(gate))
    shutil.rmtree(held.project)
    (folder,) = (shop.lake / "published").iterdir()
    return {path.name for path in folder.iterdir()}


def watch_export(shop: Shop) -> set[int | str | None]:
    """Run `dbt build` and look at the export, again and again, until the build has ended."""
    process = start(shop, DBT_BUILD)
    seen = {rows_of(shop.export)}
    while not ended_within(process, QUICK_POLL):
        seen.add(rows_of(shop.export))
    assert process.returncode == 0
    return seen | {rows_of(shop.export)}


def rows_of(export: Path) -> int | str | None:
    try:
        return pq.read_table(export).num_rows
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        return f"torn: {error}"


@pytest.fixture
def built(first_export: FirstExport, tmp_path: Path) -> Shop:
    """A shop of the test's own, flattened, built and published."""
    shop = Shop(tmp_path / "shop", first_export.shop.dbt_folder)
    shutil.copytree(first_export.shop.folder, shop.folder)
    return shop


def test_first_export_killed_half_way_leaves_no_table(first_export):
    marts = ("product_recommendations", "products", "recommendation_evidence")
    assert first_export.half == {*(f"{mart}.parquet" for mart in marts), "state"}
    assert first_export.found_after_kill == {*FLATTENED, "published"}
    pointer = first_export.shop.lake / "published.json"
    assert_one_line(first_export.lookup_after_kill, 2, pointer, "make build")


def test_next_export_is_seen_whole_or_not_at_all(first_export):
    shop = first_export.shop
    assert first_export.seen == {None, len(shop.recommendations())}
    assert {path.name for path in shop.lake.iterdir()} == {
        *FLATTENED,
        "published",
        "published.json",
    }
    assert '"rank": 5' in look_up(shop, "0000")


def test_killed_programs_leave_the_last_good_table_and_the_next_build_succeeds(built):
    before, answers = published(built), look_up(built)
    built.write_random(seed=2)
    kill_flatten_when_it_has_written(built, "parts/line_items/*.parquet")
    assert published(built) == before

    assert built.run("flatten").returncode == 0
    current = built.manifest()
    logs = built.folder / "logs"
    process = start(built, DBT_BUILD, DBT_LOG_PATH=logs)
    began = re.compile(r"START sql table model main\.int_product_pairs_counted")
    kill_when(process, lambda: (logs / "dbt.log").exists() and began.search(log_of(logs)))
    assert published(built)[1:] == before[1:]
    assert look_up(built) == answers

    finished = built.dbt("--quiet", "build")
    assert finished.returncode == 0, finished.stdout
    assert built.manifest() == current
    assert look_up(built) != answers
    rows = built.query(
        "select * exclude (recommendation_source) from product_recommendations order by all"
    )
    assert sorted(built.recommendations()) == rows


def log_of(logs: Path) -> str:
    return (logs / "dbt.log").read_text()


def kill_flatten_when_it_has_written(shop: Shop, pattern: str) -> Path:
    """Kill flatten when the pattern matches something new; returns the folder of its run."""
    runs = shop.lake / "runs"
    before = {*runs.iterdir(), *shop.lake.glob(pattern)}
    process = start(shop, [*FLATTEN, "--block-size", 64])
    kill_when(process, lambda: any(set(shop.lake.glob(pattern)) - before))
    return next(iter(set(runs.iterdir()) - before))


@pytest.mark.parametrize(
    "pattern",
    ["runs/*/in_progress.json", "parts/line_items/*", "runs/*/*.unnumbered", "parts/rejects/*"],
)
def test_killed_flatten_changes_nothing_for_readers(built, pattern):
    before, runs = published(built), contents(built.lake)
    records = built.transactions.read_text()
    built.transactions.write_text("no record\n" + records)
    killed = kill_flatten_when_it_has_written(built, pattern)
    assert not (killed / "manifest.json").exists()
    assert published(built) == before
    left = {name: text for name, text in contents(built.lake).items() if killed.name not in name}
    changed = {name for name in left if runs.get(name) != left[name]}
    assert {name.partition(".json")[0] for name in changed} <= {"file_numbers"}
    assert left.keys() >= runs.keys()

    finished = built.run("flatten")
    assert finished.returncode == 0, finished.stderr
    assert built.table("line_items").num_rows == records.count('"item"')


def test_failing_data_test_publishes_nothing(built):
    before = published(built)
    built.copy_project()
    wrong = built.project / "tests" / "dbt" / "assert_something_is_wrong.sql"
    wrong.write_text("select 1 as wrong\n")
    finished = built.dbt("--quiet", "build")
    assert finished.returncode == 1, finished.stdout
    assert "Nothing published: assert_something_is_wrong (fail)" in finished.stdout
    assert published(built) == before


def test_only_a_whole_build_publishes(built):
    """Everything in the warehouse is good, and nothing but a build of all of it may publish."""
    pointer = built.lake / "published.json"
    pointer.unlink()
    trial = "a build with --empty or --sample is a trial"
    told = {
        "run": None,
        "test": None,
        "compile": None,
        "docs generate": None,
        "build --select stg_products": "this build left out ",
        "build --exclude resource_type:seed resource_type:unit_test assert_data_not_older": (
            "this build left out assert_data_not_older, assert_steering_is_possible,"
            " blocked_recommendations, excluded_products"
        ),
        "build --sample '1 day'": trial,
        "build --empty": trial,
    }
    run_each = """if True:
        import os, shlex, sys
        from dbt.cli.main import dbtRunner
        for command in sys.argv[2:]:
            outcome = dbtRunner().invoke(["--quiet", *shlex.split(command)])
            print("after", command, outcome.success, os.path.exists(sys.argv[1]), sep=": ")
    """
    finished = subprocess.run(
        [sys.executable, "-c", run_each, pointer, *told],
        cwd=ROOT,
        env=built.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [
        line
        for line in finished.stdout.splitlines()
        if line.startswith(("after: ", "Nothing published: ", "Published "))
    ]
    for command, reason in told.items():
        if reason:
            assert lines.pop(0).startswith(f"Nothing published: {reason}"), command
        assert lines.pop(0) == f"after: {command}: True: False", finished.stderr
    assert not lines


def test_a_whole_job_that_published_nothing_could_not_run(built):
    before = published(built)
    finished = built.run("build", "--skip-flatten", DBT_EMPTY=1)
    assert_one_line(finished, 2, "dbt build published nothing; the reason is above")
    assert "Nothing published: " in finished.stdout
    assert published(built) == before


@pytest.fixture
def own_logs(built: Shop) -> Shop:
    """The built shop, with dbt's log to itself."""
    return replace(built, dbt_folder=built.folder / "dbt")


def test_a_whole_job_that_is_terminated_leaves_nothing_behind(own_logs):
    """As by a scheduler, or a container that is stopped."""
    log = own_logs.dbt_folder / "logs" / "dbt.log"
    before, files = published(own_logs), set(contents(own_logs.lake))

    def terminate_when(condition, *arguments):
        process = subprocess.Popen(
            [*map(str, BUILD), *arguments],
            cwd=own_logs.project,
            env=own_logs.environment(FULL_REFRESH=1),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: condition() or process.poll() is not None, "its middle", QUICK_POLL)
        process.terminate()
        output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (143, "error: terminated\n")
        assert "published" not in output
        assert published(own_logs) == before
        assert set(contents(own_logs.lake)) == files
        assert not list(own_logs.folder.glob("warehouse.duckdb?*"))

    runs = own_logs.lake / "runs"
    terminate_when(lambda: len(list(runs.iterdir())) > 1)  # in the middle of flatten
    began = re.compile(r"START sql table model main\.int_product_pairs_counted")
    terminate_when(lambda: log.exists() and began.search(log.read_text()), "--skip-flatten")


def test_a_whole_job_whose_reader_goes_away_publishes_all_the_same(built):
    before = published(built)
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run(
        [*map(str, BUILD), "--skip-flatten"],
        cwd=built.project,
        env=built.environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (141, "")
    assert published(built)[2] > before[2]


def test_a_slow_build_of_an_older_run_does_not_replace_a_newer_one(built):
    held, gate = hold_build(built)
    slow = subprocess.Popen(
        [*map(str, DBT_BUILD), "--quiet"],
        cwd=held.project,
        env=held.environment(DUCKDB_PATH=built.folder / "slow.duckdb"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    opened = wait_until(lambda: waiting_at(gate), "the slow build at its gate")
    built.write_random(seed=2)
    built.build()
    newer, before = built.published.name, published(built)
    os.close(opened)
    told, _ = slow.communicate(timeout=PATIENCE)
    assert slow.returncode == 0
    assert f"Nothing published: {newer}, published in the meantime, is newer" in told
    assert published(built) == before


DISK = """
set -eu
disk="$1" before="$2" after="$3" room="$4"
shift 4
mount -t tmpfs -o size=4m tmpfs "$disk"
cp -a "$before/." "$disk"
cat /dev/zero > "$disk/filler" 2> /dev/null || true
truncate -s "-$room" "$disk/filler"
status=0
"$@" || status=$?
rm "$disk/filler"
cp -a "$disk/." "$after"
exit "$status"
"""


def run_on_full_disk(
    shop: Shop, folder: Path, program: Iterable[Any], room: int = 0, **settings: object
) -> Any:
    """Run a program with `folder` on a disk that has `room` bytes left; afterwards `folder` is as
    the program left it. Skips the test, saying why, where such a disk cannot be mounted.

    The disk is seen by the program alone: it comes and goes with a mount namespace.
    """
    before, after = (folder.with_name(f"{folder.name}.{when}") for when in ("before", "after"))
    folder.rename(before)
    folder.mkdir()
    after.mkdir()
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to mount a small disk with")
    tried = subprocess.run(
        [*alone, 'mount -t tmpfs tmpfs "$0"', folder], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {tried.stderr.strip()}")
    finished = subprocess.run(
        [*alone, DISK, "sh", folder, before, after, str(room), *map(str, program)],
        cwd=ROOT,
        env=shop.environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )
    folder.rmdir()
    after.rename(folder)
    return finished


def test_disk_full_in_the_middle_of_flatten(built):
    before, answers = published(built), look_up(built)
    built.write_random(seed=2)
    command = [*FLATTEN, "--block-size", 4096]
    finished = run_on_full_disk(built, built.lake, command, room=100_000)
    assert_one_line(finished, 2, built.lake, "No space left on device")
    assert published(built) == before
    assert look_up(built) == answers
    assert built.run("flatten").returncode == 0


def test_disk_full_at_the_export(built):
    before, answers = published(built), look_up(built)
    finished = run_on_full_disk(built, built.lake, [DBT_BUILD[0], "--quiet", "build"])
    assert finished.returncode != 0
    assert finished.stdout.count("No space left on device") == 1
    assert "Traceback" not in finished.stdout + finished.stderr
    assert published(built) == before
    assert look_up(built) == answers


def test_disk_full_when_the_warehouse_is_made(built):
    before = published(built)[1:]
    disk = built.folder / "disk"
    disk.mkdir()
    finished = run_on_full_disk(built, disk, BUILD, DUCKDB_PATH=disk / "warehouse.duckdb")
    assert_one_line(finished, 2, "No space left on device", disk / "warehouse.duckdb")
    assert published(built)[1:] == before


def test_empty_warehouse_left_by_a_full_disk_or_a_kill_does_not_stop_the_next_build(built):
    built.warehouse.write_bytes(b"")
    finished = built.run("build")
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("in_the_way", ["lake", "lake/runs"])
def test_file_in_the_way_of_the_lake(shop, in_the_way):
    shop.write_random(seed=1, products=5)
    file = shop.folder / in_the_way
    file.parent.mkdir(exist_ok=True)
    file.write_text("in the way")
    assert_one_line(shop.run("flatten"), 2, shop.lake)
    assert file.read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="no folder is closed to root")
def test_lake_that_may_not_be_written(shop):
    shop.write_random(seed=1, products=5)
    shop.lake.mkdir(mode=0o555)
    assert_one_line(shop.run("flatten"), 2, shop.lake, "Permission denied")


def test_warehouse_open_elsewhere(built):
    before = published(built)[1:]
    hold = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held'); sys.stdin.read()"
    program = [sys.executable, "-u", "-c", hold, built.warehouse]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        finished = built.run("build")
        holder.stdin.close()
    assert_one_line(finished, 2, built.warehouse, f"PID {holder.pid}")
    assert published(built)[1:] == before


def test_dbt_before_flatten_says_so(shop):
    finished = shop.dbt("--quiet", "build")
    assert finished.returncode != 0
    (line,) = (line for line in finished.stdout.splitlines() if "flatten" in line)
    assert str(shop.lake) in line
    assert "scripts/flatten.py" in line
    assert "Traceback" not in finished.stdout + finished.stderr
    assert not shop.lake.exists()


def test_missing_input_stops_the_whole_job(shop):
    shop.write_random(seed=1, products=5)
    nowhere = shop.folder / "nowhere.txt"
    assert_one_line(shop.run("build", PRODUCTS=nowhere), 2, "PRODUCTS", nowhere)
    assert not shop.lake.exists()


def test_scheduler_that_does_not_answer(shop, monkeypatch):
    """Port 1 of this machine: nothing has listened there since the seventies."""
    shop.write_random(seed=1, products=5)
    monkeypatch.setattr(dask_tasks, "SCHEDULER_SECONDS", 0.5)
    address = "tcp://127.0.0.1:1"
    result = CliRunner().invoke(flatten.main, env=shop.environment(DASK_SCHEDULER=address))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"error: no Dask scheduler answers at {address}: ")
    assert result.stderr.count("\n") == 1
    assert not (shop.lake / "current.json").exists()


def flatten_here(shop: Shop) -> str:
    """Flatten in this process; returns the run."""
    return flatten_in_process(str(shop.transactions), str(shop.products), str(shop.lake))["run"]


def test_the_newest_three_runs_are_kept(shop):
    shop.write_random(seed=1, products=5)
    runs = [flatten_here(shop) for _ in range(6)]
    assert {path.name for path in (shop.lake / "runs").iterdir()} == set(runs[-RUNS_KEPT:])
    assert shop.manifest()["run"] == runs[-1]
    assert RUNS_KEPT == 3


def test_leftovers_of_killed_runs_go_when_they_are_old(shop):
    shop.write_random(seed=1, products=5)
    day = datetime(2020, 2, 29, tzinfo=UTC).strftime(RUN_TIME_FORMAT)
    old, fresh, foreign = f"{day}-0123abcd", new_run([]), "notes"
    parts = shop.lake / "parts" / "line_items"
    parts.mkdir(parents=True)
    for name in (old, fresh, foreign):
        (shop.lake / "runs" / name).mkdir(parents=True)
        (parts / f"{name}-00000-00000.parquet").touch()
    run = flatten_here(shop)
    assert {path.name for path in (shop.lake / "runs").iterdir()} == {fresh, foreign, run}
    assert {path.name.removesuffix("-00000-00000.parquet") for path in parts.iterdir()} == {
        fresh,
        foreign,
        run,
    }


def test_two_flattens_at_the_same_time(shop):
    shop.write_random(seed=1)
    # Where one ends before the other looks, the other takes nothing over.
    command = [*FLATTEN, "--full-refresh", "--block-size", 4096]
    both = [start(shop, command) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    runs = sorted(path.name for path in (shop.lake / "runs").iterdir())
    assert len(runs) == 2
    current = shop.manifest()
    assert current["run"] in runs
    numbers = set()
    for run in runs:
        manifest = json.loads((shop.lake / "runs" / run / "manifest.json").read_text())
        assert manifest["counts"] == current["counts"]
        parts = table_parts(str(shop.lake), manifest, "line_items")
        assert read_parts(parts).num_rows == 3 * 300 * 4
        numbers |= {file["number"] for file in manifest["files"]}
    assert len(numbers) == 2


def test_runs_that_another_flatten_is_removing_are_no_error(shop, monkeypatch):
    """Two flattens that end together find the same old runs; one of them is too late."""
    shop.write_random(seed=1, products=5)
    for day in range(1, 6):
        run = shop.lake / "runs" / f"2020010{day}T000000-0123abcd"
        run.mkdir(parents=True)
        (run / "manifest.json").write_text("{}")
    (shop.lake / "current.json").write_text(json.dumps({"run": run.name}))
    remove = LocalFileSystem.rm

    def remove_after_the_other(self: LocalFileSystem, path: str, recursive: bool) -> None:
        remove(self, path, recursive=recursive)
        remove(self, path, recursive=recursive)

    monkeypatch.setattr(LocalFileSystem, "rm", remove_after_the_other)
    prune(str(shop.lake))
    assert len(list((shop.lake / "runs").iterdir())) == RUNS_KEPT


def test_old_runs_that_cannot_be_removed_are_a_warning(shop, monkeypatch, capsys):
    """The new run is current all the same."""

    def away(_: object) -> None:
        raise PermissionError("away")

    shop.write_random(seed=1, products=10)
    monkeypatch.setattr("bought_together.storage.lake.remove_tree", away)
    runs = [flatten_here(shop) for _ in range(RUNS_KEPT + 1)]
    assert shop.manifest()["run"] == runs[-1]
    assert {path.name for path in (shop.lake / "runs").iterdir()} == set(runs)
    assert (
        "warning: old runs could not be removed: PermissionError: away" in capsys.readouterr().err
    )
