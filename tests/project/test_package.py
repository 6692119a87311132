"""The package's rooms: no import runs upwards or in a circle, and the programs are above it."""

import ast
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT


def test_imports_keep_to_the_layers_of_pyproject() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    finished = subprocess.run(
        [lint, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "2 kept, 0 broken" in finished.stdout


def test_the_package_knows_nothing_above_it() -> None:
    above = {"scripts", "tests", "benchmarks", "deploy"}
    for path in (ROOT / "bought_together").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            assert not above & {name.partition(".")[0] for name in names}, path
