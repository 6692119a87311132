"""The product list: which lines become products, which are set aside, what stays as written.

Rejected product lines are reported and never stop a run that still has products.
"""

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from bought_together.errors import CannotRun
from bought_together.ingest.products import read_products
from bought_together.ingest.reject_rows import RAW_TEXT_LIMIT
from bought_together.ingest.run import flatten

BOM = b"\xef\xbb\xbf"
EMPTY_ID = "product: id is empty"
NOT_UTF8 = "product: not UTF-8"
DUPLICATE = "product: duplicate id"
CONTROL_ID = "product: id holds a control character"


def columns(found: str) -> str:
    return f"product: {found} where 3 tab-separated columns belong"


def read(folder: Path, *texts: str | bytes) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return the products and the (line number, reason, raw text) of rejects; counts must fit."""
    paths = [str(folder / f"products{number}.txt") for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        Path(path).write_bytes(text.encode() if isinstance(text, str) else text)
    products, rejects, counts = read_products(paths)
    assert counts["lines_read"] == counts["products"] + counts["lines_rejected"]
    assert (counts["products"], counts["lines_rejected"]) == (len(products), len(rejects))
    kept = [tuple(row.values()) for row in products.to_pylist()]
    rejected = rejects.to_pylist()
    assert {row["source"] for row in rejected} <= {"products"}
    assert {row["source_file"] for row in rejected} <= set(paths)
    return kept, [(row["line_number"], row["reason"], row["raw_text"]) for row in rejected]


KEPT = {
    "usual": ("P1\tC1\tMilk", ("P1", "C1", "Milk")),
    "leading-zeros": ("0011\t007\t0042", ("0011", "007", "0042")),
    "looks-like-a-number": ("1e3\t1.50\t-0", ("1e3", "1.50", "-0")),
    "looks-like-null": ("null\tNaN\tNone", ("null", "NaN", "None")),
    "empty-name": ("P1\tC1\t", ("P1", "C1", "")),
    "empty-category": ("P1\t\tMilk", ("P1", "", "Milk")),
    "empty-name-and-category": ("P1\t\t", ("P1", "", "")),
    "padded-id": (" \u00a0P1 \tC1\tMilk", ("P1", "C1", "Milk")),
    "spaces-inside": ("P 1\tC 1\tWhole  milk", ("P 1", "C 1", "Whole  milk")),
    "unbalanced-quote": ('P1\tC1\t19" monitor', ("P1", "C1", '19" monitor')),
    "quote-at-the-start": ('"P1\t"C1\t"Milk', ('"P1', '"C1', '"Milk')),
    "quoted": ('"P1"\tC1\t"Milk, ""whole"""', ('"P1"', "C1", '"Milk, ""whole"""')),
    "backslashes": ("P\\1\tC1\t\\N \\t", ("P\\1", "C1", "\\N \\t")),
    "commas": ("P1,2\tC1\tMilk, whole", ("P1,2", "C1", "Milk, whole")),
    "accents-and-emoji": ("É1\tC1\tCrème brûlée 🍮", ("É1", "C1", "Crème brûlée 🍮")),
    "control-characters": ("P1\tC\x01\x7f1\tMi\x00lk\x85", ("P1", "C  1", "Mi lk ")),
    "carriage-return-inside": ("P1\tC1\tMi\rlk", ("P1", "C1", "Mi lk")),
    "line-separator-inside": ("P1\tC1\tMi\u2028lk", ("P1", "C1", "Mi\u2028lk")),
    "case-of-id": ("p1\tC1\tMilk", ("p1", "C1", "Milk")),
}
REJECTED = {
    "space-separated": ("ITEM_CODE_1 M0001   Item 1 Description", columns("no tab")),
    "comma-separated": ("P1,C1,Milk", columns("no tab")),
    "two-columns": ("P1\tMilk", columns("2 columns")),
    "four-columns": ("P1\tC1\tMilk\t1.99", columns("4 columns")),
    "tab-at-the-end": ("P1\tC1\tMilk\t", columns("4 columns")),
    "tabs-alone": ("\t\t", EMPTY_ID),
    "one-tab-alone": ("\t", columns("2 columns")),
    "empty-id": ("\tC1\tMilk", EMPTY_ID),
    "white-space-id": (" \u00a0\u2003\tC1\tMilk", EMPTY_ID),
    "control-character-in-id": ("P\x001\tC1\tMilk", CONTROL_ID),
    "delete-character-in-id": ("P\x7f1\tC1\tMilk", CONTROL_ID),
    "not-utf8-name": (b"P1\tC1\tCaf\xe9", NOT_UTF8),
    "not-utf8-id": (b"\xff\tC1\tMilk", NOT_UTF8),
    "not-utf8-surrogate": (b"P1\tC1\t\xed\xa0\x80", NOT_UTF8),
    "bom-inside-the-file": ("\ufeff\tC1", columns("2 columns")),
}


