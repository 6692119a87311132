"""Input files: which are found, which are refused and how, how they are cut, what leads back.

A refused input is one line on standard error and an exit status, and leaves the lake as it was.
Cutting a file into blocks of any size reads every record once, with the same order id, and the
order id leads back to the record in its file.
"""

import gzip
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bought_together.errors import CannotRun
from bought_together.ingest import byte_ranges, inputs
from bought_together.ingest.byte_ranges import plan_byte_ranges, read_lines
from bought_together.ingest.inputs import inspect_files
from bought_together.ingest.json_lists import array_elements
from bought_together.ingest.line_items import ORDER_ID_OFFSET_BITS
from bought_together.ingest.patterns import find_files
from bought_together.ingest.run import flatten
from tests.support.compression import zstd
from tests.support.processes import assert_one_line

BOM = b"\xef\xbb\xbf"
SAMPLE = [
    {
        "date": "2017.04.06 12:09:32",
        "itemList": [{"item": f"ITEM_{i}", "quantity": i}],
        "store": "1",
    }
    for i in range(8)
]
LINES = [json.dumps(record).encode() for record in SAMPLE]
TEXT = b"".join(line + b"\n" for line in LINES)
ARRAY = b"[" + b",".join(LINES) + b"]"
BLOCK_SIZES = [1, 2, 7, 64, 1000, 1 << 20]


def noisy_records() -> bytes:
    """Return records of which hardly anything repeats, so that a block packs to over 64 KiB."""
    chance = random.Random(0)
    return b"".join(b'{"itemList": [{"item": "%b"}]}\n' % noise(chance) for _ in range(2000))


def noise(chance: random.Random) -> bytes:
    return bytes(chance.choices(PRINTABLE, k=200))


PRINTABLE = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
NOISE = noisy_records()
SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0size"  # a frame that readers skip


def corrupt(packed: bytes) -> bytes:
    """Return a compressed file that is damaged from its middle on."""
    middle = len(packed) // 2
    return packed[:middle] + bytes(byte ^ 0xFF for byte in packed[middle:])


def corrupt_gzip() -> bytes:
    text = b"".join(hashlib.sha256(line).hexdigest().encode() + line for line in LINES * 50)
    return corrupt(gzip.compress(text, mtime=0))


def flatten_shop(shop, transactions: object = None, **settings: Any) -> dict[str, int]:
    """Flatten the shop's files, whatever share of them is bad, and return the counts."""
    if not shop.products.exists():
        shop.write_products(["ITEM_1\tC\tName"])
    paths = (str(transactions or shop.transactions), str(shop.products), str(shop.lake))
    manifest = flatten(*paths, **{"max_reject_fraction": 1, **settings})
    return manifest["counts"]["transactions"]


def product_ids(shop) -> Counter[str]:
    return Counter(shop.table("line_items")["product_id"].to_pylist())


ONCE = Counter(f"ITEM_{i}" for i in range(8))


@pytest.mark.parametrize(
    ("name", "data", "times"),
    [
        pytest.param("transactions.txt", TEXT, 1, id="text"),
        pytest.param("transactions.txt.gz", gzip.compress(TEXT), 1, id="gz"),
        pytest.param("transactions.txt", gzip.compress(TEXT), 1, id="gz-without-suffix"),
        pytest.param("transactions.gz", TEXT, 1, id="suffix-gz-without-gz"),
        pytest.param("transactions", gzip.compress(TEXT) * 3, 3, id="gz-of-several-members"),
        pytest.param(
            "t", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]), 1, id="gz-cut-in-a-line"
        ),
        pytest.param("t", gzip.compress(b"") + gzip.compress(TEXT), 1, id="gz-first-member-empty"),
        pytest.param("t", gzip.compress(TEXT) + bytes(512), 1, id="gz-padded-with-zeros"),
        pytest.param("t", gzip.compress(BOM + TEXT), 1, id="gz-with-bom"),
        pytest.param("transactions.txt.zst", zstd(TEXT), 1, id="zst"),
        pytest.param("transactions.zst", TEXT, 1, id="suffix-zst-without-zst"),
        pytest.param("t", zstd(TEXT) * 3, 3, id="zst-of-several-frames"),
        pytest.param("t", zstd(TEXT[:100]) + zstd(TEXT[100:]), 1, id="zst-cut-in-a-line"),
        pytest.param("t", SKIPPED + zstd(b"") + zstd(TEXT) + SKIPPED, 1, id="zst-of-other-frames"),
        pytest.param("t", zstd(BOM + TEXT), 1, id="zst-with-bom"),
        pytest.param("my transactions.txt", TEXT, 1, id="space"),
        pytest.param("transactions[1].txt", TEXT, 1, id="brackets"),
        pytest.param("transactions*?.txt", TEXT, 1, id="glob-characters"),
        pytest.param('it\'s "quoted" $HOME `x`.txt', TEXT, 1, id="quotes"),
        pytest.param("#1 100% {a}.txt", TEXT, 1, id="other-characters"),
        pytest.param("transações 🛒.txt", TEXT, 1, id="accents-and-emoji"),
    ],
)
def test_a_file_is_read_whatever_its_name_and_compression(shop, name, data, times):
    path = shop.folder / name
    path.write_bytes(data)
    counts = flatten_shop(shop, path, block_size=150)
    assert counts["records_read"] == counts["records_kept"] == times * len(LINES)
    assert product_ids(shop) == Counter(dict.fromkeys(ONCE, times))
    assert [file["path"] for file in shop.manifest()["files"]] == [str(path)]


