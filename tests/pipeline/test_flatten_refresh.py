"""A run that takes over unchanged files is, row for row, the run that a fresh lake would have.

Only file numbers differ, and with them order ids: they are permanent. Files change in all ways
here, flattens are refused and killed in between, and parts get lost. The disk's clock is the
test's own, and every input file that is opened is noted.
"""

import gzip
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from bought_together.errors import CannotRun, Refused
from bought_together.ingest import inputs, known_files
from bought_together.ingest.line_items import FILE_NUMBER_LIMIT, ORDER_ID_OFFSET_BITS
from bought_together.ingest.report import report
from bought_together.ingest.run import flatten
from bought_together.storage import lake as lake_module
from bought_together.storage.lake import (
    RUN_TABLES,
    changed_files,
    part_sizes,
    run_of,
    table_parts,
    take_file_numbers,
)
from scripts import flatten as program
from tests.support.shop import Shop, read_parts

BLOCK_SIZE = 3000  # bytes: `big` takes several ranges, the others share tasks
HOUR = 3_600_000_000_000  # nanoseconds
FIRST = ("a.txt", "b.txt", "big.txt", "c.txt.gz", "d.json", "e.txt")
Run = dict[str, Any]


class Killed(BaseException):
    """The program is dead: it tidies nothing up."""


class World:
    """Input files on a disk with a clock of its own, a lake, and all file numbers ever given."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lake = folder, folder / "lake"
        self.inputs = folder / "in"
        self.inputs.mkdir()
        (folder / "products.txt").write_text("P1\tC\tMilk\nP1\tC\tMilk again\n")
        self.now, self.written = HOUR, 0
        self.written_at: dict[str, int] = {}
        self.changed_at: dict[str, int] = {}
        self.opened: list[str] = []
        self.contents: dict[int, tuple[str, bytes]] = {}  # by file number

    def path(self, name: str) -> Path:
        return self.inputs / name

    def write(self, name: str, records: int = 4) -> None:
        """Write a file whose records are in no other; one record and one line are bad."""
        self.written += 1
        lines = [
            json.dumps({"itemList": [{"item": f"P{self.written:04}-{n:04}"}], "store": "1"})
            for n in range(records)
        ]
        lines[1] = json.dumps({"itemList": [{"item": "", "quantity": self.written}]})
        lines[2] = f'{{"no": "items", "but": "{self.written:04}"}}'
        text = "[" + ",\n".join(lines) + "]" if name.endswith(".json") else "\n".join(lines) + "\n"
        data = text.encode()
        self.put(name, gzip.compress(data, mtime=0) if name.endswith(".gz") else data)

    def write_first(self) -> None:
        for name in FIRST:
            self.write(name, records=200 if name == "big.txt" else 4)

    def put(self, name: str, data: bytes) -> None:
        self.path(name).write_bytes(data)
        self.touch(name)

    def touch(self, name: str) -> None:
        self.written_at[str(self.path(name))] = self.changed_at[str(self.path(name))] = self.now

    def set_back(self, name: str, time: int) -> None:
        """Give a file the time of an earlier writing, which no disk does unnoticed."""
        self.written_at[str(self.path(name))] = time

    def names(self) -> list[str]:
        return sorted(path.name for path in self.inputs.iterdir())

    def flatten(self, lake: Path | None = None, **options: Any) -> Run:
        options = {"max_reject_fraction": 1, "block_size": BLOCK_SIZE} | options
        products = str(self.folder / "products.txt")
        self.opened.clear()
        return flatten(f"{self.inputs}/*", products, str(lake or self.lake), **options)

    def stat(self, path: Any) -> Any:
        found = os.stat(path)
        return SimpleNamespace(
            st_mode=found.st_mode,
            st_size=found.st_size,
            st_ino=found.st_ino,
            st_mtime_ns=self.written_at.get(str(path), 0),
            st_ctime_ns=self.changed_at.get(str(path), 0),
        )

    def manifest(self) -> Run:
        return json.loads((self.lake / "current.json").read_text())

    def check(self, run: Run) -> None:
        """See that a run equals that of a fresh lake, and that no number has had two meanings."""
        fresh_lake = Path(tempfile.mkdtemp(dir=self.folder))
        fresh = self.flatten(fresh_lake)
        assert rows_of(self.lake, run) == rows_of(fresh_lake, fresh)
        assert run["counts"] == fresh["counts"]
        assert run["rejects"] == fresh["rejects"]
        files = [(file["path"], file["bytes"]) for file in run["files"]]
        assert files == [(file["path"], file["bytes"]) for file in fresh["files"]]
        for file in run["files"]:
            content = (file["path"], Path(file["path"]).read_bytes())
            assert self.contents.setdefault(file["number"], content) == content
        assert len({file["number"] for file in run["files"]}) == len(files)
        assert not list((self.lake / "runs" / run["run"]).glob("*.un*"))
        shutil.rmtree(fresh_lake)


def rows_of(lake: Path, run: Run) -> dict[str, Counter[Any]]:
    """Return the rows of each table, with the file's path in place of its number."""
    paths = {file["number"]: file["path"] for file in run["files"]}
    tables = {
        table: read_parts(table_parts(str(lake), run, table)).to_pylist() for table in RUN_TABLES
    }
    for row in tables["line_items"]:
        number, place = divmod(row["order_id"], 1 << ORDER_ID_OFFSET_BITS)
        row["order_id"] = (paths[number], place)
    return {table: Counter(map(repr, rows)) for table, rows in tables.items()}


