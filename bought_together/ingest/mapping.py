"""Read `input.yml`, the mapping that says where another shop's exports say what, and check it."""

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from bought_together.errors import CannotRun
from bought_together.ingest.patterns import unreadable
from bought_together.storage.filesystem import locate, storage_errors

SCHEMA = Path(__file__).with_name("input.schema.json")
# A column by its name or its number, counted from 1; in JSON a dotted path.
FieldName = str | int


@dataclass(frozen=True)
class Condition:
    """What a field holds: one of `values`, a text that `starts_with`, or by default anything."""

    field: FieldName
    values: tuple[str, ...] = ()
    starts_with: str | None = None

    def holds(self, text: str | None) -> bool:
        if not text:
            return False
        if self.values:
            return text in self.values
        return self.starts_with is None or text.startswith(self.starts_with)


@dataclass(frozen=True)
class OrderMapping:
    """Where transactions say what; see docs/input.md."""

    product_id: FieldName
    format: str | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    header: bool = True
    decimal: str = "."
    records: str | None = None
    order_id: tuple[FieldName, ...] = ()
    items: str | None = None
    quantity: FieldName | None = None
    date: FieldName | None = None
    date_formats: tuple[str, ...] = ("iso",)
    store: FieldName | None = None
    cancelled: Condition | None = None
    only: Condition | None = None

    @property
    def fields(self) -> list[FieldName]:
        """Return every field that is read, each once."""
        conditions = [one.field for one in (self.cancelled, self.only) if one]
        others = (self.product_id, self.quantity, self.date, self.store)
        named = [*self.order_id, *others, *conditions]
        return list(dict.fromkeys(field for field in named if field is not None))

    @property
    def orders(self) -> str | None:
        """Return what an order id stands in: whole "records" or single "lines"; None without."""
        if not self.order_id:
            return None
        return "records" if self.items else "lines"


@dataclass(frozen=True)
class ProductMapping:
    """Where the product list says what; an id that `repeats` is no reject."""

    product_id: FieldName
    format: str | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    header: bool = True
    records: str | None = None
    category: FieldName | None = None
    name: FieldName | None = None
    repeats: bool = False

    @property
    def fields(self) -> list[FieldName]:
        """Return every field that is read, each once."""
        named = (self.product_id, self.category, self.name)
        return list(dict.fromkeys(field for field in named if field is not None))


@dataclass(frozen=True)
class InputMapping:
    """The mapping of an `input.yml`; a part that is None has the project's own form."""

    path: str
    transactions: OrderMapping | None = None
    products: ProductMapping | None = None

    @property
    def orders(self) -> str | None:
        return self.transactions.orders if self.transactions else None

    def remembered(self) -> dict[str, Any] | None:
        """Return what decides how transactions are flattened, as JSON has it."""
        return json.loads(json.dumps(asdict(self.transactions))) if self.transactions else None


def read_mapping(path: str | None) -> InputMapping | None:
    """Return the mapping in this file; None without a path.

    Raises CannotRun, which names the line, when the file is no mapping.
    """
    if not path:
        return None
    try:
        fs, name = locate(path)
        text = fs.cat_file(name)
    except storage_errors() as error:
        raise unreadable(path, error) from error
    return parse_mapping(text, path)


def parse_mapping(text: bytes | str, path: str) -> InputMapping:
    """Return the mapping in this text of YAML; `path` is for messages."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise CannotRun(f"{path}, line {line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CannotRun(f"{path} is not YAML: {error}") from error
    check_unique(root, path)
    check_schema(content, root, path)
    orders, products = content.get("transactions"), content.get("products")
    mapping = InputMapping(
        path,
        OrderMapping(**as_order_fields(orders)) if orders else None,
        ProductMapping(**products) if products else None,
    )
    check_sense(mapping, content, root)
    return mapping


def as_order_fields(content: dict[str, Any]) -> dict[str, Any]:
    fields = dict(content)
    if "order_id" in fields:
        order_id = fields["order_id"]
        fields["order_id"] = tuple(order_id) if isinstance(order_id, list) else (order_id,)
    if "date_formats" in fields:
        fields["date_formats"] = tuple(fields["date_formats"])
    for name in ("cancelled", "only"):
        if name in fields:
            values = tuple(map(as_written, fields[name].get("values", ())))
            fields[name] = Condition(**{**fields[name], "values": values})
    return fields


def as_written(value: Any) -> str:
    """Return a value of YAML as JSON or a table has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_schema(content: Any, root: yaml.Node | None, path: str) -> None:
    """Raise CannotRun, which names the line, unless the content is that of the schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    error = best_match(validator.iter_errors(content))
    if error is not None:
        place = list(error.absolute_path)
        # Where a name is not known, the line is its own.
        unknown = [name for name in places_below(content, place) if f"'{name}'" in error.message]
        if error.validator == "additionalProperties" and unknown:
            place.append(unknown[0])
        where = ".".join(map(str, error.absolute_path))
        raise CannotRun(
            f"{path}, line {line_of(root, place)}: {where + ': ' if where else ''}{error.message}"
        )


def places_below(content: Any, place: Iterable[Any]) -> list[Any]:
    for step in place:
        content = content[step]
    return list(content) if isinstance(content, dict) else []


def check_unique(node: yaml.Node | None, path: str) -> None:
    """Raise CannotRun where a name is there twice: YAML would silently take the last."""
    for mapping in mappings_in(node):
        seen: set[str] = set()
        for key, _ in mapping.value:
            if key.value in seen:
                raise CannotRun(f"{path}, line {key.start_mark.line + 1}: {key.value} twice")
            seen.add(key.value)


def mappings_in(node: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from mappings_in(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from mappings_in(value)


def check_sense(mapping: InputMapping, content: dict[str, Any], root: yaml.Node | None) -> None:
    """Raise CannotRun, which names the line, where fields contradict one another."""
    for part in ("transactions", "products"):
        encoding = content.get(part, {}).get("encoding", "utf-8")
        try:
            codecs.lookup(encoding)
        except LookupError:
            line = line_of(root, [part, "encoding"])
            raise CannotRun(
                f"{mapping.path}, line {line}: no encoding is called {encoding}"
            ) from None
    orders = mapping.transactions
    if orders and not orders.order_id and (not orders.items or orders.format in ("csv", "parquet")):
        raise CannotRun(
            f"{mapping.path}, line {line_of(root, ['transactions'])}: order_id is missing, without"
            " which lines make no basket; only JSON records with `items` need none"
        )


def line_of(node: yaml.Node | None, place: Iterable[Any]) -> int:
    """Return the line, from 1, of what stands at a place in YAML, or of the nearest above it."""
    line = node.start_mark.line if node else 0
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(step)]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line
        else:
            break
    return line + 1
