"""Fixtures of several rooms; what they need is imported late, since some rooms run without it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.shop import Shop
    from tests.support.valkey import Valkey


@pytest.fixture(scope="session")
def dbt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dbt")


@pytest.fixture
def shop(tmp_path: Path, dbt_folder: Path) -> Shop:
    from tests.support.shop import Shop

    return Shop(tmp_path, dbt_folder)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    from tests.support.valkey import Valkey

    folder = tmp_path / "valkey"
    folder.mkdir()
    valkey = Valkey(folder)
    valkey.start()
    yield valkey
    valkey.stop(signal.SIGKILL)