def numbers_of(run: Run) -> dict[str, int]:
    return {Path(file["path"]).name: file["number"] for file in run["files"]}


@contextmanager
def noting(world: World, patch: pytest.MonkeyPatch) -> Iterator[World]:
    """Give the disk the world's clock, and note which input files are opened."""
    opens = LocalFileSystem._open

    def noted(self: LocalFileSystem, path: str, mode: str = "rb", **options: Any) -> Any:
        if Path(path).parent == world.inputs:
            world.opened.append(Path(path).name)
        return opens(self, path, mode, **options)

    patch.setattr(LocalFileSystem, "_open", noted)
    patch.setattr(inputs, "HEAD", 64)  # so that most files go on after it
    patch.setattr(inputs, "os", SimpleNamespace(stat=world.stat))
    patch.setattr(inputs, "time", SimpleNamespace(time_ns=lambda: world.now))
    yield world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world whose first files were flattened an hour after they were written."""
    with noting(World(tmp_path), monkeypatch) as made:
        made.write_first()
        made.now += HOUR
        made.check(made.flatten())
        made.now += HOUR
        yield made


def test_what_has_not_changed_is_not_read(world):
    before = world.manifest()
    assert len({file["group"] for file in before["files"]}) == 3
    run = world.flatten()
    assert world.opened == []
    assert numbers_of(run) == numbers_of(before)
    assert run["parts"]["line_items"] == before["parts"]["line_items"]
    assert changed_files(before, run) == ([], [])
    assert run["refresh"] == {"unchanged": len(FIRST), "again": 0, "new": 0, "gone": 0}
    world.check(run)


def test_content_of_unchanged_files_is_of_no_interest(world):
    """It is gone from the disk, but for the size: whoever reads it, reads zeros."""
    before = rows_of(world.lake, world.manifest())
    for name in FIRST:
        times = world.path(name).stat()
        world.path(name).write_bytes(bytes(times.st_size))
    assert rows_of(world.lake, world.flatten()) == before


def add(world: World) -> None:
    world.write("0.txt")


def remove_big(world: World) -> None:
    world.path("big.txt").unlink()


def remove_shared(world: World) -> None:
    world.path("a.txt").unlink()


def append(world: World) -> None:
    world.put("e.txt", world.path("e.txt").read_bytes() + b'{"itemList": [{"item": "new"}]}\n')


def rename(world: World) -> None:
    world.path("big.txt").rename(world.path("renamed.txt"))


def move_within_a_group(world: World) -> None:
    world.path("a.txt").rename(world.path("a2.txt"))


def touch(world: World) -> None:
    world.touch("big.txt")


def set_back(world: World) -> None:
    world.set_back("big.txt", HOUR // 2)


def rewrite(world: World) -> None:
    """As long as before."""
    data = world.path("big.txt").read_bytes()
    world.put("big.txt", data[:-20] + data[-20:].replace(b"1", b"2"))


def rewrite_with_the_old_time(world: World) -> None:
    rewrite(world)
    world.set_back("big.txt", HOUR)


def rewrite_the_beginning(world: World) -> None:
    data = world.path("big.txt").read_bytes()
    world.put("big.txt", data.replace(b"P0003-0000", b"Q0003-0000"))


def replace_by_an_equal_file(world: World) -> None:
    """As a download or a restored backup does: another inode."""
    data = world.path("big.txt").read_bytes()
    (world.folder / "new").write_bytes(data)
    (world.folder / "new").replace(world.path("big.txt"))


def pack(world: World) -> None:
    data = world.path("big.txt").read_bytes()
    world.path("big.txt").unlink()
    world.put("big.txt.gz", gzip.compress(data, mtime=0))


def exchange(world: World) -> None:
    """Two files exchange their names."""
    first, second = world.path("b.txt"), world.path("e.txt")
    data = first.read_bytes()
    world.put("b.txt", second.read_bytes())
    world.put("e.txt", data)


def empty(world: World) -> None:
    world.put("e.txt", b"")


def touch_all(world: World) -> None:
    for name in FIRST:
        world.touch(name)


CHANGES: dict[Callable[[World], None], tuple[set[str], int, int, int]] = {
    # What is opened; how many files are flattened again, are new, and are gone.
    add: ({"0.txt"}, 0, 1, 0),
    remove_big: (set(), 0, 0, 1),
    remove_shared: ({"b.txt"}, 1, 0, 1),
    append: ({"c.txt.gz", "d.json", "e.txt"}, 2, 1, 1),
    rename: ({"renamed.txt"}, 0, 1, 1),
    move_within_a_group: ({"a2.txt", "b.txt"}, 1, 1, 1),
    touch: ({"big.txt"}, 0, 0, 0),
    set_back: ({"big.txt"}, 0, 0, 0),
    rewrite: ({"big.txt"}, 0, 1, 1),
    rewrite_with_the_old_time: ({"big.txt"}, 0, 1, 1),
    rewrite_the_beginning: ({"big.txt"}, 0, 1, 1),
    replace_by_an_equal_file: ({"big.txt"}, 0, 0, 0),
    pack: ({"big.txt.gz"}, 0, 1, 1),
    exchange: ({"a.txt", "b.txt", "c.txt.gz", "d.json", "e.txt"}, 3, 2, 2),
    empty: ({"c.txt.gz", "d.json", "e.txt"}, 2, 1, 1),
    touch_all: (set(FIRST), 0, 0, 0),
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_has_changed_is_read_and_nothing_else(world, change):
    before = world.manifest()
    opened, again, new, gone = CHANGES[change]
    change(world)
    world.now += HOUR
    run = world.flatten()
    assert set(world.opened) == opened
    numbers, old = numbers_of(run), numbers_of(before)
    assert run["refresh"] == {
        "unchanged": len(numbers) - new,
        "again": again,
        "new": new,
        "gone": gone,
    }
    added, removed = changed_files(before, run)
    assert (len(added), len(removed)) == (new, gone)
    assert not {*added} & {*old.values()}
    same = [name for name in numbers.keys() & old.keys() if numbers[name] not in added]
    assert {name: numbers[name] for name in same} == {name: old[name] for name in same}
    world.check(run)
    world.flatten()
    assert world.opened == []


def test_a_touched_file_is_not_written_again(world):
    before = world.manifest()
    touch_all(world)
    world.now += HOUR
    run = world.flatten()
    assert world.opened.count("big.txt") == 2  # its beginning, then all of it
    assert run["parts"]["line_items"] == before["parts"]["line_items"]


@pytest.mark.parametrize("name", ["big.txt", "a.txt", "c.txt.gz"])
def test_a_file_that_changes_in_the_moment_it_is_read_is_noticed_next_time(world, name):
    """Same size, same inode, same time: as in git's index, this time is not to be trusted."""
    world.write(name, records=200 if name == "big.txt" else 4)
    world.flatten()
    entry = next(file for file in world.manifest()["files"] if file["path"].endswith(name))
    assert entry["is_doubtful"]
    while True:
        world.write(name, records=200 if name == "big.txt" else 4)
        if world.path(name).stat().st_size == entry["bytes"]:
            break
    world.now += HOUR
    run = world.flatten()
    assert run["refresh"]["new"] == 1
    assert not any(file["is_doubtful"] for file in run["files"])
    world.check(run)


