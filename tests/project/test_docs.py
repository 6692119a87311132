"""What the README and docs show is what the programs print, and nothing is left undocumented."""

import importlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.readme import (
    EXAMPLE_PATH,
    README,
    REQUEST,
    console_examples,
    example_answer,
)
from tests.support.service import running
from tests.support.shop import SETTINGS, Shop


def settle(text: str) -> str:
    """Take out what differs from run to run: durations, the id of the build, blank ends."""
    text = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{8}", "BUILD", text)
    return re.sub(r"\d+\.\d s\b", "N s", text).strip()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, dbt_folder: Path) -> Shop:
    """A shop for the sample's lake and warehouse, in a folder of the test's own."""
    return Shop(tmp_path_factory.mktemp("sample"), dbt_folder)


@pytest.fixture(scope="module")
def printed(sample: Shop) -> str:
    """What `make build` prints of the sample, once it is built."""
    return make(sample, "build")


def make(sample: Shop, *arguments: str) -> str:
    """Run make on the sample inputs; the lake and warehouse show up under the default paths."""
    environment = sample.environment()
    del environment["TRANSACTIONS"], environment["PRODUCTS"]
    command = ["make", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(f"{sample.folder}/", "data/")


def test_build_and_lookup_print_what_the_readme_shows(sample: Shop, printed: str) -> None:
    examples = console_examples()
    assert list(examples) == ["make lookup PRODUCT=5010", "make build", REQUEST]
    assert settle(printed).endswith(settle(examples["make build"]))
    assert settle(make(sample, "lookup", "PRODUCT=5010")) == settle(
        examples["make lookup PRODUCT=5010"]
    )


@pytest.mark.usefixtures("printed")
def test_request_of_the_readme_gives_its_answer(sample: Shop) -> None:
    with running(sample) as service:
        service.wait_for(200)
        answer = service.get(EXAMPLE_PATH)[2]
    assert answer == json.loads(example_answer())


@pytest.mark.usefixtures("printed")
def test_baskets_of_the_service_page_are_answered_as_it_shows(sample: Shop) -> None:
    page = (ROOT / "docs/service.md").read_text()
    examples = re.findall(r"```console\n\$ (.*?)\n(.*?)```", page, re.DOTALL)
    (request, answer), (lookup, text) = examples
    (path,) = re.findall(r"^curl '127.0.0.1:8000(/\S+)'$", request)
    with running(sample) as service:
        service.wait_for(200)
        assert service.get(path)[2] == json.loads(answer)
    program, *arguments = lookup.removeprefix("python scripts/").split()
    shown = sample.run(program.removesuffix(".py"), *arguments)
    assert shown.stdout.strip() == text.strip()


@pytest.mark.usefixtures("printed")
def test_query_of_the_readme_gives_its_table(sample: Shop) -> None:
    query, table = re.search(r"```sql\n(.*?)```\n\n(.*?)\n\n", README, re.DOTALL).groups()
    shown = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    found = [[str(value) for value in row] for row in sample.query(query)]
    assert found == [[cell.strip() for cell in row] for row in shown]


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_links_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), ROOT / "data/README.md"]
    for page in [*pages, *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").glob("*/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            is_here = target.startswith("https://") or (page.parent / target).exists()
            assert is_here, f"{page.name}: {target}"


def test_pictures_show_every_mart_and_every_model() -> None:
    architecture = (ROOT / "docs/architecture.md").read_text()
    for model in (ROOT / "models").rglob("*.sql"):
        is_mart = not model.stem.startswith(("stg_", "int_"))
        assert model.stem in architecture and (not is_mart or model.stem in README), model.stem


def test_architecture_names_every_room_and_files_that_exist() -> None:
    architecture = (ROOT / "docs/architecture.md").read_text()
    for module in (ROOT / "bought_together").iterdir():
        if module.suffix == ".py" or (module / "__init__.py").exists():
            assert module.stem == "__init__" or f"`{module.stem}`" in architecture, module.name
    for path in re.findall(
        r"`((?:bought_together|models|scripts|tests)/[\w/.]+\.\w+)`", architecture
    ):
        assert (ROOT / path).exists(), path


def test_every_reason_for_a_reject_is_documented() -> None:
    documented = (ROOT / "docs/input.md").read_text()
    sources = "".join(
        (ROOT / f"bought_together/ingest/{name}.py").read_text()
        for name in (
            "record_rules",
            "blocks",
            "products",
            "order_lines",
            "csv_rows",
            "mapped_records",
        )
    )
    reasons = re.findall(r'"((?:record|line|product): [^"{]+)"', sources)
    assert len(reasons) > 10
    for reason in reasons:
        assert f"`{reason}`" in documented


def settings_of_make() -> set[str]:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (names,) = re.findall(r"^SETTINGS := (.*)$", makefile, re.MULTILINE)
    return set(names.split())


def test_every_setting_is_documented() -> None:
    arguments = {
        "PRODUCT",
        "BUILD",
        "SIZE",
        "FILES",
    }  # of one target of make each, shown by its help
    settings = settings_of_make() - arguments
    assert len(settings) > 15
    for setting in settings:
        assert f"`{setting}`" in README, setting


def test_make_passes_on_every_setting_of_the_programs() -> None:
    """But SERVICE_URL, which only the smoke test reads: no target of make runs it."""
    programs = [path.stem for path in (ROOT / "scripts").glob("*.py")]
    options = {
        option.envvar
        for name in programs
        for option in importlib.import_module(f"scripts.{name}").main.params
        if option.envvar
    }
    assert options - settings_of_make() == {"SERVICE_URL"}
    assert set(SETTINGS) - settings_of_make() == {"SERVICE_URL"}
    in_dbt = (ROOT / "dbt_project.yml").read_text() + (ROOT / "profiles.yml").read_text()
    assert set(re.findall(r"env_var\('(\w+)'", in_dbt)) <= settings_of_make()
