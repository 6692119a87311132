"""The lookup answers what the exported table holds, in every way of asking, or says why not.

The exports are written by hand, in the columns that `dbt build` promises, so that a test owns every
id, name and count in them. The last tests prove what the lookup does without: a warehouse that is
free, and a table that is whole.
"""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from bought_together.storage.lake import RUNS_KEPT
from scripts.recommend import main
from tests.support import ROOT
from tests.support.exports import CLEAR_PAIR, write_export
from tests.support.shop import Shop

ROWS = [
    # Not in order of rank: the lookup promises the order, whatever the file's own.
    ("011", 2, "12", "Crème brûlée", "", 7),
    ("011", 1, "0012", "Tea, black", "T", 40),
    ("11", 1, "011", "Milk", "M", 3_000_000_000),
    ("", 1, "011", "Milk", "M", 1),
]
PATIENCE = 60  # seconds after which a program that does not leave fails the test
LISTED = [("011", "M", "Milk"), ("11", "M", "Milk, skimmed"), ("lonely", "M", "Truffles")]


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """A shop whose table was written by hand; there is no warehouse and no run of the lake."""
    write_export(shop, ROWS, LISTED, compression="none")
    return shop


def recommend(shop: Shop, *arguments: str, **settings: object) -> Any:
    """Run the lookup inside this process, which saves starting one."""
    return CliRunner().invoke(main, arguments, env=shop.environment(**settings))


def look_up(shop: Shop, *product_ids: str) -> dict[str, list[Any]]:
    """Return what `--json` answers for each product: its rows up to the count, best first."""
    finished = recommend(shop, "--json", "--", *product_ids)
    assert finished.exit_code == 0, finished.output
    answers = [json.loads(line) for line in finished.stdout.splitlines()]
    return {
        answer["product_id"]: [list(row.values())[:5] for row in answer["recommendations"]]
        for answer in answers
    }


def ask(shop: Shop, text: bytes, *options: str, **settings: object) -> Any:
    """Give the lookup `text` on standard input."""
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "recommend.py", *options],
        env=shop.environment(**settings),
        input=text,
        capture_output=True,
        check=False,
    )


def assert_cannot_run(finished: Any, *told: object) -> None:
    """One line on standard error that says what and where, and exit status 2."""
    assert finished.exit_code == 2, finished.exception or finished.output
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert finished.stderr.startswith("error: ")
    for text in told:
        assert str(text) in finished.stderr


def test_json_has_one_object_a_line_with_the_columns_of_the_table(shop):
    finished = shop.run("recommend", "--json", "011", "11")
    first, second = map(json.loads, finished.stdout.splitlines())
    assert (first["product_id"], second["product_id"]) == ("011", "11")
    assert first["recommendations"] == [
        {
            "rank": 1,
            "product_id": "0012",
            "product_name": "Tea, black",
            "category_code": "T",
            "copurchase_count": 40,
            **CLEAR_PAIR,
        },
        {
            "rank": 2,
            "product_id": "12",
            "product_name": "Crème brûlée",
            "category_code": "",
            "copurchase_count": 7,
            **CLEAR_PAIR,
        },
    ]


def test_table_shows_rank_id_name_category_and_count(shop):
    finished = shop.run("recommend", "011")
    assert (finished.returncode, finished.stderr) == (0, "")
    words = [line.split() for line in finished.stdout.splitlines()]
    assert ["1", "0012", "Tea,", "black", "T", "40", "50.0%"] in words
    assert ["2", "12", "Crème", "brûlée", "7", "50.0%"] in words


NOTES = [
    ("copurchase", (0.125, 3.0, "clear"), "12.5%"),
    ("copurchase", (0.0004, 0.5, "weak"), "0.0% weak"),
    ("copurchase", (1.0, 9.0, "one basket"), "100.0% one basket"),
    ("pinned", (0.0, 0.0, None), "0.0% pinned"),
    ("category", (0.0, 0.0, None), "0.0% category"),
    ("bestseller", (None, None, None), "bestseller"),
]


@pytest.mark.parametrize(("source", "evidence", "told"), NOTES)
def test_a_row_that_is_not_clear_has_a_note(shop, source, evidence, told):
    rows = [("011", 1, "0012", "Tea", "T", 3, source)]
    write_export(shop, rows, LISTED, evidence={("011", 1): evidence})
    assert f"1 0012 Tea T 3 {told}\n" in " ".join(recommend(shop, "011").stdout.split()) + "\n"
    (found,) = json.loads(recommend(shop, "--json", "011").stdout)["recommendations"]
    names = ("recommendation_source", "confidence", "lift", "evidence")
    assert tuple(found[name] for name in names) == (source, *evidence)


