"""Fixtures of all tests; what they need is imported late, since some tests run without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.shop import Shop


@pytest.fixture(scope="session")
def dbt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dbt")


@pytest.fixture
def shop(tmp_path: Path, dbt_folder: Path) -> Shop:
    from tests.support.shop import Shop

    return Shop(tmp_path, dbt_folder)