@pytest.mark.parametrize("name", ["big.txt", "a.txt"])
def test_a_file_rewritten_on_a_real_disk_with_its_old_time_is_noticed(tmp_path, name):
    world = World(tmp_path)
    world.write_first()
    day_before = os.stat(world.path(name)).st_mtime_ns - 24 * HOUR
    os.utime(world.path(name), ns=(day_before, day_before))
    before = world.flatten()
    rewrite(world) if name == "big.txt" else world.write(name)
    os.utime(world.path(name), ns=(day_before, day_before))
    run = world.flatten()
    assert numbers_of(run)[name] > max(numbers_of(before).values())
    world.check(run)


def test_a_copy_of_a_file_that_is_known_is_refused_and_the_known_one_is_not_read(world):
    before = (world.lake / "current.json").read_bytes()
    for name in ("big.txt", "a.txt"):
        copy = f"copy of {name}"
        world.put(copy, world.path(name).read_bytes())
        with pytest.raises(CannotRun, match=f"{name} and .*copy of|copy of .* and .*{name}"):
            world.flatten()
        assert set(world.opened) == {copy}
        world.path(copy).unlink()
    data = gzip.decompress(world.path("c.txt.gz").read_bytes())
    world.put("c.txt", data)
    with pytest.raises(CannotRun, match="look like the same file"):
        world.flatten()
    assert (world.lake / "current.json").read_bytes() == before