def test_a_build_from_before_there_was_evidence_is_answered_without(shop):
    table = pq.read_table(shop.export).drop_columns(["recommendation_source"])
    pq.write_table(table, shop.export)
    (shop.published / "recommendation_evidence.parquet").unlink()
    (found, _) = json.loads(recommend(shop, "--json", "011").stdout)["recommendations"]
    nothing = {"confidence": None, "lift": None, "evidence": None}
    assert found.items() >= (nothing | {"recommendation_source": "copurchase"}).items()
    assert "Tea, black" in recommend(shop, "011").stdout


@pytest.mark.parametrize("damage", ["gone", "other rows"])
def test_evidence_of_other_rows_is_one_line(shop, damage):
    path = shop.published / "recommendation_evidence.parquet"
    if damage == "gone":
        path.unlink()
    else:
        pq.write_table(pq.read_table(path).slice(1), path)
    assert_cannot_run(recommend(shop, "011"), path)


def test_ids_stay_text(shop):
    """011 and 11 are two products, and 3,000,000,000 baskets are not rounded."""
    assert look_up(shop, "011", "11") == {
        "011": [[1, "0012", "Tea, black", "T", 40], [2, "12", "Crème brûlée", "", 7]],
        "11": [[1, "011", "Milk", "M", 3_000_000_000]],
    }


def test_unknown_ids_have_an_empty_list(shop):
    unknown = [
        "0011",
        "1",
        "11.0",
        "nan",
        "O11",
        "-1",
        "--json",
        "' or 1=1 --",
        "*",
        "é",
        "x" * 9999,
    ]
    assert look_up(shop, *unknown) == {product_id: [] for product_id in unknown}


def test_known_and_unknown_ids_are_answered_in_the_order_asked(shop):
    assert list(look_up(shop, "11", "nobody", "011")) == ["11", "nobody", "011"]


def test_product_without_a_recommendation_is_told_in_one_line(shop):
    finished = recommend(shop, "nobody")
    assert (finished.exit_code, finished.stderr) == (0, "")
    assert finished.stdout == "No recommendations for nobody.\n"


def test_products_are_named_where_they_are_listed(shop):
    """Also a product that nobody bought with another: it is in the list, not in the table."""
    finished = recommend(shop, "--json", "011", "lonely", "nobody")
    names = [json.loads(line)["product_name"] for line in finished.stdout.splitlines()]
    assert names == ["Milk", "Truffles", None]


def test_piped_ids_are_answered_line_by_line_without_a_prompt(shop):
    finished = ask(shop, b"011\n\n  11 \r\nnobody", "--json")
    assert finished.returncode == 0
    answers = [json.loads(line) for line in finished.stdout.splitlines() if line]
    assert [answer["product_id"] for answer in answers] == ["011", "11", "nobody"]
    assert [len(answer["recommendations"]) for answer in answers] == [2, 1, 0]
    assert b"Ctrl-D" not in finished.stdout + finished.stderr


def test_nothing_piped_is_no_error(shop):
    finished = ask(shop, b"")
    assert (finished.returncode, finished.stderr) == (0, b"")


def test_bytes_that_are_no_text_do_not_end_the_questions(shop):
    strict = "utf-8:strict"  # what Python does in most locales; in C.UTF-8 it is lenient
    finished = ask(shop, b"\xff\n11\n", PYTHONIOENCODING=strict)
    assert finished.returncode == 0, finished.stderr
    assert b"3000000000" in finished.stdout


def test_prompt_on_a_terminal_asks_again_until_ctrl_d(shop):
    terminal = Terminal(shop)
    terminal.read_until("product id (Ctrl-D leaves): ")
    terminal.type("011\n")
    assert "Crème brûlée" in terminal.read_until("product id (Ctrl-D leaves): ")
    terminal.type("nobody\n")
    assert "No recommendations for nobody." in terminal.read_until("(Ctrl-D leaves): ")
    terminal.type("\x04")
    assert terminal.leave() == 0


