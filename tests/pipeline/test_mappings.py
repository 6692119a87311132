"""The mapping file, the committed examples, and what is proposed for unknown files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from bought_together.errors import CannotRun
from bought_together.ingest.mapping import parse_mapping, read_mapping
from bought_together.ingest.proposals import propose
from bought_together.ingest.report import report
from bought_together.ingest.run import flatten
from scripts import flatten as flatten_program
from scripts import inspect_input
from tests.support import ROOT
from tests.support.compression import zstd
from tests.support.shop import Shop

WRONG = {
    "empty": ("", 1, "None is not of type 'object'"),
    "no YAML": ("transactions:\n  order_id: [1\nx: y\n", 3, "not YAML"),
    "another name": (
        "transactions:\n  order_id: a\n  product_id: b\n  qty: c\n",
        4,
        "transactions: Additional properties are not allowed ('qty' was unexpected)",
    ),
    "a wrong value": (
        "transactions:\n  format: xlsx\n  product_id: b\n",
        2,
        "transactions.format: 'xlsx' is not one of ['json', 'csv', 'parquet']",
    ),
    "no product id": ("products:\n  name: b\n", 1, "'product_id' is a required property"),
    "twice": ("transactions:\n  product_id: a\n  product_id: b\n", 3, "product_id twice"),
    "no order id": ("# mine\ntransactions:\n  product_id: a\n", 2, "order_id is missing"),
    "no such encoding": (
        "products:\n  product_id: a\n  encoding: utf-9\n",
        3,
        "no encoding is called utf-9",
    ),
    "column zero": ("products:\n  product_id: 0\n", 2, "0 is less than the minimum of 1"),
    "a condition without a field": (
        "transactions:\n  order_id: a\n  product_id: b\n  cancelled:\n    values: [x]\n",
        4,
        "'field' is a required property",
    ),
}


@pytest.mark.parametrize(("text", "line", "said"), WRONG.values(), ids=WRONG)
def test_an_error_names_the_line(text: str, line: int, said: str) -> None:
    with pytest.raises(CannotRun) as error:
        parse_mapping(text, "input.yml")
    assert str(error.value).startswith(f"input.yml, line {line}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mapping_that_is_missing_is_one_line(shop: Shop) -> None:
    shop.write([["a", "b"]], "ab")
    finished = CliRunner().invoke(
        flatten_program.main, [], env=shop.environment(INPUT_MAPPING=shop.folder / "input.yml")
    )
    assert finished.exit_code == 2
    assert finished.stderr.startswith(f"error: cannot read {shop.folder}/input.yml: ")
    assert not shop.lake.exists()


def read_examples() -> dict[str, tuple[dict[str, str], dict[str, str], list[Any]]]:
    """Return transactions and products (name: content) in each shape, and what they hold."""
    shopify = (
        "Name,Email,Created at,Lineitem quantity,Lineitem name,Lineitem sku,Notes,Cancelled at,Id\n"
        '#1001,a@b.c,2026-01-05 10:00:00 -0500,2,"Tea, black",011,"leave\nat door",,9001\n'
        "#1001,a@b.c,2026-01-05 10:00:00 -0500,1,Milk,M-1,,,\n"
        "#1002,d@e.f,2026-01-06 09:30:00 -0500,1,Milk,M-1,,2026-01-07 08:00:00 -0500,9002\n"
    )
    orders = [
        {
            "id": 727,
            "status": "completed",
            "date_created": "2026-01-05T10:00:00",
            "line_items": [
                {"id": 315, "name": "Tea", "product_id": 11, "quantity": 2},
                {"id": 316, "name": "Milk", "product_id": 12, "quantity": 1},
            ],
        },
        {
            "id": 728,
            "status": "refunded",
            "date_created": "2026-01-06T09:30:00",
            "line_items": [{"id": 317, "name": "Milk", "product_id": 12, "quantity": 1}],
        },
    ]
    events = [
        {"event_name": "page_view", "event_date": "20260105"},
        {
            "event_name": "purchase",
            "event_date": "20260105",
            "ecommerce": {
                "transaction_id": "T-1",
                "items": [{"item_id": "011", "quantity": 2}, {"item_id": "M-1", "quantity": 1}],
            },
        },
    ]
    retail = (
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,011,CAF\xc9 TEA,2,12/1/2010 8:26,2.55,17850,United Kingdom\n"
        "536365,M-1,MILK,1,12/1/2010 8:26,3.39,17850,United Kingdom\n"
        "C536379,M-1,MILK,-1,12/1/2010 9:41,3.39,14527,United Kingdom\n"
    )
    two = [("011", 2.0), ("M-1", 1.0)]
    return {
        "shopify": (
            {"orders_export.csv": shopify},
            {},
            [("#1001", False, two), ("#1002", True, [("M-1", 1.0)])],
        ),
        "woocommerce": (
            {"orders-1.json": json.dumps(orders, indent=1)},
            {"wc-product-export.csv": "ID,Type,SKU,Name,Categories\n11,simple,T,Tea,Hot drinks\n"},
            [
                ("727", False, [("11", 2.0), ("12", 1.0)]),
                ("728", True, [("12", 1.0)]),
            ],
        ),
        "ga4": (
            {"events-20260105.json": "".join(json.dumps(event) + "\n" for event in events)},
            {"items.csv": "item_id,item_name,item_category\n011,Tea,Drinks\n"},
            [("T-1", False, two)],
        ),
        "instacart": (
            {
                "order_products__prior.csv": "order_id,product_id,add_to_cart_order,reordered\n"
                "2,33120,1,1\n2,28985,2,1\n3,33754,1,1\n"
            },
            {
                "products.csv": "product_id,product_name,aisle_id,department_id\n"
                '33120,"Eggs, ""organic""",86,16\n'
            },
            [
                ("2", False, [("33120", None), ("28985", None)]),
                ("3", False, [("33754", None)]),
            ],
        ),
        "online_retail": (
            {"online_retail.csv": retail},
            {},
            [("536365", False, two), ("C536379", True, [("M-1", -1.0)])],
        ),
        "complete_journey": (
            {
                "transactions.csv": "household_id,store_id,basket_id,product_id,quantity,"
                "sales_value,week,transaction_timestamp\n"
                "900,330,31198570044,1095275,1,0.5,1,2017-01-01 11:53:26\n"
                "900,330,31198570044,9878513,1,0.99,1,2017-01-01 11:53:26\n"
            },
            {
                "products.csv": "product_id,manufacturer_id,department,brand,product_category,"
                "product_type,package_size\n1095275,2,GROCERY,National,COFFEE,GROUND COFFEE,1 LB\n"
            },
            [("31198570044", False, [("1095275", 1.0), ("9878513", 1.0)])],
        ),
    }