def lose(part: Path) -> None:
    part.unlink()


def cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [lose, cut])
@pytest.mark.parametrize("table", ["line_items", "rejects"])
def test_a_part_that_is_lost_or_cut_is_written_again(world, capsys, damage, table):
    before = world.manifest()
    [big] = [file for file in before["files"] if file["path"].endswith("/big.txt")]
    damage(world.lake / list(before["groups"][big["group"]]["parts"][table])[-1])
    run = world.flatten()
    assert set(world.opened) == {"big.txt"}
    assert (
        "has lost parts, or they are cut off: 1 file is flattened again" in capsys.readouterr().err
    )
    assert numbers_of(run) == numbers_of(before)
    assert run["refresh"] == {"unchanged": len(FIRST), "again": 1, "new": 0, "gone": 0}
    world.check(run)
    assert capsys.readouterr().err == ""


def test_a_full_refresh_reads_all_under_new_numbers(world):
    before = world.manifest()
    run = world.flatten(full_refresh=True)
    assert set(world.opened) == set(FIRST)
    assert min(numbers_of(run).values()) > max(numbers_of(before).values())
    assert run["refresh"] == {"full": "FULL_REFRESH asks for it"}
    world.check(run)
    world.flatten()
    assert world.opened == []


def test_other_code_reads_all_under_new_numbers(world, monkeypatch):
    before = world.manifest()
    code = world.folder / "ingest"
    shutil.copytree(Path(known_files.__file__).parent, code)
    monkeypatch.setattr(known_files, "__file__", str(code / "known_files.py"))
    world.flatten()
    assert world.opened == []
    with (code / "record_rules.py").open("a") as module:
        module.write("\n# another rule\n")
    run = world.flatten()
    assert set(world.opened) == set(FIRST)
    assert min(numbers_of(run).values()) > max(numbers_of(before).values())
    assert "refresh    full: the program has changed" in report(run)
    monkeypatch.setattr(pa, "__version__", "another")
    assert world.flatten()["refresh"] == {"full": "the program has changed"}
    world.check(run)


