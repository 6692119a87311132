"""The lake's pointers move forward only, whatever the clock says and however programs interleave.

No test waits for a time to pass: the clock is set, and programs meet at events and barriers.
"""

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from fsspec.implementations.local import LocalFileSystem

from bought_together.errors import CannotRun, Refused
from bought_together.ingest.run import flatten
from bought_together.pairs.run import count_pairs
from bought_together.storage import builds, filesystem, lake, pointers
from bought_together.storage.lake import REFUSALS_KEPT, RUNS_KEPT
from bought_together.storage.mount import mount_count, mount_lake
from tests.support import ROOT
from tests.support.exports import LISTED, ROWS, write_build
from tests.support.processes import PATIENCE, assert_one_line
from tests.support.shop import Shop, read_parts

DAYS = [datetime(2026, 1, day, 3, tzinfo=UTC) for day in range(1, 10)]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Set the time that flatten reads."""

    def at(time: datetime) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return time

        monkeypatch.setattr(lake, "datetime", Clock)

    return at


@pytest.fixture
def small(shop: Shop) -> Shop:
    shop.write_random(seed=1, products=5)
    return shop


def flatten_here(shop: Shop, **options: Any) -> str:
    """Flatten in this process; returns the run."""
    paths = map(str, (shop.transactions, shop.products, shop.lake))
    return flatten(*paths, **options)["run"]


def runs_with_parts(shop: Shop) -> dict[str, set[str]]:
    """Return the runs that wrote the parts which the lake holds of each table."""
    return {
        table: {lake.run_of(part) for part in lake.part_sizes(str(shop.lake), table)}
        for table in lake.RUN_TABLES
    }


def runs_of(shop: Shop) -> list[str]:
    return sorted(path.name for path in (shop.lake / "runs").iterdir())


def test_a_clock_that_went_back_deletes_no_run_that_is_or_was_just_current(small, set_clock):
    made = []
    for time in [*reversed(DAYS), DAYS[0] - timedelta(days=9000)]:
        set_clock(time)
        made.append(flatten_here(small))
        assert small.manifest()["run"] == made[-1]
        assert runs_of(small) == made[-RUNS_KEPT:]
    assert made == sorted(made)


def test_runs_of_the_same_microsecond_are_in_order(small, set_clock):
    set_clock(DAYS[0])
    made = [flatten_here(small) for _ in range(RUNS_KEPT + 1)]
    assert small.manifest()["run"] == made[-1]
    assert runs_of(small) == made[1:]


def test_the_run_of_the_published_build_stays(small):
    small.build()
    read_by_build = small.manifest()["run"]
    later = [flatten_here(small) for _ in range(RUNS_KEPT + 1)]
    assert runs_of(small) == [read_by_build, *later[-RUNS_KEPT:]]


def test_a_lake_whose_run_nobody_would_name_so_is_built_published_and_replaced(small):
    """Whatever a lake calls its run is a name, and no SQL."""
    run = flatten_here(small)
    name = "x'}); copy (select 1) to 'written.csv' --"
    (small.lake / "runs" / run).rename(small.lake / "runs" / name)
    for file in (small.lake / "current.json", small.lake / "runs" / name / "manifest.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"run": name}))
    built = small.dbt("--quiet", "build")
    assert built.returncode == 0, built.stdout
    assert json.loads((small.published / "manifest.json").read_text())["run"] == name
    assert not list(small.folder.glob("*.csv"))
    assert not list(ROOT.glob("*.csv"))
    newer = flatten_here(small)
    assert small.manifest()["run"] == newer
    assert small.run("build", "--skip-flatten").returncode == 0
    assert json.loads((small.published / "manifest.json").read_text())["run"] == newer


@pytest.mark.parametrize("field", ["run", "file", "built_at", "folder"])
def test_what_a_lake_holds_is_mounted_as_text(small, field):
    """Even by hand, nothing in a pointer is SQL: quotes, braces and statements stay text."""
    text = "x'}); copy (select 1) to 'written.csv' --"
    run = flatten_here(small)
    count_pairs(str(small.lake), project=ROOT)
    current = json.loads((small.lake / "current.json").read_text())
    if field == "run":
        (small.lake / "runs" / run).rename(small.lake / "runs" / text)
        current["run"] = run = text
    elif field == "file":
        current["files"][0]["path"] = text
    elif field == "folder":
        counted = json.loads((small.run_folder / "pairs.json").read_text())
        (small.run_folder / counted["folder"]).rename(small.run_folder / text)
        (small.run_folder / "pairs.json").write_text(json.dumps(counted | {"folder": text}))
    else:
        build = write_build(small.lake, ROWS, LISTED)
        manifest = json.loads((build / "manifest.json").read_text()) | {"built_at": text}
        (build / "manifest.json").write_text(json.dumps(manifest))
    (small.lake / "current.json").write_text(json.dumps(current))
    with duckdb.connect() as connection:
        mount_lake(connection, str(small.lake))
        mount_count(connection, str(small.lake), current)
        [(mounted, built_at)] = connection.sql("from lake.mounted_run").fetchall()
        [(folder,)] = connection.sql("select folder from lake.mounted_count").fetchall()
        files = connection.sql("select path from lake.input_files order by number").fetchall()
        for table in ("line_items", "state_product_pairs"):
            assert connection.sql(f"from lake.{table}").fetchall()
    assert mounted == run
    assert {"run": mounted, "file": files[0][0], "built_at": built_at, "folder": folder}[
        field
    ] == text
    assert not list(Path.cwd().glob("*.csv"))


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Start a function in a thread and hold it after it has written a file whose name ends so."""
    move = LocalFileSystem.mv
    release = threading.Event()

    def held(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        has_written = threading.Event()
        holder: list[int] = []

        def move_and_wait(self: LocalFileSystem, old: str, new: str, **options: Any) -> None:
            move(self, old, new, **options)
            if new.endswith(name) and holder == [threading.get_ident()]:
                has_written.set()
                assert release.wait(PATIENCE)

        def run() -> Any:
            holder.append(threading.get_ident())
            return function(*arguments)

        monkeypatch.setattr(LocalFileSystem, "mv", move_and_wait)
        outcome = pool.submit(run)
        assert has_written.wait(PATIENCE)

        def go_on() -> Any:
            release.set()
            return outcome.result(PATIENCE)

        return go_on

    with ThreadPoolExecutor(1) as pool:
        try:
            yield held
        finally:
            release.set()


def test_a_slow_flatten_does_not_replace_the_runs_that_started_after_it(small, hold, capsys):
    """The slow one has written its tables when the others begin."""
    go_on = hold("-products.parquet", flatten_here, small)
    later = [flatten_here(small) for _ in range(RUNS_KEPT + 1)]
    slow = go_on()
    assert slow < later[0]
    assert small.manifest()["run"] == later[-1]
    assert set(later[-RUNS_KEPT:]) == set(runs_of(small))
    assert f"run {later[-1]}, which started after this run {slow}" in capsys.readouterr().err


def test_a_run_that_can_still_become_current_stays(small, hold, set_clock):
    """It started last, and has finished when one that started before it prunes."""
    older = hold("-products.parquet", flatten_here, small)
    newest = lake.new_run(lake.run_folders(str(small.lake)))
    folder = small.lake / "runs" / newest
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    set_clock(datetime.now(UTC) + timedelta(days=400))
    older()
    assert folder.exists()
    assert lake.make_current(str(small.lake), newest, {"run": newest}) is None
    assert small.manifest()["run"] == newest


def test_many_that_end_at_once_leave_the_newest_current(tmp_path):
    (tmp_path / "runs").mkdir()
    number = 8
    for _ in range(5):
        known = lake.run_folders(str(tmp_path))
        new = []
        for _ in range(number):
            new.append(lake.new_run([*known, *new]))
        barrier = threading.Barrier(number)

        def finish(run: str, barrier: threading.Barrier = barrier) -> str | None:
            (tmp_path / "runs" / run).mkdir()
            barrier.wait(PATIENCE)
            return lake.make_current(str(tmp_path), run, {"run": run})

        with ThreadPoolExecutor(number) as pool:
            stays = list(pool.map(finish, new))
        assert stays[-1] is None
        current = json.loads((tmp_path / "current.json").read_text())["run"]
        assert current == new[-1]
        assert (tmp_path / "runs" / current / "manifest.json").exists()


def test_a_slow_count_does_not_replace_the_counts_that_started_after_it(small, hold):
    small.engine = "dask"
    run = small.lake / "runs" / flatten_here(small)

    def count() -> None:
        count_pairs(str(small.lake), project=ROOT)

    go_on = hold("/shortlist/part-empty.parquet", count)
    count()
    count()
    current = json.loads((run / "pairs.json").read_text())["folder"]
    go_on()
    assert json.loads((run / "pairs.json").read_text())["folder"] == current
    assert (run / current).is_dir()
    assert small.run("build", "--skip-flatten").returncode == 0


def test_a_clock_that_went_back_deletes_no_count_that_is_current(small, set_clock):
    small.engine = "dask"
    run = small.lake / "runs" / flatten_here(small)
    for time in reversed(DAYS[:4]):
        set_clock(time)
        count_pairs(str(small.lake), project=ROOT)
        current = json.loads((run / "pairs.json").read_text())["folder"]
        assert (run / current / "products").is_dir()


def test_of_refused_runs_the_newest_rejects_stay(small):
    """Error messages name what lists them, so they stay for a while; line items are of no use."""
    good = flatten_here(small)
    with small.transactions.open("a") as file:
        file.write("no record\n")
    named = []
    for _ in range(REFUSALS_KEPT + 2):
        with pytest.raises(Refused) as refusal:
            flatten_here(small, max_reject_fraction=0)
        named.append(Path(re.search(r"the parts that (\S+) lists", str(refusal.value))[1]))
    assert small.manifest()["run"] == good
    assert [path.exists() for path in named] == [False] * 2 + [True] * REFUSALS_KEPT
    refused = [path.parent.name for path in named[2:]]
    for path in named[2:]:
        rejects = lake.table_parts(str(small.lake), json.loads(path.read_text()), "rejects")
        assert [row["raw_text"] for row in read_parts(rejects).to_pylist()] == ["no record"]
        assert [path.name for path in path.parent.iterdir()] == ["refused.json"]
    assert runs_with_parts(small) == {
        "line_items": {good},
        "products": {good},
        "rejects": {good, *refused},
    }
    later = [flatten_here(small, max_reject_fraction=1) for _ in range(RUNS_KEPT)]
    assert runs_of(small) == refused + later


def test_a_failed_run_leaves_nothing(small, monkeypatch):
    good = flatten_here(small)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr("bought_together.ingest.run.check", full)
        flatten_here(small)
    assert runs_of(small) == [good]
    assert runs_with_parts(small) == {key: {good} for key in lake.RUN_TABLES}
    small.transactions.write_text("\n")
    with pytest.raises(CannotRun, match="no records"):
        flatten_here(small)
    assert runs_of(small) == [good]
    assert runs_with_parts(small) == {key: {good} for key in lake.RUN_TABLES}


def test_a_program_interrupted_while_it_writes_leaves_no_unfinished_file(tmp_path, monkeypatch):
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(filesystem, "flush", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lake.take_file_numbers(str(tmp_path), 1)
    assert [path.name for path in tmp_path.iterdir()] == [pointers.LOCK]


def test_a_task_that_still_runs_when_its_run_has_failed_leaves_no_part(small):
    """As after Ctrl-C, when other threads go on: the run is tidied up before their part is done."""
    with pytest.raises(KeyboardInterrupt), lake.writing_run(str(small.lake)) as run:
        lake.start_run(str(small.lake), run, None)
        folder = lake.run_path(str(small.lake), run)
        part = small.lake / lake.part_name("line_items", f"{run}-00000-00000")
        writing = filesystem.open_whole(str(part), unfinished_in=folder)
        writing.__enter__().write(b"half")
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError):
        writing.__exit__(None, None, None)
    assert not [path for path in small.lake.rglob("*") if path.is_file()]


def test_ctrl_c_after_the_pointer_has_moved_deletes_nothing(small, monkeypatch):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lake, "prune", interrupt)
    with pytest.raises(KeyboardInterrupt):
        flatten_here(small)
    assert runs_of(small) == [small.manifest()["run"]]
    assert small.table("line_items").num_rows


