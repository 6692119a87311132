"""A name means one thing: no public name is defined in two modules of the package."""

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.support import ROOT

# What a framework or a program calls by that name, in every module that has one.
ROLES = {"Plugin", "main", "router"}


def defined(tree: ast.Module) -> Iterator[str]:
    """Yield the public classes, functions and constants at the top level of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_") and name not in ROLES)


def test_no_public_name_is_defined_twice() -> None:
    places = defaultdict(set)
    for path in sorted((ROOT / "bought_together").rglob("*.py")):
        for name in defined(ast.parse(path.read_text())):
            places[name].add(str(path.relative_to(ROOT)))
    assert {name: sorted(found) for name, found in places.items() if len(found) > 1} == {}