def test_a_damaged_or_older_pointer_means_all_under_new_numbers(world):
    pointer = world.lake / "current.json"
    numbers = numbers_of(world.manifest())
    for text in ("{", json.dumps({"run": world.manifest()["run"], "files": [], "counts": {}})):
        pointer.write_text(text)
        run = world.flatten()
        assert set(world.opened) == set(FIRST)
        assert not {*numbers.values()} & {*numbers_of(run).values()}
        numbers |= {f"{name} {run['run']}": one for name, one in numbers_of(run).items()}
        world.check(run)


def test_a_lake_of_an_earlier_version_is_one_line_for_readers(world):
    with pytest.raises(CannotRun, match=r"run 1 of .* earlier version: run `python scripts/fl"):
        table_parts(str(world.lake), {"run": "1", "files": []}, "line_items")


def test_the_program_says_what_it_took_over(shop: Shop, tmp_path: Path):
    shop.write([["1", "2"], ["1"]], ["1", "2"])
    other = tmp_path / "other.txt"
    other.write_text('{"itemList": [{"item": "1"}]}\n')

    def told(*files: Path, **settings: object) -> list[str]:
        environment = shop.environment(TRANSACTIONS=",".join(map(str, files)), **settings)
        finished = CliRunner().invoke(program.main, env=environment)
        assert finished.exit_code == 0, finished.output
        return [line for line in finished.output.splitlines() if line.startswith("refresh ")]

    assert told(shop.transactions) == []
    assert told(shop.transactions, other) == ["refresh    1 file unchanged, 1 new, 0 gone"]
    assert told(other) == ["refresh    1 file unchanged, 0 new, 1 gone"]
    for yes in ("1", "true"):
        assert told(other, FULL_REFRESH=yes) == ["refresh    full: FULL_REFRESH asks for it"]
    for no in ("", "0", "false"):
        assert told(other, FULL_REFRESH=no) == ["refresh    1 file unchanged, 0 new, 0 gone"]
    shop.parts("line_items")[0].unlink()
    assert told(other)[0] == "refresh    1 file unchanged (1 flattened again), 0 new, 0 gone"


def test_check_refresh_compares_the_tables_of_two_builds(shop: Shop) -> None:
    shop.write([["a", "b"], ["a", "b", "c"]], "abc")
    checked = shop.run("check_refresh")
    assert checked.returncode == 0, checked.stderr
    assert [line.split() for line in checked.stdout.splitlines()] == [
        [table, rows, "rows,", "0", "differ"]
        for table, rows in (
            ("product_recommendations", "6"),
            ("products", "3"),
            ("product_pairs", "6"),
            ("oversized_baskets", "0"),
        )
    ]


def test_a_refused_run_changes_nothing_and_its_rejects_stay(world):
    """Those of the files that it took over, too; nothing else stays of it."""
    before = world.manifest()
    world.put("bad.txt", b"no record\n")
    for _ in range(2):
        with pytest.raises(Refused, match=r"are in the parts that (\S+) lists") as refused:
            world.flatten(max_reject_fraction=0)
        assert set(world.opened) == {"bad.txt"}
    assert world.manifest() == before
    path = Path(str(refused.value).split(" that ")[-1].removesuffix(" lists"))
    rejects = read_parts(table_parts(str(world.lake), json.loads(path.read_text()), "rejects"))
    places = Counter(Path(row["source_file"]).name for row in rejects.to_pylist())
    assert places == Counter({**dict.fromkeys(FIRST, 2), "bad.txt": 1, "products.txt": 1})
    own = {run_of(part) for part in part_sizes(str(world.lake), "line_items")}
    assert own == {before["run"]}
    world.path("bad.txt").unlink()
    run = world.flatten()
    assert world.opened == []
    world.check(run)