def test_files_are_named_by_commas_and_globs_in_order_and_each_counts_once(tmp_path, monkeypatch):
    for name in ("b.txt", "a.txt", "c[1].txt", "d.gz", "e,f.gz", "sales, january.txt"):
        (tmp_path / name).write_bytes(TEXT)
    (tmp_path / "sub.txt").mkdir()
    monkeypatch.chdir(tmp_path)

    def names(patterns: str) -> list[str]:
        return [str(Path(path).relative_to(tmp_path)) for path in find_files(patterns, "FILES")]

    assert names("b.txt,a.txt") == ["b.txt", "a.txt"]
    assert names(" b.txt , a.txt ,") == ["b.txt", "a.txt"]
    assert names("*.txt") == ["a.txt", "b.txt", "c[1].txt", "sales, january.txt"]
    assert names("d.gz,?.txt,?[[]?].txt") == ["d.gz", "a.txt", "b.txt", "c[1].txt"]
    assert names("sales, january.txt") == ["sales, january.txt"]
    assert names("a.txt, sales, january.txt ,e,f.gz, b.txt") == [
        "a.txt",
        "sales, january.txt",
        "e,f.gz",
        "b.txt",
    ]
    assert names("c[1].txt") == ["c[1].txt"]
    assert names("e*.gz") == ["e,f.gz"]
    assert names(f"b.txt,{tmp_path}/b.txt,./b.txt,b.*") == ["b.txt"]


