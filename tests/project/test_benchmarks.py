"""The benchmark harness: what it measures, what it reports of those that fail, who agrees."""

import os
import select as readiness
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click import ClickException

from benchmarks import refresh
from benchmarks.agreement import Counting, counting_disagreement, disagreement, read_top_counts
from benchmarks.lineup import BASELINE, COUNTING, END_TO_END, Contender, lineup
from benchmarks.measure import Measurement, measure
from benchmarks.prepare import Data, prepare
from benchmarks.results import rows_of, to_json, to_table
from benchmarks.rounds import Entry, Expected, Limits, run_round
from benchmarks.run import select
from bought_together.samples.simulated import Shop, generate
from tests.support import ROOT, oracle

BLOCK_FOREVER = "import os; os.read(os.pipe()[0], 1)"
AMPLE = Limits(seconds=60, bytes=2**40)
MEBIBYTE = 2**20


def write_answer(path: Path, rows: list[tuple[str, str, int]]) -> Path:
    names = ("product_id", "recommended_product_id", "copurchase_count")
    pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), path)
    return path


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def stand_in(name: str, command: list[str], output: str | None = None) -> Contender:
    return Contender(name, command, (END_TO_END,), output=output)


def copies(name: str, answer: Path) -> Contender:
    """Return a contender whose answer is ready."""
    return stand_in(name, ["cp", str(answer), "answer.parquet"], "answer.parquet")


ANSWER = [("A", "B", 3), ("A", "C", 2), ("B", "A", 3), ("C", "A", 2)]


class TestAgreement:
    @pytest.fixture
    def expected(self, tmp_path):
        return read_top_counts(write_answer(tmp_path / "expected.parquet", ANSWER))

    @pytest.mark.parametrize(
        "rows",
        [
            ANSWER[::-1],
            [("A", "B", 3), ("A", "D", 2), ("B", "A", 3), ("C", "D", 2)],
        ],
        ids=["other order", "ties broken otherwise"],
    )
    def test_the_same_counts_agree(self, tmp_path, expected, rows):
        found = read_top_counts(write_answer(tmp_path / "found.parquet", rows))
        assert disagreement(expected, found) is None

    @pytest.mark.parametrize(
        ("rows", "products"),
        [
            ([("A", "B", 3), ("A", "C", 1), *ANSWER[2:]], 1),
            (ANSWER[:3], 1),
            ([*ANSWER, ("D", "A", 1)], 1),
            ([("A", "A", 3), *ANSWER[1:]], 1),
            ([("A", "B", 3), ("A", "B", 3), *ANSWER[2:]], 1),
            ([(product, other, count + 1) for product, other, count in ANSWER], 3),
        ],
        ids=["a count", "one missing", "one too many", "itself", "one twice", "all"],
    )
    def test_other_counts_are_told(self, tmp_path, expected, rows, products):
        found = read_top_counts(write_answer(tmp_path / "found.parquet", rows))
        assert disagreement(expected, found) == f"disagrees: {products} products"

    def test_counting_is_compared_where_both_tell(self):
        expected = Counting(1.0, pairs=4000, occurrences=9000)
        assert counting_disagreement(expected, Counting(2.0, 4000, 9000)) is None
        assert counting_disagreement(expected, Counting(2.0)) is None
        told = counting_disagreement(expected, Counting(2.0, 3999, 9000))
        assert told == "disagrees: 3,999 pairs for 4,000"


class TestMeasure:
    def test_a_process_that_ends_is_measured(self, tmp_path):
        run = measure(python("print('done')"), dict(os.environ), tmp_path, 60, 2**40)
        assert run.failure is None
        assert run.seconds > 0 and run.cpu_seconds > 0
        assert (tmp_path / "stdout").read_text() == "done\n"

    def test_one_that_goes_on_is_out_of_time(self, tmp_path):
        run = measure(python(BLOCK_FOREVER), dict(os.environ), tmp_path, 0.3, 2**40)
        assert run.failure == "out of time"

    def test_memory_is_that_of_all_processes_together(self, tmp_path):
        hold = f"held = b'x' * {80 * MEBIBYTE}; {BLOCK_FOREVER}"
        both = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}"
        run = measure(python(both), dict(os.environ), tmp_path, 60, 140 * MEBIBYTE)
        assert run.failure == "out of memory"
        assert run.peak_bytes > 140 * MEBIBYTE

    @pytest.mark.parametrize(
        ("program", "reason"),
        [
            ("import sys; sys.exit('first\\nno such thing\\n')", "failed: no such thing"),
            ("import sys; sys.exit(3)", "failed: exit status 3"),
            ("import os; os.kill(os.getpid(), 9)", "failed: exit status -9"),
        ],
    )
    def test_one_that_fails_says_why(self, tmp_path, program, reason):
        run = measure(python(program), dict(os.environ), tmp_path, 60, 2**40)
        assert run.failure == reason

    def test_nothing_goes_on_running(self, tmp_path):
        for name in ("alive", "never"):
            os.mkfifo(tmp_path / name)
        alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
        try:
            # `cat` holds the pipe open for as long as it lives, and nobody writes to what it reads.
            leave = ["sh", "-c", "exec 3> alive; echo x >&3; cat never & exit 0"]
            assert measure(leave, dict(os.environ), tmp_path, 60, 2**40).failure is None
            assert os.read(alive, 10) == b"x\n"
            assert readiness.select([alive], [], [], 60)[0]
            assert os.read(alive, 10) == b""
        finally:
            os.close(alive)


