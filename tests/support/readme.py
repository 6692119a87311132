"""The examples in README.md."""

import re

from tests.support import ROOT

README = (ROOT / "README.md").read_text()
EXAMPLE_PATH = "/v1/products/5010/recommendations?limit=1"
REQUEST = f"curl '127.0.0.1:8000{EXAMPLE_PATH}'"


def console_examples() -> dict[str, str]:
    """Return command -> output of the console blocks."""
    blocks = re.findall(r"```console\n\$ (.*?)\n(.*?)```", README, re.DOTALL)
    return dict(blocks)


def example_answer() -> str:
    """Return what the service answers to EXAMPLE_PATH."""
    return console_examples()[REQUEST].strip()
