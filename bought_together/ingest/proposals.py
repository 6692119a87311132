"""Look at the first records of unknown files, and propose a mapping that reads them.

The proposal is YAML, with what was seen as comments. Names decide: those that exports of shops use.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from yaml.reader import Reader

from bought_together.errors import CannotRun, Refused
from bought_together.ingest.blocks import flatten_records, numbered_lines
from bought_together.ingest.byte_ranges import ByteRange
from bought_together.ingest.compression import GZIP, ZSTD
from bought_together.ingest.csv_rows import DELIMITERS, first_bytes, flatten_csv
from bought_together.ingest.inputs import BOM, HEAD, InputFile, inspect_files
from bought_together.ingest.json_lists import Characters, array_elements, lists_in_document
from bought_together.ingest.line_items import Flattened
from bought_together.ingest.mapped_dates import ISO, parse_mapped_dates
from bought_together.ingest.mapped_records import MISSING, SEPARATOR, dig
from bought_together.ingest.mapping import OrderMapping, ProductMapping, parse_mapping
from bought_together.ingest.parquet_rows import flatten_parquet, parquet_errors, value_in
from bought_together.ingest.patterns import unreadable
from bought_together.ingest.products import read_products
from bought_together.ingest.record_rules import (
    CONTROL_CHARACTER,
    RecordRejected,
    TooDeep,
    decode_record,
)
from bought_together.storage.filesystem import locate

RECORDS_SEEN = 200
NON_PRINTABLE = Reader.NON_PRINTABLE
BASKETS_SHOWN = 3
EXAMPLES = 3
# Letters and digits of names, most telling first; of the words of a role, an earlier one wins.
ROLES = {
    "order_id": (
        "orderid invoiceno invoiceid invoice invoicenumber transactionid ecommercetransactionid"
        " basketid orderno ordernumber ordername receiptid receiptno ticketid saleid order basket"
        " transaction bestellnr bestellnummer auftragsnr rechnungsnr belegnr commande facture"
        " name number id"
    ),
    "product_id": (
        "productid lineitemsku sku stockcode itemid itemcode productcode articleid variantid upc"
        " ean gtin asin item product artikelnr artikelnummer artikel article reference id"
    ),
    "quantity": "quantity lineitemquantity qty units menge anzahl quantite qte amount count",
    "date": (
        "createdat orderdate invoicedate datecreated transactiontimestamp transactiondt"
        " eventtimestamp eventdate timestamp datetime date processedat bestelldatum rechnungsdatum"
        " datum day time"
    ),
    "store": "storeid store shopid shop locationid location branch filiale magasin country",
    "name": (
        "productname title lineitemname itemname name description bezeichnung libelle label"
        " producttype"
    ),
    "category": (
        "categorycode category categoryid department aisleid aisle producttype type departmentid"
        " productcategory warengruppe kategorie categorie"
    ),
}
PACKED = {None: "", GZIP: "gzipped ", ZSTD: "Zstandard-compressed "}
ENDS_IN_ZERO = "numbers that all end in .0"
# An order id may be called so, and so may a product.
NAMES_OF_ANYTHING = ("name", "number", "id")
CANCELLED = ("cancelledat", "canceledat")
STATES = ("status", "orderstatus", "state", "financialstatus")
STATES_CANCELLED = ("cancelled", "canceled", "refunded", "voided", "failed")
DATE_FORMATS = (
    ISO,
    "%Y.%m.%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d",
    "%Y%m%d",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
)


class Sample(NamedTuple):
    """What the beginning of a file holds: fields by name, with the values seen in each.

    In JSON, `items` is the path of the list of lines, whose fields are `item_fields`, and `records`
    that of the list of records in a document.
    """

    file: InputFile
    head: bytes
    facts: str
    fields: dict[str, list[str]]
    items: str | None = None
    item_fields: dict[str, list[str]] | None = None
    options: dict[str, Any] | None = None
    records: str | None = None


def propose(paths: list[str]) -> str:
    """Return an input.yml for these files, as text; raises CannotRun when one cannot be read."""
    samples = [look_into(one) for one in inspect_files(paths)]
    comments = [line for sample in samples for line in describe_sample(sample)]
    content: dict[str, Any] = {}
    orders = max(filter(has_orders, samples), key=likely_orders, default=None)
    if orders:
        content["transactions"] = guess_orders(orders)
    sold = product_ids_of(orders) if orders else set()
    lists = [(sample, listing(sample, sold)) for sample in samples if sample is not orders]
    of_products, listed = next(filter(itemgetter(1), lists), (None, {}))
    if not listed and orders and not orders.items and (found := listing(orders, sold)):
        listed = {**found, "repeats": True}  # the order lines name their products
    if listed:
        content["products"] = listed
    if any(is_own_form(sample) for sample in samples):
        comments.append("These transactions are in the project's own form: they need no mapping.")
    elif not orders:
        comments += blank_mapping(samples[0])
    if not content:
        return as_comments(comments)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    mapping = parse_mapping(text, "the proposal")
    if orders and mapping.transactions:
        flattened = flatten_sample(orders, mapping.transactions)
        comments += warn_of_ids(orders, mapping.transactions)
        if of_products and mapping.products:
            comments += warn_of_unlisted(flattened, of_products, mapping.products)
        comments += show_baskets(flattened)
    return as_comments(comments) + text


def blank_mapping(sample: Sample) -> Iterator[str]:
    """Yield a mapping to complete, where the names of fields tell nothing."""
    yield "No fields look like an order id and a product id. Complete this mapping:"
    yield "transactions:"
    names = ", ".join([*sample.fields, *(sample.item_fields or {})][:20])
    guessed: dict[str, Any] = {"order_id": "...", "product_id": "...", **guess_orders(sample)}
    for name, value in guessed.items():
        yield f"  {name}: {value}" + (f"  (one of {names})" if value == "..." else "")


def product_ids_of(orders: Sample) -> set[str]:
    """Return the product ids that are seen in a file of orders."""
    fields = {**orders.fields, **(orders.item_fields or {})}
    return set(fields[guess_orders(orders)["product_id"]])


def likely_orders(sample: Sample) -> int:
    """Return how much of what orders have, and product lists have not, a file has."""
    found = guess_orders(sample)
    is_telling = simple(str(found.get("order_id", ""))) not in NAMES_OF_ANYTHING
    return is_telling + len({"items", "quantity", "date"} & found.keys())


def has_orders(sample: Sample) -> bool:
    return {"order_id", "product_id"} <= guess_orders(sample).keys()


def as_comments(lines: Iterable[str]) -> str:
    """Return lines as comments of YAML, which knows most characters."""
    known = (NON_PRINTABLE.sub(" ", CONTROL_CHARACTER.sub(" ", line)) for line in lines)
    return "".join(f"# {line}".rstrip() + "\n" for line in known)


def look_into(input_file: InputFile) -> Sample:
    """Return a sample of a file; raises CannotRun when it cannot be read."""
    if input_file.kind == "parquet":
        return look_into_parquet(input_file)
    head = first_bytes(input_file).removeprefix(BOM)
    if len(head) >= HEAD - len(BOM):
        head = head[: head.rfind(b"\n") + 1] or head
    packed = PACKED[input_file.compression]
    if input_file.kind == "json":
        return look_into_json(input_file, head, packed)
    return look_into_csv(input_file, head, packed)


def look_into_csv(input_file: InputFile, head: bytes, packed: str) -> Sample:
    options: dict[str, Any] = {}
    try:
        text = head.decode()
        encoding = "ASCII" if text.isascii() else "UTF-8"
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and error.start > len(head) - 4:
            text, encoding = head[: error.start].decode(), "UTF-8"
        else:
            text, encoding = head.decode("windows-1252", "replace"), "windows-1252"
            options["encoding"] = encoding
    delimiter, rows = most_columns(text)
    if delimiter != ",":
        options["delimiter"] = delimiter
    names = [name.strip() for name in rows[0]] if rows else []
    body = rows[1:]
    fields = {name: [row[place] for row in body] for place, name in enumerate(names)}
    facts = f"{packed}CSV, {encoding}, columns separated by {delimiter!r}"
    return Sample(input_file, head, facts, fields, options=options)


def most_columns(text: str) -> tuple[str, list[list[str]]]:
    """Return the delimiter that gives rows of one width the most columns, and these rows."""
    found = []
    for delimiter in DELIMITERS:
        rows = list(islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 2000))
        filled = [row for row in rows if row]
        width = len(filled[0]) if filled else 0
        fitting = [row for row in filled if len(row) == width]
        found.append((width * (len(fitting) > len(filled) // 2), delimiter, fitting))
    _, delimiter, rows = max(found, key=lambda one: one[0])
    return delimiter, rows


def look_into_parquet(input_file: InputFile) -> Sample:
    try:
        fs, name = locate(input_file.path)
        with fs.open(name, "rb") as source, pq.ParquetFile(source) as file:
            batch = next(file.iter_batches(RECORDS_SEEN), None)
            schema, count = file.schema_arrow, file.metadata.num_rows
    except parquet_errors() as error:
        raise unreadable(input_file.path, error) from error
    fields = {
        column.name: [
            "" if value is None else str(value)
            for value in (map(value_in, each_alone(batch.column(place))) if batch else [])
        ]
        for place, column in enumerate(schema)
        if not pa.types.is_nested(column.type)
    }
    types = ", ".join(f"{column.name} {column.type}" for column in schema)
    return Sample(input_file, b"", f"Parquet, {count:,} rows: {types}", fields)


def each_alone(column: pa.Array) -> Iterator[pa.Array]:
    return (column.slice(row, 1) for row in range(len(column)))


def look_into_json(input_file: InputFile, head: bytes, packed: str) -> Sample:
    """Return the sample of a JSON file; where its records are no orders, a list in them may be."""
    plain = sample_of_records(input_file, head, packed, None)
    if is_own_form(plain) or has_orders(plain) or input_file.is_array:
        return plain
    text = io.StringIO(head.decode("utf-8", "surrogateescape"))
    lists = {path: None for path, _, _ in lists_in_document(Characters(text))}
    inside = [sample_of_records(input_file, head, packed, path) for path in lists]
    found = [sample for sample in inside if has_orders(sample)]
    if not found and not listing(plain, set()):
        found = [sample for sample in inside if listing(sample, set())]
    return max(found, key=likely_orders, default=plain)


def sample_of_records(input_file: InputFile, head: bytes, packed: str, where: str | None) -> Sample:
    texts = sample_records(input_file, head, where)
    records = [record for record in texts if isinstance(record, dict)]
    lists = [path for record in records for path in lists_in(record)]
    items = max(set(lists), key=lambda path: (lists.count(path), -len(path)), default=None)
    fields = values_by_path(records)
    form = "one JSON array" if input_file.is_array else "JSON lines"
    if where:
        form = f"JSON, with records in {where}"
    lines = [item for record in records for item in items_at(record, items)] if items else []
    facts = f"{packed}{form}" + (f", with lines in {items}" if items else "")
    item_fields = values_by_path(lines) if items else None
    return Sample(input_file, head, facts, fields, items, item_fields, records=where)


def sample_records(input_file: InputFile, head: bytes, where: str | None) -> list[Any]:
    records = []
    for _, _, text in islice(texts_of(input_file, head, where), RECORDS_SEEN):
        try:
            records.append(decode_record(text))
        except (RecordRejected, TooDeep):
            continue
    return records


def texts_of(
    input_file: InputFile, head: bytes, where: str | None
) -> Iterator[tuple[int | None, int, bytes]]:
    """Yield the records of a head as `flatten_records` takes them; `where` is their list's path."""
    if not input_file.is_array and where is None:
        yield from numbered_lines(head, 0, 0)
        return
    plain = replace(input_file, compression=None, is_utf16=False)
    try:
        for number, text in array_elements(plain, head, where):
            yield None, number, text
    except CannotRun:  # the head ends in the middle of the list
        return