class TestRounds:
    def test_those_that_fail_are_told_and_the_rest_go_on(self, tmp_path):
        answer = write_answer(tmp_path / "answer.parquet", ANSWER)
        wrong = write_answer(tmp_path / "wrong.parquet", ANSWER[1:])
        contenders = [
            copies("first", answer),
            stand_in("missing", ["/no/such/program"]),
            stand_in("failing", python("raise SystemExit('it broke')")),
            stand_in("greedy", python(f"held = b'x' * {2**28}; {BLOCK_FOREVER}")),
            stand_in("idle", python(""), "answer.parquet"),
            copies("wrong", wrong),
            copies("last", answer),
        ]
        entries = [Entry(contender) for contender in contenders]
        expected, told = Expected(), []
        for _ in range(2):
            run_round(
                entries,
                tmp_path / "scratch",
                Limits(60, 128 * MEBIBYTE),
                expected,
                lambda entry: told.append(entry.contender.name),
            )
        failures = {entry.contender.name: entry.failure for entry in entries}
        assert failures.pop("missing").startswith("failed: FileNotFoundError")
        assert failures.pop("idle").startswith("failed: IOException")
        assert failures == {
            "first": None,
            "failing": "failed: it broke",
            "greedy": "out of memory",
            "wrong": "disagrees: 1 products",
            "last": None,
        }
        assert told == [contender.name for contender in contenders] + ["first", "last"]
        assert [len(entry.runs) for entry in entries] == [2, 0, 1, 1, 1, 1, 2]
        assert not (tmp_path / "scratch").exists()

    def test_each_run_finds_an_empty_folder(self, tmp_path):
        leaves = stand_in("leaves", ["mkdir", "something"])
        entries = [Entry(leaves), Entry(leaves)]
        run_round(entries, tmp_path / "scratch", AMPLE, Expected())
        assert [entry.failure for entry in entries] == [None, None]


class TestResults:
    def entry(self, name: str, *seconds: float, failure: str | None = None) -> Entry:
        runs = [Measurement(each, 2 * each, int(each * MEBIBYTE)) for each in seconds]
        return Entry(stand_in(name, []), runs, failure=failure)

    def entries(self) -> list[Entry]:
        return [
            self.entry("slow", 9, 30, 10),
            self.entry(BASELINE[END_TO_END], 4, 2),
            self.entry("broken", 1, failure="failed: a | b"),
            self.entry("fast", 1.5),
        ]

    def test_table_has_medians_and_ratios_the_fastest_first(self):
        assert to_table(rows_of(self.entries(), END_TO_END), END_TO_END, "pipe").split("\n")[
            2:
        ] == [
            "| fast                         |           1.5 |     3.0 |                 2 |"
            "                 0.50 |",
            "| bought-together, Dask engine |           3.0 |     6.0 |                 3 |"
            "                 1.00 |",
            "| slow                         |          10.0 |    20.0 |                10 |"
            "                 3.33 |",
            "| broken                       | failed: a / b |         |                   |"
            "                      |",
        ]

    def test_without_the_baseline_there_is_no_ratio(self):
        rows = rows_of([self.entry("alone", 1)], END_TO_END)
        assert [(row.seconds, row.ratio) for row in rows] == [(1, None)]

    def test_counting_has_a_table_of_its_own(self):
        counter = Contender("counter", [], (COUNTING,))
        both = Contender("both", [], (END_TO_END, COUNTING))
        run = Measurement(50, 60, 70)
        entries = [
            Entry(both, [run], [Counting(2.0, 4000, 9000)]),
            Entry(counter, [run] * 3, [Counting(1.0), Counting(3.0), Counting(1.5)]),
            self.entry("whole", 1),
        ]
        rows = rows_of(entries, COUNTING)
        found = [(row.name, row.seconds, row.peak_bytes, row.pairs) for row in rows]
        assert found == [("counter", 1.5, 70, None), ("both", 2.0, None, 4000)]

    def test_json_keeps_every_run(self):
        entries = self.entries()
        text = to_json(rows_of(entries, END_TO_END), entries, END_TO_END, {"size": "1m"})
        assert text.count('"peak_bytes"') == 4 + 7

    def test_the_same_results_draw_the_same_chart(self, tmp_path):
        pytest.importorskip("matplotlib")
        from benchmarks.chart import draw

        rows = rows_of(self.entries(), END_TO_END)
        for name in ("first.svg", "again.svg"):
            draw(rows, "Title", "caption", "seconds", tmp_path / name)
        first, again = ((tmp_path / name).read_text() for name in ("first.svg", "again.svg"))
        assert first == again
        assert all(row.name in first for row in rows)
        assert "failed: a | b" in first


