"""The product list: which lines become products, which are set aside, what stays as written.

Rejected product lines are reported and never stop a run that still has products.
"""

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from bought_together.errors import CannotRun, Refused
from bought_together.ingest import products as products_module
from bought_together.ingest import record_rules
from bought_together.ingest.products import read_products
from bought_together.ingest.reject_rows import RAW_TEXT_LIMIT
from bought_together.ingest.run import flatten
from tests.support.compression import zstd
from tests.support.processes import assert_one_line

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
    "control-characters": ("P1\tC\x01\x7f1\tMi\x00lk\x85", ("P1", "C  1", "Mi lk")),
    "padded-name-and-category": ("P1\t C1\u00a0\t\u2003Milk  ", ("P1", "C1", "Milk")),
    "white-space-alone": ("P1\t \u00a0\t\u2003", ("P1", "", "")),
    "padded-with-control-characters": ("P1\t\x00C1\t\x1f Milk\x0b", ("P1", "C1", "Milk")),
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


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gz", "zst"])
@pytest.mark.parametrize("name", ["products.txt", "products [1] 'new'.txt", "prodütos.txt"])
def test_a_compressed_list_reads_like_a_plain_one(tmp_path, name, pack):
    text = BOM + b"sku\tc\tn\nP1\tC1\tMilk\nP2\n"
    plain, packed = tmp_path / name, tmp_path / f"{name}.packed"
    plain.write_bytes(text)
    packed.write_bytes(pack(text[:20]) + pack(text[20:]))
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
        zstd(b"P1\tC1\tMilk\n" * 100)[:-3],
    ],
    ids=["damaged", "truncated", "rubbish-after", "truncated-zst"],
)
def test_a_broken_compressed_list_cannot_be_run(tmp_path, data):
    path = tmp_path / "products.txt.gz"
    path.write_bytes(data)
    with pytest.raises(CannotRun, match=r"^cannot read .*products\.txt\.gz: "):
        read_products([str(path)])


RECORD = {"itemList": [{"item": "P1"}, {"item": "P2"}]}
UNUSABLE = {
    "space-separated": b"ITEM_CODE_1 M0001   Item 1 Description\n" * 3,
    "tabs-alone": b"\t\t\n",
    "not-utf8": b"P1\tC1\tCaf\xe9\n",
}


EMPTY = {
    "empty": b"",
    "blank": b"\r\n \n",
    "header-alone": b"sku\tcategory\tname\n",
    "bom-alone": BOM,
}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        *(pytest.param(Refused, text, id=name) for name, text in UNUSABLE.items()),
        *(pytest.param(CannotRun, text, id=name) for name, text in EMPTY.items()),
    ],
)
def test_a_list_without_a_product_publishes_nothing(shop, error, text):
    shop.write_records([RECORD])
    shop.products.write_bytes(text)
    with pytest.raises(error, match="PRODUCTS contain no usable product"):
        flatten(str(shop.transactions), str(shop.products), str(shop.lake))
    assert not (shop.lake / "current.json").exists()


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        pytest.param(None, 2, r"PRODUCTS \S+products\.txt does not exist", id="missing"),
        pytest.param(b"", 2, "PRODUCTS contain no usable product and no line", id="empty"),
        pytest.param(
            UNUSABLE["space-separated"],
            1,
            "PRODUCTS contain no usable product: 3 of 3 lines are rejected.*tab",
            id="no-tabs",
        ),
        pytest.param(
            gzip.compress(b"P1\tC1\tMilk\n")[:-10],
            2,
            "PRODUCTS contain no usable|cannot read",
            id="gz",
        ),
        pytest.param(
            b"P1\tC\tCaf\xe9\nP2\tC\tCr\xe8me\nP3\tC\tTea\n",
            1,
            "products.txt is not UTF-8: 2 of 3 lines look like Windows-1252.*iconv",
            id="one-byte-encoding",
        ),
    ],
)
def test_the_program_says_what_is_wrong_in_one_line_and_leaves_the_lake(
    shop, text, status, message
):
    shop.write([["P1", "P2"]], ["P1", "P2"])
    flatten(str(shop.transactions), str(shop.products), str(shop.lake))
    before = (shop.lake / "current.json").read_bytes()
    shop.products.unlink()
    if text is not None:
        shop.products.write_bytes(text)
    finished = shop.run("flatten")
    assert finished.returncode == status
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


