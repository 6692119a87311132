"""The tests keep to their rooms: what several share is in tests/support or in a conftest.py."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

TESTS = ROOT / "tests"


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = f"{'.' * node.level}{node.module or ''}"
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_tests_import_from_support_alone() -> None:
    """Not from another test, whose fixtures and settings would come along, nor from a conftest."""
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in TESTS.rglob("*.py")
        for name in imported(path)
        if name.startswith((".", "tests.", "conftest")) and not name.startswith("tests.support")
    }
    assert found == set()


def test_no_rule_is_switched_off_for_a_fixture() -> None:
    found = [path for path in TESTS.rglob("*.py") if "# no" + "qa" in path.read_text()]
    assert found == []
