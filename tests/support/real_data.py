"""The real data sets, which are not in this repository."""

import os
from pathlib import Path

import pytest


def real(data_set: str, name: str) -> Path:
    """Return a file of a data set; skips the test, saying why, when there is none."""
    folder = os.environ.get("REAL_DATA_DIR")
    if not folder:
        pytest.skip("REAL_DATA_DIR is not set: it names the folder with the real data sets")
    return Path(folder) / data_set / name