class Terminal:
    """The lookup in a terminal of its own."""

    def __init__(self, shop: Shop) -> None:
        self.screen, inside = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "scripts" / "recommend.py"],
            env=shop.environment(),
            stdin=inside,
            stdout=inside,
            stderr=inside,
        )
        os.close(inside)

    def read_until(self, text: str) -> str:
        """Return what appears up to `text`; fails where the program ends before."""
        seen = b""
        while text.encode() not in seen:
            try:
                more = os.read(self.screen, 4096)
            except OSError:  # how Linux says that nobody is at the other end
                more = b""
            assert more, f"it ended and never said {text!r}: {seen!r}"
            seen += more
        return seen.decode()

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def leave(self) -> int:
        """Return the exit status, once the program has ended."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            os.close(self.screen)


def test_no_table_is_one_line(shop):
    pointer = shop.lake / "published.json"
    pointer.unlink()
    assert_cannot_run(recommend(shop, "011"), pointer, "make build")
    assert shop.run("recommend", "011").returncode == 2


def test_no_table_is_told_before_any_question(shop):
    pointer = shop.lake / "published.json"
    pointer.unlink()
    assert_cannot_run(recommend(shop), pointer)


@pytest.mark.parametrize("kept", [0, 3, 4, 100, -9, -1])
def test_part_of_a_table_is_one_line(shop, kept):
    shop.export.write_bytes(shop.export.read_bytes()[:kept])
    assert_cannot_run(recommend(shop, "011"), shop.export)


def test_anything_but_a_table_is_one_line(shop):
    shop.export.write_bytes(b"product_id,recommendation_rank\n011,1\n" * 99)
    assert_cannot_run(recommend(shop, "011"), shop.export)
    shop.export.unlink()
    shop.export.mkdir()
    assert_cannot_run(recommend(shop, "011"), shop.export)


def test_damaged_text_is_one_line(shop):
    damaged = shop.export.read_bytes().replace(b"Tea, black", b"Tea,\xffblack")
    shop.export.write_bytes(damaged)
    assert_cannot_run(recommend(shop, "011"), shop.export)


def test_table_without_a_column_is_one_line(shop):
    table = pq.read_table(shop.export).drop_columns(["copurchase_count"])
    pq.write_table(table, shop.export)
    assert_cannot_run(recommend(shop, "011"), shop.export, "copurchase_count")


def test_folder_that_is_a_file_is_one_line(shop, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    assert_cannot_run(recommend(shop, "011", LAKE_PATH=in_the_way), in_the_way)


def test_table_with_no_rows_answers_with_empty_lists(shop):
    write_export(shop, [], LISTED)
    assert look_up(shop, "011") == {"011": []}
    assert ask(shop, b"011\n").returncode == 0


@pytest.mark.parametrize("content", ["", '{"build": ', "[]", "{}", '{"build": 7}'])
def test_a_damaged_pointer_is_one_line(shop, content):
    pointer = shop.lake / "published.json"
    pointer.write_text(content)
    assert_cannot_run(recommend(shop, "011"), pointer)


def test_products_that_cannot_be_read_are_one_line_and_not_left_out(shop):
    products = shop.published / "products.parquet"
    products.write_bytes(products.read_bytes()[:-9])
    assert_cannot_run(recommend(shop, "011"), products)


def test_names_are_those_of_the_build_also_after_many_newer_runs(shop):
    """Flattened again and again without a build: the lookup needs nothing of the build's run."""
    shutil.rmtree(shop.lake)
    shop.write([["011", "11"], ["11", "12"]], [])
    shop.write_products(f"{product}\t{category}\t{name}" for product, category, name in LISTED)
    shop.build()
    built = shop.run_folder
    shop.write_products(f"{product}\t{category}\tRenamed" for product, category, _ in LISTED)
    for _ in range(RUNS_KEPT + 1):
        assert shop.run("flatten").returncode == 0
    shutil.rmtree(built)
    finished = recommend(shop, "--json", "011")
    assert json.loads(finished.stdout)["product_name"] == "Milk"


def test_the_lookup_leaves_the_warehouse_alone(shop, tmp_path):
    """It answers while another program holds the warehouse, or while there is none at all."""
    hold = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held'); sys.stdin.read()"
    program = [sys.executable, "-u", "-c", hold, shop.warehouse]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert shop.run("recommend", "011").returncode == 0
        holder.stdin.close()
    elsewhere: Path = tmp_path / "none" / "warehouse.duckdb"
    assert shop.run("recommend", "011", DUCKDB_PATH=elsewhere).returncode == 0
    assert not elsewhere.parent.exists()


MANY = 200
LOOK_UP_AND_END = f"""
import gc, os
from scripts.recommend import main

main(["--json", "nobody"], standalone_mode=False)  # imports what the children need
gc.freeze()  # saves them a look at all that was imported
for _ in range({MANY}):
    if not (child := os.fork()):
        try:
            main(["--json", "011"])
        finally:
            if len(os.listdir("/proc/self/task")) > 1:
                os._exit(9)
    _, status = os.waitpid(child, 0)
    assert status == 0, os.waitstatus_to_exitcode(status)
"""


def test_the_lookup_starts_no_thread_that_could_take_down_its_end(shop):
    """A thread that pyarrow starts while the program ends aborts it, once in some hundred runs."""
    finished = subprocess.run(
        [sys.executable, "-c", LOOK_UP_AND_END],
        cwd=ROOT,
        env=shop.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.count('"product_name": "Milk"') == MANY