EXAMPLES = read_examples()


def write_example(folder: Path, name: str) -> tuple[list[Path], list[Path]]:
    """Write the files of an example; returns those of transactions and of products."""
    transactions, products, _ = EXAMPLES[name]
    encoding = "windows-1252" if name == "online_retail" else "utf-8"
    for file, content in (transactions | products).items():
        (folder / file).write_bytes(content.encode(encoding))
    paths = [folder / file for file in transactions]
    return paths, [folder / file for file in products] or paths


def test_every_example_has_a_file_of_its_shape() -> None:
    assert {path.stem for path in (ROOT / "docs/mappings").glob("*.yml")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_reads_a_file_of_its_shape(shop: Shop, tmp_path: Path, name: str) -> None:
    [transactions], [products] = write_example(tmp_path, name)
    mapping = ROOT / f"docs/mappings/{name}.yml"
    manifest = flatten(str(transactions), str(products), str(shop.lake), input_mapping=str(mapping))
    counts = manifest["counts"]["transactions"]
    assert (counts["records_rejected"], counts["lines_rejected"]) == (0, 0)
    assert manifest["counts"]["products"]["lines_rejected"] == 0
    mapped = read_mapping(str(mapping))
    assert mapped and mapped.transactions
    has_dates = mapped.transactions.date is not None
    assert counts["dates_unreadable"] == 0
    assert counts["dates_missing"] == (0 if has_dates else counts["records_kept"])
    baskets: dict[str, Any] = {}
    for row in shop.table("line_items").to_pylist():
        key = (row["order_key"], row["is_cancelled"])
        baskets.setdefault(key, []).append((row["product_id"], row["quantity"]))
    _, _, expected = EXAMPLES[name]
    assert [(*key, items) for key, items in baskets.items()] == expected
    assert all(row["product_name"] for row in shop.table("products").to_pylist())
    assert f"\n{report(manifest)}\n...\n" in section(name)


def section(name: str) -> str:
    """Return what docs/mappings/README.md says of an example."""
    text = (ROOT / "docs/mappings/README.md").read_text()
    [found] = [one for one in text.split("\n## ") if f"({name}.yml)" in one]
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_files_and_baskets_of_an_example_are_shown(tmp_path: Path, name: str) -> None:
    transactions, products = write_example(tmp_path, name)
    files = EXAMPLES[name][0] | EXAMPLES[name][1]
    for content in files.values():
        assert f"```\n{content.strip()}\n```" in section(name)
    first_line = (ROOT / f"docs/mappings/{name}.yml").read_text().splitlines()
    [command] = [line for line in first_line if line.startswith("# make build")]
    assert f"$ {command.removeprefix('# ')}\n" in section(name)
    text = propose(list(map(str, dict.fromkeys([*transactions, *products]))))
    baskets = re.findall(r"^#   (\S+: .* x .*|\S+: \d+(?:, \d+)*)$", text, re.MULTILINE)
    assert "\n".join(baskets) in section(name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_same_is_proposed(tmp_path: Path, name: str) -> None:
    """For a file of each shape, by its names alone; only GA4's kinds of events are not known."""
    transactions, products = write_example(tmp_path, name)
    paths = list(map(str, dict.fromkeys([*transactions, *products])))
    text = propose(paths)
    found = yaml.safe_load(text)
    expected = yaml.safe_load((ROOT / f"docs/mappings/{name}.yml").read_text())
    for part, fields in (
        ("transactions", ("order_id", "items", "product_id", "quantity", "date", "encoding")),
        ("products", ("product_id", "repeats")),
    ):
        for field in fields:
            assert found[part].get(field) == expected[part].get(field), (part, field)
    parse_mapping(text, "input.yml")
    first = EXAMPLES[name][2][0]
    assert f"#   {first[0]}: " in text
    assert first[2][0][0] in text


def shopify_answer(orders: int) -> str:
    """Return orders as Shopify's API answers, in one document."""
    lines = [{"id": 1, "sku": "011", "quantity": 2, "tax_lines": [{"title": "VAT"}]}]
    record = {"created_at": "2026-01-05T10:00:00-05:00", "cancelled_at": None, "line_items": lines}
    return json.dumps({"orders": [{"id": 450 + n, **record} for n in range(orders)]}, indent=2)


SHOPIFY_API = {
    "records": "orders",
    "order_id": "id",
    "items": "line_items",
    "product_id": "sku",
    "quantity": "quantity",
    "date": "created_at",
    "cancelled": {"field": "cancelled_at"},
}
PRODUCT_ANSWER = json.dumps(
    {"products": [{"id": "011", "title": "Tea", "images": [{"id": 9, "src": "x"}]}], "count": 1}
)
WEIGHED = "Order;SKU;Qty\n1;011;0,250\n1;M-1;1\n"
PROPOSED: dict[str, tuple[dict[str, bytes], Any, str]] = {
    "one long document": (
        {"orders.json": shopify_answer(500).encode()},
        {"transactions": SHOPIFY_API},
        "JSON, with records in orders, with lines in line_items\n"
        "#   id: whole numbers, e.g. 450, 451, 452\n",
    ),
    "a short document, and products in another": (
        {"p.json": PRODUCT_ANSWER.encode(), "o.json.zst": zstd(shopify_answer(2).encode())},
        {
            "transactions": SHOPIFY_API,
            "products": {"records": "products", "product_id": "id", "name": "title"},
        },
        "\n#   line_items[].sku: digits, with leading zeros, e.g. 011\n",
    ),
    "documents, a line each": (
        {"orders.json": (json.dumps(json.loads(shopify_answer(1))) + "\n").encode() * 2},
        {"transactions": SHOPIFY_API},
        "records in orders",
    ),
    "products as lines": (
        {
            "o.csv": b"order,sku\n1,011\n",
            "p.jsonl": b'{"code": "011", "name": "Tea", "category": "C"}\n',
        },
        {
            "transactions": {"order_id": "order", "product_id": "sku"},
            "products": {"product_id": "code", "name": "name", "category": "category"},
        },
        "p.jsonl: JSON lines",
    ),
    "a decimal comma": (
        {"orders.csv": WEIGHED.encode()},
        {
            "transactions": {
                "delimiter": ";",
                "decimal": ",",
                "order_id": "Order",
                "product_id": "SKU",
                "quantity": "Qty",
            }
        },
        "1: 0.25 x 011, 1 x M-1",
    ),
    "german names": (
        {"b.csv": b"BestellNr;Artikel-Nummer;Bezeichnung;Menge\n1;0004;Tee;0,5\n"},
        {
            "transactions": {
                "delimiter": ";",
                "decimal": ",",
                "order_id": "BestellNr",
                "product_id": "Artikel-Nummer",
                "quantity": "Menge",
            },
            "products": {
                "delimiter": ";",
                "product_id": "Artikel-Nummer",
                "name": "Bezeichnung",
                "repeats": True,
            },
        },
        "1: 0.5 x 0004",
    ),
    "names that tell nothing": (
        {"x.csv": b"a;b;menge\n1;2;3\n"},
        None,
        "# transactions:\n#   order_id: ...  (one of a, b, menge)\n"
        "#   product_id: ...  (one of a, b, menge)\n#   delimiter: ;\n#   quantity: menge\n",
    ),
    "thousands": (
        {"orders.csv": WEIGHED.replace("0,250", "1,000").encode()},
        {
            "transactions": {
                "delimiter": ";",
                "order_id": "Order",
                "product_id": "SKU",
                "quantity": "Qty",
            }
        },
        "1 set aside, the first because: line: quantity is not a number",
    ),
}


@pytest.mark.parametrize(("files", "expected", "said"), PROPOSED.values(), ids=PROPOSED)
def test_a_form_is_recognised(
    tmp_path: Path, files: dict[str, bytes], expected: Any, said: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    text = propose([str(tmp_path / name) for name in files])
    assert yaml.safe_load(text) == expected
    assert said in text


def test_the_proposal_is_what_the_program_prints(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("InvoiceNo;StockCode;Quantity\n1.0;11.0;2\n1.0;12.0;1\n")
    finished = CliRunner().invoke(inspect_input.main, [str(path)])
    assert finished.exit_code == 0, finished.output
    assert "columns separated by ';'" in finished.stdout
    assert "# The ids in StockCode end in .0" in finished.stdout
    assert yaml.safe_load(finished.stdout)["transactions"] == {
        "delimiter": ";",
        "order_id": "InvoiceNo",
        "product_id": "StockCode",
        "quantity": "Quantity",
    }


def test_the_projects_own_form_needs_no_mapping() -> None:
    text = propose([str(ROOT / "data/transactions.txt")])
    assert "in the project's own form" in text
    assert yaml.safe_load(text) is None


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[", b'"a', b"PAR1", b"\x1f\x8b"])
def test_a_file_of_nothing_is_one_line_or_a_comment(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    try:
        assert yaml.safe_load(propose([str(path)])) is None
    except CannotRun as error:
        assert "\n" not in str(error)