def test_numbers_are_not_given_twice_whatever_fails(world, monkeypatch):
    taken = {*numbers_of(world.manifest()).values()}

    def fail(*_: Any) -> None:
        raise CannotRun("on purpose")

    world.write("0.txt")
    with monkeypatch.context() as patched, pytest.raises(CannotRun, match="on purpose"):
        patched.setattr("bought_together.ingest.run.check", fail)
        world.flatten()
    assert numbers_of(world.flatten())["0.txt"] == max(taken) + 2
    (world.lake / "file_numbers.json").unlink()
    world.write("1.txt")
    assert numbers_of(world.flatten())["1.txt"] == max(taken) + 3
    (world.lake / "file_numbers.json").write_text("{")
    world.write("2.txt")
    world.path("1.txt").unlink()
    run = world.flatten()
    assert numbers_of(run)["2.txt"] == max(taken) + 4
    world.check(run)


def test_numbers_run_out_in_one_line(world):
    before = (world.lake / "current.json").read_bytes()
    counter = world.lake / "file_numbers.json"
    counter.write_text(json.dumps({"next": FILE_NUMBER_LIMIT - 1}))
    world.write("0.txt")
    run = world.flatten()
    assert numbers_of(run)["0.txt"] == FILE_NUMBER_LIMIT - 1
    order_ids = read_parts(table_parts(str(world.lake), run, "line_items"))["order_id"]
    assert max(order_ids.to_pylist()) >> ORDER_ID_OFFSET_BITS == FILE_NUMBER_LIMIT - 1
    world.check(run)
    world.write("1.txt")
    with pytest.raises(CannotRun, match=r"has numbered 8,388,608 files.*: set LAKE_PATH to a new"):
        world.flatten()
    assert world.manifest()["run"] == run["run"] != json.loads(before)["run"]


def test_many_who_take_numbers_at_once_get_different_ones(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        firsts = list(pool.map(lambda _: take_file_numbers(str(tmp_path), 3), range(40)))
    assert sorted(firsts) == list(range(0, 120, 3))


def test_a_small_file_a_day_does_not_pile_up(world, monkeypatch):
    """They are flattened together once there are too many, under their own numbers."""
    kept = 6
    monkeypatch.setattr(known_files, "SMALL_GROUPS_KEPT", kept)
    opened = []
    for day in range(kept + 3):
        world.write(f"day-{day:03}.txt")
        world.now += HOUR
        run = world.flatten()
        opened.append(len(set(world.opened)))
    at_once = opened.index(max(opened))
    assert opened[at_once] > kept
    assert set(opened[:at_once] + opened[at_once + 1 :]) == {1}
    assert len(run["groups"]) < kept
    world.check(run)


@pytest.mark.parametrize("kept_by", ["a build", "a run in progress"])
def test_parts_stay_while_something_may_read_them(world, kept_by):
    first = world.manifest()
    if kept_by == "a build":
        folder = world.lake / "published" / "20260101T030000Z-1"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"run": first["run"]}))
    else:
        lake_module.start_run(str(world.lake), "20990101T000000000000-00000000", first["run"])
    remove_big(world)
    for _ in range(5):
        assert world.flatten()["run"] != first["run"]
    assert rows_of_parts(world, first)
    assert (world.lake / "runs" / first["run"]).exists()
    holder = "published" if kept_by == "a build" else "runs/20990101T000000000000-00000000"
    shutil.rmtree(world.lake / holder)
    run = world.flatten()
    listed = {
        part
        for manifest in (world.lake / "runs").glob("*/manifest.json")
        for parts in json.loads(manifest.read_text())["parts"].values()
        for part in parts
    }
    held = {part for table in RUN_TABLES for part in part_sizes(str(world.lake), table)}
    assert held == listed
    assert not (world.lake / "runs" / first["run"]).exists()
    world.check(run)


def rows_of_parts(world: World, run: Run) -> bool:
    return all((world.lake / part).exists() for parts in run["parts"].values() for part in parts)


