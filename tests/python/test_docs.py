"""What the README and docs show is what the programs print, and nothing is left undocumented."""

import re
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, Shop
from flatten import main as flatten_command

README = (ROOT / "README.md").read_text()


def console_examples() -> dict[str, str]:
    """Return command -> output of the README's console blocks."""
    blocks = re.findall(r"```console\n\$ (.*?)\n(.*?)```", README, re.DOTALL)
    return dict(blocks)


def settle(text: str) -> str:
    """Take out what differs from run to run: durations, and blank lines at the ends."""
    return re.sub(r"\d+\.\d s\b", "N s", text).strip()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, dbt_folder: Path) -> Shop:
    """The sample, built by `make build` into a folder of the test's own."""
    return Shop(tmp_path_factory.mktemp("sample"), dbt_folder)


def make(sample: Shop, *arguments: str) -> str:
    """Run make on the sample inputs; the lake and warehouse show up under the default paths."""
    environment = sample.environment()
    del environment["TRANSACTIONS"], environment["PRODUCTS"]
    command = ["make", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.replace(f"{sample.folder}/", "data/")


def test_build_and_lookup_print_what_the_readme_shows(sample: Shop) -> None:
    examples = console_examples()
    assert set(examples) == {"make build", "make lookup PRODUCT=5010"}
    printed = make(sample, "build")
    assert settle(printed).endswith(settle(examples["make build"]))
    assert settle(make(sample, "lookup", "PRODUCT=5010")) == settle(
        examples["make lookup PRODUCT=5010"]
    )


def test_query_of_the_readme_gives_its_table(sample: Shop) -> None:
    query, table = re.search(r"```sql\n(.*?)```\n\n(.*?)\n\n", README, re.DOTALL).groups()
    shown = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    found = [[str(value) for value in row] for row in sample.query(query)]
    assert found == [[cell.strip() for cell in row] for row in shown]


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "data/README.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_model_is_in_the_picture() -> None:
    for model in (ROOT / "models").rglob("*.sql"):
        assert model.stem in README


def test_every_reason_for_a_reject_is_documented() -> None:
    documented = (ROOT / "docs/input.md").read_text()
    sources = "".join(
        (ROOT / "scripts" / name).read_text() for name in ("records.py", "blocks.py", "products.py")
    )
    reasons = re.findall(r'"((?:record|line|product): [^"{]+)"', sources)
    assert len(reasons) > 10
    for reason in reasons:
        assert f"`{reason}`" in documented


def test_every_setting_is_documented() -> None:
    settings = {option.envvar for option in flatten_command.params if option.envvar}
    settings |= {"DUCKDB_PATH", "DUCKDB_THREADS", "DUCKDB_MEMORY_LIMIT", "PAIR_ENGINE"}
    for setting in settings:
        assert f"`{setting}`" in README