def test_a_list_without_a_product_prints_the_reasons(shop):
    shop.write_records([RECORD])
    shop.products.write_bytes(UNUSABLE["space-separated"] + b"\tC\tTea\n")
    finished = shop.run("flatten")
    assert_one_line(finished, 1, "4 of 4 lines are rejected", f"{shop.lake}/runs/")
    assert f"3 x {columns('no tab')}, first at {shop.products}:1\n" in finished.stdout
    assert f"1 x {EMPTY_ID}, first at {shop.products}:4\n" in finished.stdout


@pytest.mark.parametrize("text_encoding", ["latin-1", "cp1252", "iso8859-15", "cp850"])
def test_a_list_in_a_one_byte_encoding_is_refused_as_that(tmp_path, text_encoding):
    text = "".join(f"P{n}\tC\t{'Crème' if n % 4 == 0 else 'Tea'}\n" for n in range(40))
    with pytest.raises(Refused, match="is not UTF-8: 10 of 40 lines look like") as refused:
        read(tmp_path, text.encode(text_encoding))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("broken", "utf8", "ascii_lines", "is_refused"),
    [
        (1, 0, 1, False),
        (2, 0, 1, True),
        (2, 2, 0, False),
        (3, 2, 0, True),
        (10, 0, 990, False),
        (11, 0, 9990, True),
        (11, 11, 0, False),
    ],
)
def test_a_few_broken_lines_are_no_encoding(tmp_path, broken, utf8, ascii_lines, is_refused):
    text = b"".join(b"B%d\tC\tCr\xe8me\n" % n for n in range(broken))
    text += "".join(f"U{n}\tC\tCrème\n" for n in range(utf8)).encode()
    text += b"".join(b"A%d\tC\tTea\n" % n for n in range(ascii_lines))
    if is_refused:
        with pytest.raises(Refused):
            read(tmp_path, text)
    else:
        kept, rejected = read(tmp_path, text)
        assert (len(kept), len(rejected)) == (utf8 + ascii_lines, broken)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("text_encoding", ["utf-16-le", "utf-16-be"])
def test_a_list_in_utf16_reads_like_one_in_utf8(tmp_path, text_encoding, packed):
    text = "\ufeffSKU\tCategory\tName\r\nP1\tC1\tCrème brûlée 🍮\r\nÉ2\r\nP3\tC1\tTea\r\n"
    data = text.encode(text_encoding)
    kept, rejected = read(tmp_path, gzip.compress(data) if packed else data)
    assert kept == [("P1", "C1", "Crème brûlée 🍮"), ("P3", "C1", "Tea")]
    assert rejected == [(3, columns("no tab"), "É2")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param("\ufeffP1\tC\tTea\n".encode("utf-16-le")[:-1], "cannot read", id="cut-off"),
        pytest.param("\ufeffP1\tC\tTea\n".encode("utf-32-le"), "is UTF-32", id="utf-32"),
    ],
)
def test_a_list_in_broken_utf16_cannot_be_run(tmp_path, data, message):
    with pytest.raises(CannotRun, match=message):
        read(tmp_path, data)


def test_half_a_surrogate_pair_in_utf16_spoils_one_line(tmp_path):
    text = "\ufeffP1\tC\t\ud83d\nP2\tC\tTea\n"
    kept, rejected = read(tmp_path, text.encode("utf-16-le", "surrogatepass"))
    assert kept == [("P2", "C", "Tea")]
    assert [(number, reason) for number, reason, _ in rejected] == [(1, NOT_UTF8)]


def test_a_line_without_an_end_is_skipped_in_flat_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(record_rules, "LONGEST_RECORD", 100)
    monkeypatch.setattr(products_module, "CHARACTERS_READ", 64)
    text = "A\tC\tFirst\n" + "x" * 1000 + "\nB\tC\tTea\nrubbish\n"
    kept, rejected = read(tmp_path, text)
    assert kept == [("A", "C", "First"), ("B", "C", "Tea")]
    assert rejected == [
        (2, "product: longer than 16 MiB", "x" * 100),
        (4, columns("no tab"), "rubbish"),
    ]