@contextmanager
def killed_after(moves: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kill what flattens when it has put so many files in their places; nothing moves after."""
    left = moves
    move, remove, remove_tree = LocalFileSystem.mv, LocalFileSystem.rm_file, LocalFileSystem.rm

    def counted(function: Callable[..., Any], costs: int) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left <= 0:
                raise Killed
            left -= costs
            return function(*arguments, **options)

        return act

    with patch.context() as patched:
        patched.setattr(LocalFileSystem, "mv", counted(move, 1))
        patched.setattr(LocalFileSystem, "rm_file", counted(remove, 0))
        patched.setattr(LocalFileSystem, "rm", counted(remove_tree, 0))
        yield


def test_killed_anywhere_the_next_run_is_exact(world, monkeypatch):
    moves = 0
    while True:
        world.write("0.txt")
        rewrite_the_beginning(world)
        world.put("big.txt", world.path("big.txt").read_bytes() + b"\n")
        current = world.manifest()["run"]
        try:
            with killed_after(moves, monkeypatch):
                finished = world.flatten()
        except Killed:
            moves += 1
            if world.manifest()["run"] == current:
                world.flatten()
            world.check(world.manifest())
            continue
        world.check(finished)
        break
    assert moves > 8


NAMES = st.sampled_from(["a.txt", "b.txt", "c.txt.gz", "d.json", "e.txt", "z.txt"])
STEPS = st.one_of(
    st.tuples(st.just("write"), NAMES, st.sampled_from([3, 4, 4, 60])),
    st.tuples(st.sampled_from(["remove", "touch", "rewrite", "empty"]), NAMES),
    st.tuples(st.sampled_from(["move"]), NAMES, NAMES),
    st.tuples(st.sampled_from(["lose", "cut"]), st.integers(0, 9)),
    st.tuples(st.sampled_from(["full", "refused", "later", "later"])),
    st.tuples(st.just("killed"), st.integers(0, 12)),
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(nights=st.lists(st.lists(STEPS, min_size=0, max_size=4), min_size=1, max_size=5))
def test_any_sequence_of_changes_gives_what_a_fresh_lake_gives(nights):
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        noting(World(Path(folder)), patch) as world,
    ):
        world.write("always.txt")
        world.check(world.flatten())
        for night in nights:
            options: dict[str, Any] = {}
            for step in night:
                options |= take(world, *step)
            moves = options.pop("killed", None)
            current = world.manifest()["run"]
            if options.pop("refused", False):
                with pytest.raises(Refused):
                    world.flatten(max_reject_fraction=0)
                assert world.manifest()["run"] == current
            if moves is not None:
                with suppress(Killed), killed_after(moves, patch):
                    world.flatten(**options)
            world.check(world.flatten(**options))


def take(world: World, what: str, *details: Any) -> dict[str, Any]:
    """Take one step; returns the options of the next flatten that it sets."""
    name = details[0] if details and isinstance(details[0], str) else ""
    there = name and world.path(name).exists()
    if what == "write":
        world.write(name, details[1])
    elif what == "move" and there:
        world.path(name).replace(world.path(details[1]))
        for times in (world.written_at, world.changed_at):
            times[str(world.path(details[1]))] = times[str(world.path(name))]
    elif what == "remove" and there:
        world.path(name).unlink()
    elif what == "touch" and there:
        world.touch(name)
    elif what == "empty" and there:
        world.put(name, b"")
    elif what == "rewrite" and there and name.endswith(".txt"):
        data = world.path(name).read_bytes()
        world.put(name, data.replace(b"P0", b"Q0") if b"P0" in data else data.replace(b"Q0", b"P0"))
    elif what in ("lose", "cut"):
        parts = sorted(part for part in (world.lake / "parts").glob("[lr]*/*") if part.is_file())
        part = parts[details[0] % len(parts)]
        part.unlink() if what == "lose" else part.write_bytes(part.read_bytes()[:-1])
    elif what == "later":
        world.now += HOUR
    elif what == "full":
        return {"full_refresh": True}
    elif what in ("refused", "killed"):
        return {what: details[0] if details else True}
    return {}