def test_files_are_on_the_disk_before_the_pointer_moves(small, monkeypatch):
    events: list[str] = []
    flush, move = filesystem.flush, LocalFileSystem.mv

    def noted_flush(name: str) -> None:
        flush(name)
        events.append(name)

    def noted_move(self: LocalFileSystem, old: str, new: str, **options: Any) -> None:
        move(self, old, new, **options)
        events.append(f"moved {new}")

    monkeypatch.setattr(filesystem, "flush", noted_flush)
    monkeypatch.setattr(LocalFileSystem, "mv", noted_move)
    run = small.lake / "runs" / flatten_here(small, block_size=100)
    moved = events.index(f"moved {small.lake / 'current.json'}")
    before, after = events[:moved], events[moved + 1 :]
    finished = before.index(f"moved {run / 'manifest.json'}")
    flushed = [event for event in before[:finished] if not event.startswith("moved ")]
    parts = set((small.lake / "parts").rglob("*"))
    assert len([part for part in parts if part.is_file()]) > 3
    tables = {small.lake, small.lake / "parts", *parts, run, run.parent, run / "in_progress.json"}
    numbers = f"{small.lake / lake.FILE_NUMBERS}."
    assert {name for name in flushed[:-1] if not name.startswith(numbers)} == set(map(str, tables))
    assert flushed[-1].startswith(f"{run / 'manifest.json'}.")
    assert before[-1].startswith(f"{small.lake / 'current.json'}.")
    assert after == [str(small.lake)]