class TestLineup:
    @pytest.fixture
    def contenders(self, tmp_path):
        return lineup(Data(tmp_path), tmp_path / "scratch")

    def test_every_program_competes(self, contenders):
        modules = {part for each in contenders for part in each.command[1:3]}
        programs = {ROOT / f"{module.replace('.', '/')}.py" for module in modules}
        for folder, shared in (("contenders", "matrix.py"), ("counting", "timed.py")):
            found = set((ROOT / "benchmarks" / folder).glob("*.py"))
            assert found - programs == {ROOT / "benchmarks" / folder / shared}
        assert {BASELINE[END_TO_END], BASELINE[COUNTING]} <= {each.name for each in contenders}

    def test_select_takes_sizes_suites_and_parts_of_names(self, contenders):
        def names(*arguments):
            return [each.name for each in select(contenders, *arguments)]

        assert names("1m", [END_TO_END], ["DASK"]) == [
            "bought-together, Dask engine",
            "Dask bag and data frame",
        ]
        assert names("8m", [END_TO_END], ["dask"]) == ["bought-together, Dask engine"]
        assert "Polars" not in names("1m", [COUNTING], [])
        assert names("1m", [END_TO_END, COUNTING], []) == [each.name for each in contenders]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    folder = tmp_path_factory.mktemp("data")
    generate(Shop(products=200, themes=10, returns=0.1), 300, folder)
    return Data(folder)


def test_plain_sql_gives_the_counts_of_the_oracle(data, tmp_path):
    program = ROOT / "benchmarks" / "contenders" / "duckdb_sql.py"
    output = tmp_path / "output.parquet"
    subprocess.run(
        [sys.executable, program, data.transactions, data.products, output],
        cwd=tmp_path,
        check=True,
    )
    expected = defaultdict(list)
    catalogue = oracle.read_catalogue(data.products)
    for row in oracle.recommend(oracle.read_baskets(data.transactions), catalogue):
        expected[row[0]].append(row[-1])
    found = {product: list(counts) for product, counts in read_top_counts(output).items()}
    assert found == {product: sorted(counts)[::-1] for product, counts in expected.items()}


def test_basket_items_are_the_baskets_of_the_oracle(data, tmp_path):
    shutil.copy(data.transactions, tmp_path)
    prepare(Data(tmp_path), baskets=300, products=200)
    items = pq.read_table(tmp_path / "basket_items.parquet")
    assert items.schema.types == [pa.int64(), pa.int32()]
    rows = list(zip(*items.to_pydict().values(), strict=True))
    assert rows == sorted(set(rows))

    baskets = list(oracle.read_baskets(data.transactions))
    counts = Counter(product for basket in baskets for product in basket)
    ordered = sorted(counts, key=lambda product: (-counts[product], product))
    keys = {product: key for key, product in enumerate(ordered, start=1)}
    assert rows == sorted(
        (order_id, keys[product]) for order_id, basket in enumerate(baskets) for product in basket
    )


def test_each_night_has_one_new_file_and_loses_the_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr(refresh, "DAYS", 3)
    records = [f"record {number}\n" for number in range(50)]
    whole = tmp_path / "transactions.txt"
    whole.write_text("".join(records))
    paths = refresh.split(whole, tmp_path / "days", 5)
    assert "".join(path.read_text() for path in paths) == "".join(records)
    assert all(path.read_text().endswith("\n") for path in paths)
    window = tmp_path / "window"
    seen = [sorted(path.name for path in window.iterdir()) for _ in refresh.nights(paths, window)]
    names = [path.name for path in paths]
    assert seen == [names[first : first + 3] for first in range(3)]


def test_jobs_of_a_night_must_agree(tmp_path):
    def job(name: str, count: int) -> refresh.Job:
        answer = write_answer(tmp_path / f"{name}.parquet", [("a", "b", count)])
        copy = f"import shutil; shutil.copy({str(answer)!r}, 'recommendations.parquet')"
        return refresh.Job(name, python(copy), {}, tmp_path / name, starts_anew=True)

    same = [job("first", 2), job("second", 2)]
    refresh.run_night(same, memory_limit=2**30)
    assert [len(each.runs) for each in same] == [1, 1]
    assert "| second " in refresh.table_of(same, "pipe")
    with pytest.raises(ClickException, match=r"^third "):
        refresh.run_night([job("first", 2), job("third", 3)], memory_limit=2**30)
