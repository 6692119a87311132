"""Exit statuses tell data that were refused from a program that broke."""

import subprocess
import sys


def test_what_nobody_expected_is_not_taken_for_refused_data():
    program = "from bought_together import errors; errors.run(lambda: 1 / 0)"
    finished = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 70
    assert finished.stderr.endswith("ZeroDivisionError: division by zero\n")