def manifest_of(number: int, run: str, built_at: datetime) -> dict[str, Any]:
    build = f"{built_at.strftime(builds.BUILD_TIME_FORMAT)}-{number:08}"
    return {"build": build, "run": run, "built_at": built_at.isoformat()}


def make_build(folder: Path, manifest: dict[str, Any]) -> str | None:
    tables = folder / "published" / manifest["build"]
    tables.mkdir(parents=True, exist_ok=True)
    (tables / "products.parquet").write_text("a table")
    return builds.make_published(str(folder), manifest, {})


def current_build(folder: Path) -> str:
    return json.loads((folder / "published.json").read_text())["build"]


def test_many_builds_that_end_at_once_leave_the_newest_published(tmp_path):
    number = 8
    barrier = threading.Barrier(number)
    began = datetime.now(UTC)
    manifests = [
        manifest_of(second, "20260101T000000000000-0", began + timedelta(seconds=second))
        for second in range(number)
    ]

    def finish(manifest: dict[str, Any]) -> None:
        barrier.wait(PATIENCE)
        make_build(tmp_path, manifest)

    with ThreadPoolExecutor(number) as pool:
        list(pool.map(finish, manifests))
    assert current_build(tmp_path) == manifests[-1]["build"]
    assert (tmp_path / "published" / current_build(tmp_path) / "products.parquet").exists()