def found(folder: Path, pattern: str) -> list[str]:
    """Return the files that a pattern finds in a folder, relative to it."""
    paths = find_files(f"{folder}/{pattern}", "FILES")
    return [os.path.relpath(path, folder) for path in paths]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Folders with hidden, linked and looping entries; each file has a content of its own."""
    root = tmp_path / "tree"
    files = ["a.txt", ".b.txt", "1/t.txt", "1/.t.txt", ".2/t.txt", "3/in/t.txt", "3/u.csv"]
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "t.txt").write_text("outside")
    (root / "linked").symlink_to(outside)
    (root / "3" / "up").symlink_to(root)
    return root


PATTERNS = {
    "*.txt": ["a.txt"],
    ".*.txt": [".b.txt"],
    "[.]b.txt": None,
    "?b.txt": None,
    "[!x]*.txt": ["a.txt"],
    "[^x]*.txt": ["a.txt"],
    "[^a]*.txt": None,
    "*/t.txt": ["1/t.txt", "linked/t.txt"],
    ".*/t.txt": [".2/t.txt"],
    "*/.t.txt": ["1/.t.txt"],
    "*/*/t.txt": ["3/in/t.txt", "3/up/1/t.txt"][:1],
    "**/t.txt": ["1/t.txt", "3/in/t.txt", "linked/t.txt"],
    "**": ["1/t.txt", "3/in/t.txt", "3/u.csv", "a.txt", "linked/t.txt"],
    "**/*.csv": ["3/u.csv"],
    "3/**/in/*": ["3/in/t.txt"],
    "[13]/*": ["1/t.txt", "3/u.csv"],
}


@pytest.mark.parametrize(("pattern", "files"), PATTERNS.items(), ids=PATTERNS)
def test_a_pattern_finds_what_a_shell_finds(tree, pattern, files):
    if files is None:
        with pytest.raises(CannotRun, match="matches no file"):
            found(tree, pattern)
    else:
        assert {(tree / name).resolve() for name in found(tree, pattern)} >= {
            (tree / name).resolve() for name in files
        }
        assert found(tree, pattern) == files


@pytest.mark.parametrize(
    "pattern",
    [
        "*.txt",
        "[.]b.txt",
        "?b.txt",
        "[!x]*.txt",
        "*/t.txt",
        ".*.txt",
        "*/.t.txt",
        "[13]/*",
        "*/*/*",
    ],
)
def test_bash_agrees(tree, pattern):
    listed = subprocess.run(
        ["bash", "-O", "nullglob", "-c", f"printf '%s\\0' {pattern}"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name for name in listed.stdout.split("\0") if name and (tree / name).is_file()]
    files = {(tree / name).resolve() for name in names}
    try:
        assert {(tree / name).resolve() for name in found(tree, pattern)} == files
    except CannotRun:
        assert not files


def test_a_link_and_a_hard_link_are_one_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT)
    (tmp_path / "b.txt").hardlink_to(tmp_path / "a.txt")
    (tmp_path / "c.txt").symlink_to("a.txt")
    assert found(tmp_path, "*.txt") == ["a.txt"]
    assert found(tmp_path, f"c.txt,{tmp_path}/*") == ["c.txt"]


def refusing(folder: Path) -> Any:
    """Return an os.scandir that may not read a folder; root may read all."""
    scandir = os.scandir

    def scan(path: Any = ".") -> Any:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    return scan


@pytest.mark.parametrize("pattern", ["*/*.txt", "**/t.txt", "**", "1/*", "*/*/t.txt"])
def test_a_folder_that_cannot_be_read_stops_a_pattern(tree, monkeypatch, pattern):
    monkeypatch.setattr(os, "scandir", refusing(tree / "1"))
    with pytest.raises(CannotRun, match=r"^cannot read .*tree/1: Permission denied$"):
        found(tree, pattern)


@pytest.mark.parametrize("pattern", ["*/t.txt", "1/t.txt", "**/t.txt"])
def test_a_file_that_cannot_be_reached_stops_a_pattern(tree, monkeypatch, pattern):
    look = os.stat

    def stat(path: Any, **settings: Any) -> os.stat_result:
        if str(path).endswith("/1/t.txt"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **settings)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(CannotRun, match=r"^cannot read .*1/t.txt: Permission denied$"):
        found(tree, pattern)


@pytest.mark.parametrize(
    ("link", "pattern"),
    [
        ("t.txt", "*.txt"),
        ("t.txt", "t.txt"),
        ("1/t2.txt", "*/t2.txt"),
        ("4", "*/t.txt"),
        ("4", "**"),
    ],
)
@pytest.mark.parametrize("target", ["gone", "loop"])
def test_a_link_that_leads_nowhere_stops_a_pattern(tree, link, pattern, target):
    (tree / link).symlink_to(tree / link if target == "loop" else "gone")
    with pytest.raises(CannotRun, match=f"^cannot read .*tree/{link}: "):
        found(tree, pattern)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(CannotRun, match=r"^cannot read .*pipe\.txt: it is not a regular file"):
        inspect_files(find_files(f"{tmp_path}/*", "FILES"))


LONG = b"".join(b'{"itemList": [{"item": "ITEM_%d"}]}\n' % number for number in range(5000))
COPIES = {
    "copy": {"a.txt": TEXT, "b.txt": TEXT},
    "copy-in-a-folder": {"1/a.txt": TEXT, "2/a.txt": TEXT},
    "long": {"a.txt": LONG, "b.txt": LONG},
    "gz": {"a.gz": gzip.compress(LONG, mtime=0), "b.gz": gzip.compress(LONG, mtime=0)},
    "third": {"a.txt": TEXT, "b.txt": LONG, "c.txt": LONG},
    "plain-and-gz": {"a.txt": TEXT, "a.txt.gz": gzip.compress(TEXT)},
    "plain-and-gz-of-other-content": {"a.txt": TEXT, "a.txt.gz": gzip.compress(LONG)},
    "plain-and-GZ": {"a.txt": TEXT, "a.txt.GZ": gzip.compress(TEXT)},
    "zst": {"a.zst": zstd(LONG), "b.zst": zstd(LONG)},
    "plain-and-zst": {"a.txt": TEXT, "a.txt.zst": zstd(TEXT)},
    "gz-and-zst": {"a.txt.gz": gzip.compress(TEXT), "a.txt.zst": zstd(TEXT)},
}


@pytest.mark.parametrize("files", COPIES.values(), ids=COPIES)
def test_copies_are_refused_in_one_line_that_names_both(shop, files):
    shop.write_products(["ITEM_1\tC\tName"])
    for name, data in files.items():
        path = shop.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    finished = shop.run("flatten", TRANSACTIONS=shop.folder / "in" / "**")
    assert_one_line(finished, 2, *(shop.folder / "in" / name for name in list(files)[-2:]))
    assert not (shop.lake / "current.json").exists()


@pytest.mark.parametrize("setting", ["TRANSACTIONS", "PRODUCTS"])
def test_copies_are_refused_for_each_setting(shop, setting):
    shop.write([["1", "2"]], ["1", "2"])
    path = shop.products if setting == "PRODUCTS" else shop.transactions
    (shop.folder / "copy").write_bytes(path.read_bytes())
    finished = shop.run("flatten", **{setting: f"{path},{shop.folder}/copy"})
    assert_one_line(finished, 2, f"error: {setting} name ", path, "copy")


def test_files_that_differ_in_one_byte_or_have_no_record_are_no_copies(shop):
    files = {
        "a.txt": LONG + b'{"itemList": [{"item": "X"}]}\n',
        "b.txt": LONG + b'{"itemList": [{"item": "Y"}]}\n',
        "c.txt": b"",
        "d.txt": b"",
        "e.json": b"[]\n",
        "f.json": b"[]\n",
        "g.gz": gzip.compress(b"\n", mtime=0),
        "h.gz": gzip.compress(b"\n", mtime=0),
    }
    for name, data in files.items():
        (shop.folder / name).write_bytes(data)
    counts = flatten_shop(shop, ",".join(str(shop.folder / name) for name in files))
    assert counts["records_kept"] == 10_002


@pytest.mark.parametrize("kind", ["longer", "rewritten", "replaced", "gone"])
@pytest.mark.parametrize("which", ["transactions", "products"])
def test_a_file_that_changes_while_it_is_read_stops_the_run(shop, monkeypatch, kind, which):
    flatten_shop(shop, shop.write([["ITEM_1"]], ["ITEM_1"]))
    before = (shop.lake / "current.json").read_bytes()
    path = getattr(shop, which)
    module, name = {
        "transactions": ("run", "read_lines"),
        "products": ("products", "stream_blocks"),
    }[which]
    read = getattr(importlib.import_module(f"bought_together.ingest.{module}"), name)

    def change_and_read(*arguments: Any) -> Any:
        data, times = path.read_bytes(), path.stat()
        yield from read(*arguments)
        if kind in ("replaced", "gone"):
            path.unlink()
        if kind != "gone":
            path.write_bytes(data * 2 if kind == "longer" else data)
        if kind == "replaced":
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            os.link(path, shop.folder / "other")
            shutil.copy2(path, shop.folder / "new")
            os.replace(shop.folder / "new", path)
        if kind == "rewritten":
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))

    monkeypatch.setattr(f"bought_together.ingest.{module}.{name}", change_and_read)
    message = "cannot read .*" if kind == "gone" else "changed while it was read: run again"
    with pytest.raises(CannotRun, match=message):
        flatten_shop(shop, full_refresh=True)
    assert (shop.lake / "current.json").read_bytes() == before


def test_no_file_is_lost_where_many_are_asked_for_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "FILES_AT_ONCE", 3)
    paths = [tmp_path / f"{number}.txt" for number in range(10)]
    for number, path in enumerate(paths):
        path.write_bytes(LINES[0] * (number + 1))
    files = inspect_files([str(path) for path in paths])
    assert [(file.number, file.path, file.size) for file in files] == [
        (number, str(path), len(LINES[0]) * (number + 1)) for number, path in enumerate(paths)
    ]


UNDECODABLE = b"caf\xe9.txt"


def test_a_file_name_that_is_not_utf8_ends_no_run(shop):
    path = os.fsencode(shop.folder) + b"/" + UNDECODABLE
    with open(path, "wb") as file:
        file.write(TEXT * 100 + b"null\n")
    with open(os.fsencode(shop.folder) + b"/pr\xf6.txt", "wb") as file:
        file.write(b"ITEM_1\tC\tName\nrubbish\n")
    for settings in ({}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        finished = shop.run(
            "flatten",
            TRANSACTIONS=os.fsdecode(path),
            PRODUCTS=f"{shop.folder}/pr*.txt",
            **settings,
        )
        assert (finished.returncode, finished.stderr) == (0, "")
        assert r"caf\xe9.txt:801" in finished.stdout
        assert r"pr\xf6.txt:2" in finished.stdout
        assert shop.manifest()["files"][0]["path"].endswith(r"caf\xe9.txt")
        rejects = shop.table("rejects").to_pylist()
        assert sorted(Path(row["source_file"]).name for row in rejects) == [
            r"caf\xe9.txt",
            r"pr\xf6.txt",
        ]
    os.unlink(path)
    shop.write_products(["ITEM_1\tC\tName"])
    finished = shop.run("flatten", TRANSACTIONS=os.fsdecode(path), PYTHONIOENCODING="ascii")
    assert_one_line(finished, 2, r"caf\xe9.txt does not exist")


def test_a_terminal_that_knows_only_ascii_ends_no_run(shop):
    shop.write_products(["ITEM_1\tC\tName"])
    path = shop.folder / "transações.txt"
    path.write_bytes(TEXT * 100 + b"null\n")
    finished = shop.run("flatten", TRANSACTIONS=path, PYTHONIOENCODING="ascii")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert re.search(r"transa(çõ|\\xe7\\xf5)es.txt:801", finished.stdout)
    path.unlink()
    finished = shop.run("flatten", TRANSACTIONS=path, PYTHONIOENCODING="ascii")
    assert_one_line(finished, 2, "es.txt does not exist")


@pytest.mark.parametrize(
    "other", ["{folder}/./t.txt", "{folder}//t.txt", "{folder}/../{name}/t.txt"]
)
def test_a_file_spelled_in_two_ways_counts_once(shop, other):
    path = shop.folder / "t.txt"
    path.write_bytes(TEXT)
    other = other.format(folder=shop.folder, name=shop.folder.name)
    assert flatten_shop(shop, f"{path},{other}")["records_read"] == len(LINES)


def test_an_empty_file_among_others_adds_nothing(shop):
    names = ["empty.txt", "empty.gz", "empty.json", "full.txt"]
    texts = [b"", gzip.compress(b""), b" [ ]\n", TEXT]
    for name, text in zip(names, texts, strict=True):
        (shop.folder / name).write_bytes(text)
    counts = flatten_shop(shop, ",".join(str(shop.folder / name) for name in names))
    assert counts["records_read"] == len(LINES)
    assert {file["number"]: file["bytes"] for file in shop.manifest()["files"]} == {
        number: len(text) for number, text in enumerate(texts)
    }


@pytest.mark.parametrize("as_array", [False, True], ids=["lines", "array"])
@pytest.mark.parametrize(
    "ids", [["11", "7", "0", "-3"], ["11", "1.50", "-0", "12345678901234567890"]]
)
def test_numeric_ids_stay_as_written(shop, ids, as_array):
    records = [f'{{"itemList": [{{"item": {item}}}], "store": {item}}}' for item in ids] * 500
    text = "[" + ",".join(records) + "]" if as_array else "\n".join(records)
    shop.transactions.write_text(text)
    assert flatten_shop(shop)["records_kept"] == len(records)
    line_items = shop.table("line_items").to_pylist()
    found = Counter((row["product_id"], row["store_id"]) for row in line_items)
    assert found == Counter({(item, item): 500 for item in ids})


def make_unreadable(path: Path) -> None:
    """Make a file that cannot be read; a socket where permissions bind nobody (root)."""
    path.write_bytes(TEXT)
    path.chmod(0)
    if os.access(path, os.R_OK):
        path.unlink()
        back = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as unreadable:
            unreadable.bind(path.name)
        os.chdir(back)


REFUSED = {
    "corrupt-gz": (corrupt_gzip(), "cannot read .*transactions.txt: error: Error -3"),
    "truncated-gz": (gzip.compress(TEXT * 100)[:-20], "cannot read .*transactions.txt.*ended"),
    "gz-header-alone": (gzip.compress(TEXT)[:12], "cannot read .*transactions.txt"),
    "gz-then-rubbish": (gzip.compress(TEXT) + b"rubbish", "cannot read .*transactions.txt"),
    "gz-with-wrong-checksum": (
        gzip.compress(TEXT)[:-8] + bytes(8),
        "cannot read .*transactions.txt",
    ),
    "gz-truncated-array": (gzip.compress(ARRAY)[:-9], "cannot read .*transactions.txt"),
    "corrupt-zst": (corrupt(zstd(NOISE)), "cannot read .*transactions.txt: OSError: ZSTD"),
    "truncated-zst": (zstd(TEXT * 100)[:-5], "cannot read .*transactions.txt: .*Truncated"),
    "truncated-long-zst": (zstd(NOISE)[:-5], "cannot read .*transactions.txt: .*Truncated"),
    "zst-header-alone": (zstd(TEXT)[:5], "cannot read .*transactions.txt"),
    "zst-then-rubbish": (zstd(TEXT) + b"rubbish", "cannot read .*transactions.txt"),
    "zst-second-frame-cut": (zstd(NOISE) + zstd(TEXT)[:-5], "cannot read .*transactions.txt"),
    "empty-file": (b"", "no record"),
    "empty-zst": (zstd(b""), "no record"),
    "empty-gz": (gzip.compress(b""), "no record"),
    "empty-array": (b"[]", "no record"),
    "array-cut-off": (
        ARRAY[:-30],
        "transactions.txt: not one complete JSON array, broken after 7 elements",
    ),
    "array-never-closed": (ARRAY[:-1], "not one complete JSON array, broken after 7 elements"),
    "array-broken-in-the-middle": (
        ARRAY.replace(b', "store": "1"}', b', "store": ', 4),
        "broken after 0",
    ),
    "array-then-rubbish": (ARRAY + b" rubbish", "broken after 8 elements"),
    "array-then-rubbish-far-behind": (ARRAY + b" " * (3 << 20) + b"{}", "broken after 8 elements"),
    "array-then-another": (ARRAY + ARRAY, "broken after 8 elements"),
    "array-then-lines": (ARRAY + b"\n" + TEXT, "broken after 8 elements"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_a_broken_file_cannot_be_run(shop, data, message):
    shop.transactions.write_bytes(data)
    with pytest.raises(CannotRun, match=message):
        flatten_shop(shop)
    assert not (shop.lake / "current.json").exists()


def test_a_path_that_names_no_file_cannot_be_run(tmp_path):
    (tmp_path / "folder").mkdir()
    for pattern, message in {
        "missing.txt": "missing.txt does not exist",
        "missing[1].txt": r"missing\[1\].txt matches no file",
        "*.txt": r"\*.txt matches no file",
        "folder": "folder is a folder",
        "fold*": r"fold\* matches no file",
        "missing/*.txt": r"\*.txt matches no file",
    }.items():
        with pytest.raises(CannotRun, match=f"^FILES .*{message}"):
            find_files(f"{tmp_path}/{pattern}", "FILES")
    for nothing in ("", ",", " , "):
        with pytest.raises(CannotRun, match="FILES is empty"):
            find_files(nothing, "FILES")


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    make_unreadable(tmp_path / "locked.txt")
    with pytest.raises(CannotRun, match=r"cannot read .*locked\.txt"):
        inspect_files([str(tmp_path / "locked.txt")])


COMMAND_LINE = {
    "missing-file": (lambda shop: None, 2, "TRANSACTIONS .*transactions.txt does not exist"),
    "folder": (lambda shop: shop.transactions.mkdir(), 2, "transactions.txt is a folder"),
    "unreadable": (
        lambda shop: make_unreadable(shop.transactions),
        2,
        "cannot read .*transactions.txt",
    ),
    "empty-file": (
        lambda shop: shop.transactions.write_bytes(b""),
        2,
        "TRANSACTIONS contain no records",
    ),
    "corrupt-gz": (
        lambda shop: shop.transactions.write_bytes(corrupt_gzip()),
        2,
        "cannot read .*transactions",
    ),
    "broken-array": (
        lambda shop: shop.transactions.write_bytes(ARRAY[:-9]),
        2,
        "not one complete JSON array",
    ),
    "bad-records": (
        lambda shop: shop.transactions.write_bytes(TEXT + b"{\n"),
        1,
        "1 of 9 records are rejected",
    ),
    "no-usable-record": (
        lambda shop: shop.transactions.write_bytes(b"null\n"),
        1,
        "1 of 1 records",
    ),
}


@pytest.mark.parametrize(("spoil", "status", "message"), COMMAND_LINE.values(), ids=COMMAND_LINE)
def test_the_program_says_what_is_wrong_in_one_line_and_leaves_the_lake(
    shop, spoil, status, message
):
    good = shop.folder / "good.txt"
    good.write_bytes(TEXT)
    flatten_shop(shop, good)
    before = (shop.lake / "current.json").read_bytes()
    spoil(shop)
    finished = shop.run("flatten")
    assert finished.returncode == status
    assert re.fullmatch(r"error: [^\n]+\n", finished.stderr)
    assert re.search(message, finished.stderr)
    assert (shop.lake / "current.json").read_bytes() == before
    assert product_ids(shop) == ONCE


def test_a_glob_that_matches_nothing_is_one_line_too(shop):
    shop.write_products(["ITEM_1\tC\tName"])
    finished = shop.run("flatten", TRANSACTIONS=shop.folder / "transactions-2017*.txt")
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: TRANSACTIONS ")
    assert finished.stderr.endswith("transactions-2017*.txt matches no file\n")
    assert finished.stdout == ""
    assert not shop.lake.exists()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(ARRAY, id="compact"),
        pytest.param(json.dumps(SAMPLE, indent=4).encode(), id="pretty"),
        pytest.param(
            json.dumps(SAMPLE, indent="\t").replace("\n", "\r\n").encode(), id="pretty-crlf"
        ),
        pytest.param(b"[\n" + b",\n".join(LINES) + b"\n]\n", id="element-a-line"),
        pytest.param(b"\n  [ " + b" , ".join(LINES) + b" ] \r\n ", id="spaces"),
        pytest.param(BOM + ARRAY, id="bom"),
        pytest.param(gzip.compress(ARRAY), id="gz"),
        pytest.param(zstd(ARRAY), id="zst"),
        pytest.param(
            gzip.compress(BOM + json.dumps(SAMPLE, indent=1).encode()), id="gz-bom-pretty"
        ),
    ],
)
@pytest.mark.parametrize("characters_read", [1, 5, 1 << 20])
def test_an_array_gives_its_elements_with_their_numbers(shop, monkeypatch, text, characters_read):
    monkeypatch.setattr(byte_ranges, "CHARACTERS_READ", characters_read)
    shop.transactions.write_bytes(text)
    counts = flatten_shop(shop, block_size=10)
    assert counts["records_read"] == counts["records_kept"] == len(SAMPLE)
    line_items = shop.table("line_items").to_pylist()
    found = {row["order_id"]: (row["product_id"], row["quantity"]) for row in line_items}
    assert found == {number: (f"ITEM_{number}", float(number)) for number in range(8)}


def test_an_array_is_known_where_its_first_packed_block_is_long(tmp_path):
    path = tmp_path / "array.zst"
    path.write_bytes(zstd(b"[" + NOISE.rstrip(b"\n").replace(b"\n", b",") + b"]"))
    [found] = inspect_files([str(path)])
    assert path.stat().st_size > inputs.HEAD
    assert (found.compression, found.is_array, found.kind) == ("zstd", True, "json")


ELEMENTS = {
    "nan": (b'{"itemList": [{"item": "B", "quantity": NaN}]}', "line: quantity is not finite"),
    "nan-ignored": (b'{"itemList": [], "x": [NaN, -Infinity]}', None),
    "not-utf8": (b'{"itemList": [{"item": "caf\xe9"}]}', "record: not UTF-8"),
    "lone-surrogate": (
        rb'{"itemList": [{"item": "\ud83d"}]}',
        "line: item holds half a surrogate pair",
    ),
    "no-json": (b'{"itemList": [], "x": tru}', "record: not JSON"),
    "missing-between-commas": (b"", "record: not JSON"),
    "two-without-a-comma": (b"{} {}", "record: more than one record on the line"),
    "null": (b"null", "record: not an object"),
    "true": (b"true", "record: not an object"),
    "number": (b"12.5e3", "record: not an object"),
    "text": (b'"],[{}"', "record: not an object"),
    "list": (b'[{"item": "B"}]', "record: not an object"),
    "5000-digits": (b'{"itemList": [], "x": %s}' % (b"9" * 5000), None),
    "accents-and-emoji": ('{"itemList": [], "x": "é 🛒 \u2028"}'.encode(), None),
    "nested-2000": (b'{"itemList": [], "x": %s}' % (b"[" * 2000 + b"]" * 2000), None),
    "5-mb": (b'{"itemList": [], "x": "%s"}' % (b"x" * 5_000_000), None),
}


@pytest.mark.parametrize(("element", "reason"), ELEMENTS.values(), ids=ELEMENTS)
def test_an_odd_element_of_an_array_spoils_no_other(shop, element, reason):
    shop.transactions.write_bytes(b"[" + LINES[0] + b", " + element + b" ,\n" + LINES[1] + b"]")
    counts = flatten_shop(shop)
    assert counts["records_read"] == 3
    assert counts["records_touched"] == (reason is not None)
    assert product_ids(shop) == Counter(["ITEM_0", "ITEM_1"])
    rejects = shop.table("rejects").to_pylist()
    found = [(row["line_number"], row["byte_offset"], row["reason"]) for row in rejects]
    assert found == ([] if reason is None else [(None, 1, reason)])


def test_a_comma_at_the_end_of_an_array_is_an_element_that_is_missing(shop):
    shop.transactions.write_bytes(b"[" + LINES[0] + b", ]")
    counts = flatten_shop(shop)
    assert (counts["records_read"], counts["records_rejected"]) == (2, 1)


@pytest.mark.parametrize("element", [b"12", b"1.5e10", b"-Infinity", b"true", b'"\\ud83d\\ude00"'])
def test_an_element_is_whole_wherever_the_reading_stops(tmp_path, monkeypatch, element):
    path = tmp_path / "array.json"
    path.write_bytes(b"[{}, " + element + b", {}]")
    for characters_read in range(1, 20):
        monkeypatch.setattr(byte_ranges, "CHARACTERS_READ", characters_read)
        found = list(array_elements(inspect_files([str(path)])[0]))
        assert found == [(0, b"{}"), (1, element), (2, b"{}")]


def test_an_array_of_many_elements_is_written_in_parts_and_loses_none(shop, monkeypatch):
    monkeypatch.setattr("bought_together.ingest.json_lists.ARRAY_ELEMENTS_A_PART", 3)
    shop.transactions.write_bytes(ARRAY[:-1] + b", null, null" + b"]")
    counts = flatten_shop(shop)
    assert (counts["records_read"], counts["records_rejected"]) == (10, 2)
    assert product_ids(shop) == ONCE
    rejects = shop.table("rejects").to_pylist()
    assert sorted(row["byte_offset"] for row in rejects) == [8, 9]


ODD_LINES = [LINES[0], b"", b"null", LINES[1], b"  ", b"{", LINES[2], b"\xff", LINES[3], LINES[4]]
CUT = {
    "as-usual": TEXT,
    "without-a-line-end-at-the-end": TEXT.rstrip(),
    "bom": BOM + TEXT,
    "crlf": TEXT.replace(b"\n", b"\r\n"),
    "bom-and-crlf": BOM + TEXT.replace(b"\n", b"\r\n"),
    "blank-lines": b"\n\n" + TEXT.replace(b"\n", b"\n\n") + b"\n\n",
    "rejects": b"\n".join(ODD_LINES),
    "rejects-crlf-and-bom": BOM + b"\r\n".join(ODD_LINES) + b"\r\n",
    "a-line-longer-than-most": TEXT + b'{"itemList": [], "x": "%s"}\n' % (b"x" * 5000) + TEXT,
    "line-ends-alone": b"\n" * 70,
    "one-byte": b"1",
    "bom-alone": BOM,
}


def records_of(text: bytes) -> list[tuple[int, int, bytes]]:
    """Return (line number from 1, byte offset, line) of each line with text."""
    offset = len(BOM) if text.startswith(BOM) else 0
    found = []
    for number, line in enumerate(text[offset:].split(b"\n"), start=1):
        if line.strip():
            found.append((number, offset, line))
        offset += len(line) + 1
    return found


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gz", "zst"])
@pytest.mark.parametrize("text", CUT.values(), ids=CUT)
def test_ranges_hold_every_line_once_and_in_order(tmp_path, text, pack, block_size):
    path = tmp_path / "transactions.txt"
    path.write_bytes(pack(text))
    ranges = plan_byte_ranges(inspect_files([str(path)]), block_size)
    assert pack is not bytes or all(part.stop - part.start <= block_size for part in ranges)
    blocks = [block for part in ranges for block in read_lines(part, block_size)]
    found = [(block, *record) for block in blocks for record in records_of(block.data)]
    lines = [(block.offset + offset, line) for block, _, offset, line in found]
    assert lines == [(offset, line) for _, offset, line in records_of(text)]
    assert b"".join(block.data for block in blocks) == text.removeprefix(BOM)


@pytest.mark.parametrize("block_size", [2, 64, 1000])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gz", "zst"])
@pytest.mark.parametrize("text", [CUT["rejects"], CUT["rejects-crlf-and-bom"]], ids=["lf", "crlf"])
def test_order_ids_and_line_numbers_lead_back_whatever_the_block_size(shop, text, pack, block_size):
    first = shop.folder / "first.txt"
    first.write_bytes(TEXT)
    shop.transactions.write_bytes(pack(text))
    flatten_shop(shop, f"{first},{shop.transactions}", block_size=block_size)
    texts = [TEXT, text]
    paths = [file["path"] for file in shop.manifest()["files"]]
    assert paths == [str(first), str(shop.transactions)]
    for row in shop.table("line_items").to_pylist():
        number, offset = divmod(row["order_id"], 1 << ORDER_ID_OFFSET_BITS)
        record = json.loads(texts[number][offset:].split(b"\n")[0])
        assert record["itemList"][0]["item"] == row["product_id"]
    expected = {
        (number, offset, line.decode("utf-8", "backslashreplace"))
        for number, offset, line in records_of(text)
        if not line.startswith(b'{"date"')
    }
    rejects = shop.table("rejects").to_pylist()
    assert {row["source_file"] for row in rejects} == {str(shop.transactions)}
    found = [(row["line_number"], row["byte_offset"], row["raw_text"]) for row in rejects]
    assert (len(found), set(found)) == (len(expected), expected)
    first_reject = shop.manifest()["rejects"][0]
    assert (first_reject["line_number"], first_reject["byte_offset"]) == min(expected)[:2]


def test_order_ids_do_not_change_with_block_size_or_reader(shop):
    shop.transactions.write_bytes(CUT["rejects"] + b"\n" + TEXT)
    found = []
    for settings in ({}, {"block_size": 50}, {"block_size": 333}, {"fast": False}):
        flatten_shop(shop, **settings)
        rows = shop.table("line_items").to_pylist()
        shutil.rmtree(shop.lake)
        found.append(sorted((row["order_id"], row["product_id"]) for row in rows))
    assert len(found[0]) == 13
    assert all(rows == found[0] for rows in found)