def lists_in(record: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield the paths of lists of objects in a record."""
    for name, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield before + name
        elif isinstance(value, dict):
            yield from lists_in(value, f"{before}{name}.")


def items_at(record: dict[str, Any], path: str) -> list[dict[str, Any]]:
    found = dig(record, path)
    return [] if found is MISSING else [each for each in found or [] if isinstance(each, dict)]


def values_by_path(records: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the single values of records by dotted path."""
    fields: dict[str, list[str]] = {}

    def add(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                add(inner, f"{path}.{name}" if path else name)
        elif not isinstance(value, list):
            fields.setdefault(path, []).append("" if value is None else str(value))

    for record in records:
        add(record, "")
    return fields


def is_own_form(sample: Sample) -> bool:
    return sample.items == "itemList" and "item" in (sample.item_fields or {})


def simple(name: str) -> str:
    """Return the letters and digits of a name, without accents."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", name).lower())


def field_for(role: str, fields: Iterable[str], taken: Iterable[str] = ()) -> str | None:
    """Return the field whose name tells most that it has this role."""
    words = ROLES[role].split()
    free = [name for name in fields if name not in set(taken)]
    # The last step of a path counts where the whole path is no word.
    for key in (simple, lambda name: simple(name.rsplit(".", 1)[-1])):
        ranked = [(words.index(key(name)), name) for name in free if key(name) in words]
        if ranked:
            return min(ranked)[1]
    return None


def guess_orders(sample: Sample) -> dict[str, Any]:
    """Return the mapping of transactions that a file's names suggest, as far as they do."""
    if is_own_form(sample):
        return {}
    inner = sample.fields if sample.item_fields is None else sample.item_fields
    product_id = field_for("product_id", inner)
    taken = [product_id] if product_id and sample.item_fields is None else []
    order_id = field_for("order_id", sample.fields, taken)
    quantity = field_for("quantity", inner)
    date = field_for("date", sample.fields)
    found: dict[str, Any] = {
        **(sample.options or {}),
        "decimal": decimal_of(inner[quantity]) if quantity else None,
        "records": sample.records,
        "order_id": order_id,
        "items": sample.items,
        "product_id": product_id,
        "quantity": quantity,
        "date": date,
        "store": field_for("store", sample.fields),
    }
    if date and (formats := formats_of(sample.fields[date])):
        found["date_formats"] = formats
    if condition := cancelled_by(sample.fields):
        found["cancelled"] = condition
    return {name: value for name, value in found.items() if value is not None}


def listing(sample: Sample, sold: set[str]) -> dict[str, Any]:
    """Return the mapping of a product list that a file's names suggest; empty without a name.

    The product id is the column with most ids that were `sold`, if there is one.
    """
    if is_own_form(sample):
        return {}
    common = {field: len(sold.intersection(values)) for field, values in sample.fields.items()}
    product_id = max(common, key=common.__getitem__, default=None)
    if not product_id or not common[product_id]:
        product_id = field_for("product_id", sample.fields)
    name = field_for("name", sample.fields, [product_id] if product_id else [])
    if not product_id or not name:
        return {}
    category = field_for("category", sample.fields, [product_id, name])
    found = {
        **(sample.options or {}),
        "records": sample.records,
        "product_id": product_id,
        "name": name,
        "category": category,
    }
    return {key: value for key, value in found.items() if value is not None}


def decimal_of(values: list[str]) -> str | None:
    """Return a comma where it is the decimal mark of numbers, and no mark of thousands."""
    filled = [value.strip() for value in values if value.strip()]
    with_comma = [value for value in filled if "," in value]
    if not with_comma or not all(re.fullmatch(r"[+-]?\d*(,\d+)?", value) for value in filled):
        return None
    thousands = all(re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", value) for value in with_comma)
    return None if thousands else ","


def cancelled_by(fields: dict[str, list[str]]) -> dict[str, Any] | None:
    for name, values in fields.items():
        if simple(name) in CANCELLED:
            return {"field": name}
        if simple(name) in STATES:
            values_cancelled = sorted({v for v in values if v.lower() in STATES_CANCELLED})
            return {"field": name, "values": values_cancelled or ["cancelled"]}
    return None


def formats_of(values: list[str]) -> list[str] | None:
    """Return the format of dates, where it is not ISO 8601 and every value has it."""
    texts = pa.array([value for value in values if value.strip()], pa.string())
    for one in DATE_FORMATS:
        if len(texts) and not parse_mapped_dates(texts, (one,)).null_count:
            return None if one == ISO else [one]
    return None


def describe_sample(sample: Sample) -> Iterator[str]:
    """Yield what was seen in a file, a line each."""
    yield f"{sample.file.printable_path}: {sample.facts}"
    in_lines = f"{sample.items}[]."
    for before, fields in (("", sample.fields), (in_lines, sample.item_fields or {})):
        for name, values in fields.items():
            filled = [value for value in values if value.strip()]
            examples = ", ".join(dict.fromkeys(value[:40] for value in filled[:50]))
            shown = ", ".join(examples.split(", ")[:EXAMPLES])
            yield f"  {before}{name}: {kind_of_values(filled)}{', e.g. ' + shown if shown else ''}"


def kind_of_values(values: list[str]) -> str:
    if not values:
        return "empty"
    if all(re.fullmatch(r"-?\d+\.0", value) for value in values):
        return ENDS_IN_ZERO
    if all(re.fullmatch(r"-?\d+", value) for value in values):
        widths = {len(value) for value in values}
        padded = any(value.startswith("0") and len(value) > 1 for value in values)
        if padded:
            return "digits, with leading zeros"
        return "whole numbers" + (", of several lengths" if len(widths) > 1 else "")
    if all(re.fullmatch(r"-?\d*\.?\d+(?:[eE][+-]?\d+)?", value) for value in values):
        return "numbers"
    if decimal_of(values):
        return "numbers with a decimal comma"
    return "text"


def warn_of_ids(sample: Sample, mapping: OrderMapping) -> Iterator[str]:
    """Yield what is wrong with ids that a tool took for numbers."""
    fields = {**sample.fields, **(sample.item_fields or {})}
    for field in (*mapping.order_id, mapping.product_id):
        values = [value for value in fields.get(str(field), []) if value.strip()]
        if kind_of_values(values) == ENDS_IN_ZERO:
            yield (
                f"The ids in {field} end in .0: a tool took them for numbers, and zeros in front"
                " are lost. Export them as text."
            )


def warn_of_unlisted(
    flattened: Flattened, of_products: Sample, mapping: ProductMapping
) -> Iterator[str]:
    """Yield which share of the lines is of products that the list does not name, and why maybe."""
    try:
        products, _, _ = read_products([of_products.file.path], mapping)
    except (CannotRun, Refused) as error:
        yield f"The product list cannot be used: {error}"
        return
    listed = set(products["product_id"].to_pylist())
    sold = [one for table in flattened.line_items for one in table["product_id"].to_pylist()]
    unlisted = [one for one in sold if one not in listed]
    if not unlisted:
        return
    first = unlisted[0]
    yield (
        f"Of the lines seen, {len(unlisted) / len(sold):.1%} are of products that"
        f" {of_products.file.printable_path} does not name, such as {first}."
    )
    with_zeros = {one.lstrip("0"): one for one in listed if one.startswith("0")}
    without_zeros = [one for one in unlisted if one in with_zeros]
    if without_zeros:
        one = without_zeros[0]
        yield (
            f"The list has {with_zeros[one]} where these have {one}: a tool took the ids for"
            " numbers, and zeros in front are lost. Export them as text."
        )


def show_baskets(flattened: Flattened) -> Iterator[str]:
    """Yield the first baskets of a file as the mapping reads them, a line each."""
    baskets: dict[str, list[str]] = {}
    for table in flattened.line_items:
        for row in table.slice(0, HEAD).to_pylist():
            key = str(row.get("order_key", row["order_id"])).replace(SEPARATOR, " ")
            if key not in baskets and len(baskets) == BASKETS_SHOWN:
                continue
            units = "" if row["quantity"] is None else f"{row['quantity']:g} x "
            baskets.setdefault(key, []).append(units + row["product_id"])
    yield "The first baskets, as this mapping reads them:"
    for key, items in baskets.items():
        yield f"  {key}: {', '.join(items[:8])}{', …' if len(items) > 8 else ''}"
    if flattened.rejects:
        count = len(flattened.rejects)
        yield f"  and {count:,} set aside, the first because: {flattened.rejects[0]['reason']}"


def flatten_sample(sample: Sample, mapping: OrderMapping) -> Flattened:
    found = Flattened()
    if sample.file.kind == "parquet":
        parts = flatten_parquet(ByteRange(sample.file, 0, sample.file.size), None, mapping)
        found.add(next(parts, Flattened()))
    elif sample.file.kind == "csv":
        size = len(sample.head)
        plain = replace(sample.file, compression=None, is_utf16=False, size=size)
        try:
            for part in flatten_csv(ByteRange(plain, 0, size), HEAD, sample.head, mapping):
                found.add(part)
        except CannotRun:  # the head ends inside quotes
            pass
    else:
        found.add(
            flatten_records(list(texts_of(sample.file, sample.head, sample.records)), 0, mapping)
        )
    return found