@pytest.mark.parametrize(("line", "product"), KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""], ids=["lf", "crlf", "no-line-end"])
def test_a_line_becomes_a_product(tmp_path, line, product, end):
    assert read(tmp_path, "A\tC\tFirst\n" + line + end) == ([("A", "C", "First"), product], [])


@pytest.mark.parametrize(("line", "reason"), REJECTED.values(), ids=REJECTED)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_a_line_is_set_aside_and_the_others_stay(tmp_path, line, reason, end):
    line = line.encode() if isinstance(line, str) else line
    kept, rejected = read(tmp_path, end.join([b"A\tC\tFirst", line, b"B\tC\tLast", b""]))
    assert kept == [("A", "C", "First"), ("B", "C", "Last")]
    assert rejected == [(2, reason, line.decode("utf-8", "backslashreplace"))]


@pytest.mark.parametrize(
    "header",
    [
        "item\tcategory\tname",
        "ITEM\tCATEGORY\tNAME",
        "item id\tcategory\tname",
        "Item_ID\tcategory\tname",
        "product id\tcategory\tname",
        "Product_Id\tcategory\tname",
        "SKU\tcategory\tname",
        " sku \tcategory\tname",
        "sku",
        "sku\tname",
        "sku\tcategory\tname\tprice",
    ],
)
@pytest.mark.parametrize("before", ["", "\ufeff"], ids=["", "bom"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_a_header_is_skipped_and_not_counted(tmp_path, header, before, end):
    text = before + header + end + "P1\tC1\tMilk" + end + "P2" + end
    assert read(tmp_path, text) == ([("P1", "C1", "Milk")], [(3, columns("no tab"), "P2")])


@pytest.mark.parametrize(
    "first",
    ["items", "item-id", "item  id", "id", "product", "sku1", "product_name", "itemid", "'sku'"],
)
def test_a_first_line_that_is_no_header_is_a_product(tmp_path, first):
    assert read(tmp_path, f"{first}\tC\tName\n") == ([(first, "C", "Name")], [])


def test_a_header_is_one_on_the_first_line_of_each_file_alone(tmp_path):
    header = "sku\tcategory\tname\n"
    assert read(tmp_path, "P1\tC1\tMilk\n" + header)[0][1] == ("sku", "category", "name")
    assert read(tmp_path, "\n" + header) == ([("sku", "category", "name")], [])
    kept, rejected = read(tmp_path, header + "P1\tC1\tMilk\n", header + "P2\tC1\tTea\n")
    assert (kept, rejected) == ([("P1", "C1", "Milk"), ("P2", "C1", "Tea")], [])


def test_the_first_line_with_an_id_wins(tmp_path):
    first = "P1\tC1\tMilk\nP2\tC2\tTea\n P1 \tC3\tCream\np1\tC4\tOther\n"
    kept, rejected = read(tmp_path, first, "P2\tC2\tTea\nP3\tC3\tCake\n")
    assert kept == [
        ("P1", "C1", "Milk"),
        ("P2", "C2", "Tea"),
        ("p1", "C4", "Other"),
        ("P3", "C3", "Cake"),
    ]
    assert rejected == [(3, DUPLICATE, " P1 \tC3\tCream"), (1, DUPLICATE, "P2\tC2\tTea")]


def test_ids_that_differ_as_written_are_different_products(tmp_path):
    ids = ["11", "011", "11.0", "a", "A", "e\u0301", "\u00e9", "a b", "a  b"]
    kept, rejected = read(tmp_path, "".join(f"{id_}\tC\tName\n" for id_ in ids))
    assert ([product_id for product_id, *_ in kept], rejected) == (ids, [])


def test_a_bad_line_does_not_take_the_id_from_a_good_one(tmp_path):
    kept, rejected = read(tmp_path, b"P1\tC1\nP1\tC1\tCaf\xe9\nP1\tC1\tMilk\n")
    assert kept == [("P1", "C1", "Milk")]
    assert [(number, reason) for number, reason, _ in rejected] == [
        (1, columns("2 columns")),
        (2, NOT_UTF8),
    ]


@pytest.mark.parametrize("text", ["\n\nP1\tC1\tMilk\n\n", "\r\n \nP1\tC1\tMilk\r\n  \r\n"])
def test_blank_lines_are_no_lines(tmp_path, text):
    assert read(tmp_path, text) == ([("P1", "C1", "Milk")], [])


def test_rejects_lead_back_to_the_bytes_of_the_file(tmp_path):
    path = tmp_path / "products.txt"
    text = BOM + "sku\tc\tn\r\nÉ1\tC\tCafé\r\n\r\nÉ2\r\nÉ3\tC\tTea\nÉ4\tlast".encode()
    path.write_bytes(text)
    rejects = read_products([str(path)])[1].to_pylist()
    assert [row["line_number"] for row in rejects] == [4, 6]
    for row in rejects:
        assert text[row["byte_offset"] :].splitlines()[0].decode() == row["raw_text"]


def test_raw_text_of_a_reject_is_capped(tmp_path):
    (row,) = read(tmp_path, "x" * (RAW_TEXT_LIMIT + 1))[1]
    assert len(row[2]) == RAW_TEXT_LIMIT


@pytest.mark.parametrize("name", ["products.txt", "products [1] 'new'.txt", "prodütos.txt"])
def test_a_gzipped_list_reads_like_a_plain_one(tmp_path, name):
    text = BOM + b"sku\tc\tn\nP1\tC1\tMilk\nP2\n"
    plain, packed = tmp_path / name, tmp_path / f"{name}.gz"
    plain.write_bytes(text)
    packed.write_bytes(gzip.compress(text[:20]) + gzip.compress(text[20:]))
    (products, rejects, counts), expected = (read_products([str(path)]) for path in (packed, plain))
    assert (products, counts) == (expected[0], expected[2])
    assert rejects.drop_columns("source_file") == expected[1].drop_columns("source_file")


def damaged() -> bytes:
    """Return a .gz whose compressed text is no longer one, from its middle on."""
    digests = [hashlib.sha256(bytes([number])).hexdigest() for number in range(200)]
    text = "".join(f"{digest}\tC\tName\n" for digest in digests)
    packed = bytearray(gzip.compress(text.encode(), mtime=0))
    packed[len(packed) // 2 :] = bytes(byte ^ 0xFF for byte in packed[len(packed) // 2 :])
    return bytes(packed)


@pytest.mark.parametrize(
    "data",
    [
        damaged(),
        gzip.compress(b"P1\tC1\tMilk\n" * 100)[:-10],
        gzip.compress(b"P1\tC1\tMilk\n") + b"x",
    ],
    ids=["damaged", "truncated", "rubbish-after"],
)
def test_a_broken_gz_list_cannot_be_run(tmp_path, data):
    path = tmp_path / "products.txt.gz"
    path.write_bytes(data)
    with pytest.raises(CannotRun, match=r"^cannot read .*products\.txt\.gz: "):
        read_products([str(path)])


RECORD = {"itemList": [{"item": "P1"}, {"item": "P2"}]}
UNUSABLE = {
    "empty": b"",
    "blank": b"\r\n \n",
    "header-alone": b"sku\tcategory\tname\n",
    "bom-alone": BOM,
    "space-separated": b"ITEM_CODE_1 M0001   Item 1 Description\n" * 3,
    "tabs-alone": b"\t\t\n",
    "not-utf8": b"P1\tC1\tCaf\xe9\n",
}


@pytest.mark.parametrize("text", UNUSABLE.values(), ids=UNUSABLE)
def test_a_list_without_a_product_publishes_nothing(shop, text):
    shop.write_records([RECORD])
    shop.products.write_bytes(text)
    with pytest.raises(CannotRun, match="PRODUCTS contain no usable product"):
        flatten(str(shop.transactions), str(shop.products), str(shop.lake))
    assert not (shop.lake / "current.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, r"PRODUCTS \S+products\.txt does not exist", id="missing"),
        pytest.param(
            UNUSABLE["space-separated"], "PRODUCTS contain no usable product.*tab", id="no-tabs"
        ),
        pytest.param(
            gzip.compress(b"P1\tC1\tMilk\n")[:-10],
            "PRODUCTS contain no usable|cannot read",
            id="gz",
        ),
    ],
)
def test_the_program_says_what_is_wrong_in_one_line_and_leaves_the_lake(shop, text, message):
    shop.write([["P1", "P2"]], ["P1", "P2"])
    flatten(str(shop.transactions), str(shop.products), str(shop.lake))
    before = (shop.lake / "current.json").read_bytes()
    shop.products.unlink()
    if text is not None:
        shop.products.write_bytes(text)
    finished = shop.run("flatten")
    assert finished.returncode == 2
    assert re.fullmatch(rf"error: [^\n]*({message})[^\n]*\n", finished.stderr)
    assert (shop.lake / "current.json").read_bytes() == before


def test_rejected_product_lines_are_reported_and_stop_nothing(shop):
    shop.write_records([RECORD])
    shop.products.write_bytes(
        b"P1\tC1\tMilk\n" + b"P1\tC2\tCream\n" * 3 + b"P2 C1 Tea\n\xff\tC\tN\n"
    )
    finished = shop.run("flatten", MAX_REJECT_FRACTION=0)
    assert (finished.returncode, finished.stderr) == (0, "")
    manifest = shop.manifest()
    assert manifest["counts"]["products"] == {"lines_read": 6, "lines_rejected": 5, "products": 1}
    expected = {DUPLICATE: (3, 2), columns("no tab"): (1, 5), NOT_UTF8: (1, 6)}
    summary = {row["reason"]: (row["rejects"], row["line_number"]) for row in manifest["rejects"]}
    assert summary == expected
    assert all(reason in finished.stdout for reason in expected)
    assert shop.table("products").to_pylist() == [
        {"product_id": "P1", "category_code": "C1", "product_name": "Milk"}
    ]
    assert shop.table("rejects").num_rows == 5