def test_a_build_whose_run_is_newer_is_published_although_the_clock_went_back(tmp_path):
    runs = [lake.new_run([])]
    for _ in range(builds.BUILDS_KEPT + 2):
        runs.append(lake.new_run(runs))
    for number, run in enumerate(runs):
        manifest = manifest_of(number, run, DAYS[-1] - timedelta(days=number))
        assert make_build(tmp_path, manifest) is None
        assert current_build(tmp_path) == manifest["build"]
    kept = {path.name.split("-")[1] for path in (tmp_path / "published").iterdir()}
    assert kept == {f"{number:08}" for number in range(len(runs))[-builds.BUILDS_KEPT :]}


def test_an_unfinished_build_that_started_after_the_current_one_stays(tmp_path, monkeypatch):
    """Even where its start is long ago by a clock that has jumped since."""
    later = tmp_path / "published" / manifest_of(2, "", DAYS[2])["build"]
    earlier = tmp_path / "published" / manifest_of(0, "", DAYS[0])["build"]
    for folder in (later, earlier):
        folder.mkdir(parents=True)
    make_build(tmp_path, manifest_of(1, "20260101T000000000000-0", DAYS[1]))
    assert (later.exists(), earlier.exists()) == (True, False)


def test_dbt_publishes_the_same_run_again_after_the_clock_went_back(small):
    """The newest build seems to be from the future; what starts after it is newer."""
    small.build()
    first = small.published
    ahead = "2099-01-01T00:00:00.000000+00:00"
    for file in (first / "manifest.json", small.lake / "published.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"built_at": ahead}))
    built = small.run("build", "--skip-flatten")
    assert built.returncode == 0, built.stdout + built.stderr
    second = json.loads((small.lake / "published.json").read_text())
    assert second["build"] != first.name
    assert second["built_at"] == "2099-01-01T00:00:00.000001+00:00"
    assert second["build"].startswith("20990101T000000Z-")
    assert small.run("rollback").stdout == f"rolled back from {second['build']} to {first.name}\n"


@pytest.mark.parametrize("name", ["current.json", "published.json"])
def test_a_damaged_pointer_is_one_line_and_the_next_run_mends_it(small, name):
    small.build()
    pointer = small.lake / name
    good = pointer.read_bytes()
    pointer.write_bytes(good[:20])
    reader = "count_pairs" if name == "current.json" else "recommend"
    assert_one_line(small.run(reader, *(["1"] * (reader == "recommend"))), 2, pointer)
    finished = small.run("build")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert json.loads(pointer.read_bytes()).keys() == json.loads(good).keys()


def test_a_lock_that_another_user_made_is_shared(tmp_path, monkeypatch):
    """Only the folder must be open to both."""
    opened = os.open

    def of_another_user(path: str, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR and path.endswith(pointers.LOCK):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *mode)

    (tmp_path / pointers.LOCK).touch()
    monkeypatch.setattr(os, "open", of_another_user)
    with pointers.locked(str(tmp_path)):
        shutil.copy(tmp_path / pointers.LOCK, tmp_path / "still-writable")
